//! The function that Nexmark's query 14 calls, under the name of its Java class. Knows no query.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, Int64Array};
use flott_core::function::{Function, ScalarFunction, Signature};
use flott_core::registry::Registry;
use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};

/// The class of the original.
const COUNT_CHAR: &str = "com.github.nexmark.flink.udf.CountChar";

/// Makes the function known.
pub(crate) fn register(registry: &mut Registry) {
    registry.register_function(COUNT_CHAR, Function::Scalar(Arc::new(CountChar)));
}

/// How often the first character of one text is in another; 0 for NULL.
struct CountChar;

impl ScalarFunction for CountChar {
    fn bind(&self, args: &[DataType]) -> Result<Signature> {
        match args {
            [_, _] => Ok(Signature {
                args: vec![TypeKind::STRING.nullable(), TypeKind::STRING.nullable()],
                result: TypeKind::BigInt.not_null(),
            }),
            _ => Err(Error::user("sql.function", "two texts are needed: one to search, and a character")),
        }
    }

    fn evaluate(&self, args: &[ArrayRef], _: usize) -> Result<ArrayRef> {
        let (texts, characters) = (args[0].as_string::<i32>(), args[1].as_string::<i32>());
        let count = |(text, character): (Option<&str>, Option<&str>)| {
            let wanted = character.and_then(|c| c.as_bytes().first().copied());
            let bytes = text.unwrap_or_default().as_bytes();
            wanted.map_or(0, |w| i64::try_from(memchr::memchr_iter(w, bytes).count()).unwrap_or(i64::MAX))
        };
        Ok(Arc::new(Int64Array::from_iter_values(texts.iter().zip(characters.iter()).map(count))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::StringArray;

    #[test]
    fn counts_bytes_equal_to_the_first() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("abcac"), Some(""), None, Some("xyz")]));
        let characters: ArrayRef = Arc::new(StringArray::from(vec![Some("c"), Some("c"), Some("c"), Some("")]));
        let counts = CountChar.evaluate(&[texts, characters], 4).expect("counted");
        assert_eq!(counts.as_primitive::<arrow_array::types::Int64Type>().values(), &[2, 0, 0, 0]);
    }
}
