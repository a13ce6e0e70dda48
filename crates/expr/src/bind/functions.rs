//! The table of functions with fixed parameters, and the lookup with its "did you mean"; functions whose types depend on arguments are in `special`.

use std::sync::LazyLock;

use flott_core::types::{DataType, TypeKind};
use flott_core::{Error, Result};
use flott_plan::expr::{Expr, ExprKind, Literal};

use crate::kernels::{constant_text, is_regexp};

use super::{any_nullable, collection, implicit_cast, json, mismatch, special, variadic};

/// What a parameter takes.
#[derive(Clone, Copy)]
enum P {
    /// CHAR or VARCHAR.
    Str,
    /// BINARY or VARBINARY.
    Bytes,
    /// CHAR, VARCHAR, BINARY or VARBINARY, as it is.
    Any,
    /// An integer, cast to INT.
    Int,
    /// An integer, cast to BIGINT.
    Big,
    /// Any number, cast to DOUBLE.
    Double,
    /// BOOLEAN.
    Bool,
    /// CHAR or VARCHAR, or the code of a character.
    Separator,
    /// DATE or a timestamp; a string is read as TIMESTAMP(3).
    Time,
}

/// When the result can be NULL.
#[derive(Clone, Copy)]
enum Nulls {
    /// When an argument can.
    Args,
    /// Also for arguments that are not NULL.
    Always,
    /// Never.
    Never,
}

/// One function: names (the first is canonical), parameters, how many of them are required, result, nullability, whether the last repeats.
struct Function {
    names: &'static [&'static str],
    params: &'static [P],
    required: usize,
    repeats: bool,
    result: TypeKind,
    nulls: Nulls,
}

const fn f(
    names: &'static [&'static str],
    params: &'static [P],
    required: usize,
    result: TypeKind,
    nulls: Nulls,
) -> Function {
    Function { names, params, required, repeats: false, result, nulls }
}

const fn repeating(
    names: &'static [&'static str],
    params: &'static [P],
    required: usize,
    result: TypeKind,
) -> Function {
    Function { names, params, required, repeats: true, result, nulls: Nulls::Args }
}

use P::{Any, Big, Bool, Bytes, Double, Int, Separator, Str, Time};
use TypeKind::{BigInt, Boolean, Char};

const STRING: TypeKind = TypeKind::STRING;

/// ARRAY<STRING>
fn texts() -> TypeKind {
    TypeKind::Array(Box::new(STRING.nullable()))
}

static FUNCTIONS: LazyLock<Vec<Function>> = LazyLock::new(|| {
    vec![
        f(&["AND"], &[Bool, Bool], 2, Boolean, Nulls::Args),
        f(&["OR"], &[Bool, Bool], 2, Boolean, Nulls::Args),
        f(&["NOT"], &[Bool], 1, Boolean, Nulls::Args),
        f(&["IS TRUE"], &[Bool], 1, Boolean, Nulls::Never),
        f(&["IS NOT TRUE"], &[Bool], 1, Boolean, Nulls::Never),
        f(&["IS FALSE"], &[Bool], 1, Boolean, Nulls::Never),
        f(&["IS NOT FALSE"], &[Bool], 1, Boolean, Nulls::Never),
        f(&["IS UNKNOWN"], &[Bool], 1, Boolean, Nulls::Never),
        f(&["IS NOT UNKNOWN"], &[Bool], 1, Boolean, Nulls::Never),
        f(&["POWER"], &[Double, Double], 2, TypeKind::Double, Nulls::Args),
        f(&["SQRT"], &[Double], 1, TypeKind::Double, Nulls::Args),
        f(&["EXP"], &[Double], 1, TypeKind::Double, Nulls::Args),
        f(&["LN"], &[Double], 1, TypeKind::Double, Nulls::Args),
        f(&["LOG"], &[Double, Double], 1, TypeKind::Double, Nulls::Args),
        f(&["LOG10"], &[Double], 1, TypeKind::Double, Nulls::Args),
        f(&["LOG2"], &[Double], 1, TypeKind::Double, Nulls::Args),
        f(&["SIN"], &[Double], 1, TypeKind::Double, Nulls::Args),
        f(&["COS"], &[Double], 1, TypeKind::Double, Nulls::Args),
        f(&["TAN"], &[Double], 1, TypeKind::Double, Nulls::Args),
        f(&["COT"], &[Double], 1, TypeKind::Double, Nulls::Args),
        f(&["SINH"], &[Double], 1, TypeKind::Double, Nulls::Args),
        f(&["COSH"], &[Double], 1, TypeKind::Double, Nulls::Args),
        f(&["TANH"], &[Double], 1, TypeKind::Double, Nulls::Args),
        f(&["ASIN"], &[Double], 1, TypeKind::Double, Nulls::Args),
        f(&["ACOS"], &[Double], 1, TypeKind::Double, Nulls::Args),
        f(&["ATAN"], &[Double], 1, TypeKind::Double, Nulls::Args),
        f(&["ATAN2"], &[Double, Double], 2, TypeKind::Double, Nulls::Args),
        f(&["DEGREES"], &[Double], 1, TypeKind::Double, Nulls::Args),
        f(&["RADIANS"], &[Double], 1, TypeKind::Double, Nulls::Args),
        f(&["PI"], &[], 0, TypeKind::Double, Nulls::Never),
        f(&["E"], &[], 0, TypeKind::Double, Nulls::Never),
        f(&["RAND"], &[Int], 0, TypeKind::Double, Nulls::Args),
        f(&["RAND_INTEGER"], &[Int, Int], 1, TypeKind::Int, Nulls::Args),
        f(&["UUID"], &[], 0, Char(36), Nulls::Never),
        f(&["BIN"], &[Big], 1, STRING, Nulls::Args),
        f(&["LIKE"], &[Str, Str, Str], 2, Boolean, Nulls::Args),
        f(&["NOT LIKE"], &[Str, Str, Str], 2, Boolean, Nulls::Args),
        f(&["SIMILAR TO"], &[Str, Str, Str], 2, Boolean, Nulls::Args),
        f(&["NOT SIMILAR TO"], &[Str, Str, Str], 2, Boolean, Nulls::Args),
        f(&["TRANSLATE"], &[Str, Str, Str], 3, STRING, Nulls::Args),
        f(&["SPLIT"], &[Str, Str], 2, texts(), Nulls::Args),
        f(
            &["STR_TO_MAP"],
            &[Str, Str, Str],
            1,
            TypeKind::Map(Box::new(STRING.nullable()), Box::new(STRING.nullable())),
            Nulls::Always,
        ),
        f(&["IS_ALPHA"], &[Str], 1, Boolean, Nulls::Never),
        f(&["IS_DIGIT"], &[Str], 1, Boolean, Nulls::Never),
        f(&["IS_DECIMAL"], &[Str], 1, Boolean, Nulls::Never),
        f(&["ENCODE"], &[Str, Str], 2, TypeKind::BYTES, Nulls::Args),
        f(&["DECODE"], &[Bytes, Str], 2, STRING, Nulls::Args),
        f(&["TO_BASE64"], &[Any], 1, STRING, Nulls::Args),
        f(&["FROM_BASE64"], &[Str], 1, STRING, Nulls::Always),
        f(&["UNHEX"], &[Str], 1, TypeKind::BYTES, Nulls::Always),
        f(&["URL_ENCODE"], &[Str], 1, STRING, Nulls::Always),
        f(&["URL_DECODE"], &[Str], 1, STRING, Nulls::Always),
        f(&["INET_ATON"], &[Str], 1, BigInt, Nulls::Always),
        f(&["INET_NTOA"], &[Big], 1, STRING, Nulls::Always),
        f(&["PARSE_URL"], &[Str, Str, Str], 2, STRING, Nulls::Always),
        f(&["MD5"], &[Str], 1, Char(32), Nulls::Args),
        f(&["SHA1"], &[Str], 1, Char(40), Nulls::Args),
        f(&["SHA224"], &[Str], 1, Char(56), Nulls::Args),
        f(&["SHA256"], &[Str], 1, Char(64), Nulls::Args),
        f(&["SHA384"], &[Str], 1, Char(96), Nulls::Args),
        f(&["SHA512"], &[Str], 1, Char(128), Nulls::Args),
        f(&["SHA2"], &[Str, Int], 2, TypeKind::VarChar(128), Nulls::Args),
        f(&["UPPER"], &[Str], 1, STRING, Nulls::Args),
        f(&["LOWER"], &[Str], 1, STRING, Nulls::Args),
        f(&["INITCAP"], &[Str], 1, STRING, Nulls::Args),
        f(&["REVERSE"], &[Str], 1, STRING, Nulls::Always),
        f(&["CHAR_LENGTH", "CHARACTER_LENGTH", "LENGTH"], &[Str], 1, TypeKind::Int, Nulls::Args),
        f(&["OCTET_LENGTH"], &[Str], 1, TypeKind::Int, Nulls::Args),
        f(&["ASCII"], &[Str], 1, TypeKind::Int, Nulls::Args),
        f(&["CHR"], &[Big], 1, STRING, Nulls::Always),
        f(&["SUBSTRING", "SUBSTR"], &[Str, Int, Int], 2, STRING, Nulls::Args),
        f(&["TRIM", "BTRIM"], &[Str, Str], 1, STRING, Nulls::Args),
        f(&["LTRIM"], &[Str, Str], 1, STRING, Nulls::Args),
        f(&["RTRIM"], &[Str, Str], 1, STRING, Nulls::Args),
        f(&["POSITION"], &[Str, Str], 2, TypeKind::Int, Nulls::Args),
        f(&["LOCATE"], &[Str, Str, Int], 2, TypeKind::Int, Nulls::Args),
        f(&["INSTR"], &[Str, Str], 2, TypeKind::Int, Nulls::Args),
        f(&["REPLACE"], &[Str, Str, Str], 3, STRING, Nulls::Args),
        f(&["OVERLAY"], &[Str, Str, Int, Int], 3, STRING, Nulls::Args),
        f(&["REPEAT"], &[Str, Int], 2, STRING, Nulls::Args),
        f(&["LPAD"], &[Str, Int, Str], 3, STRING, Nulls::Always),
        f(&["RPAD"], &[Str, Int, Str], 3, STRING, Nulls::Always),
        f(&["LEFT"], &[Str, Int], 2, STRING, Nulls::Args),
        f(&["RIGHT"], &[Str, Int], 2, STRING, Nulls::Args),
        f(&["SPLIT_INDEX"], &[Str, Separator, Int], 3, STRING, Nulls::Always),
        f(&["REGEXP"], &[Str, Str], 2, Boolean, Nulls::Args),
        f(&["REGEXP_REPLACE"], &[Str, Str, Str], 3, STRING, Nulls::Args),
        f(&["REGEXP_EXTRACT"], &[Str, Str, Int], 2, STRING, Nulls::Always),
        f(&["REGEXP_EXTRACT_ALL"], &[Str, Str, Int], 2, texts(), Nulls::Always),
        f(&["REGEXP_COUNT"], &[Str, Str], 2, TypeKind::Int, Nulls::Always),
        f(&["REGEXP_INSTR"], &[Str, Str], 2, TypeKind::Int, Nulls::Always),
        f(&["REGEXP_SUBSTR"], &[Str, Str], 2, STRING, Nulls::Always),
        f(&["CONVERT_TZ"], &[Str, Str, Str], 3, STRING, Nulls::Always),
        f(&["STARTSWITH"], &[Any, Any], 2, Boolean, Nulls::Args),
        f(&["ENDSWITH"], &[Any, Any], 2, Boolean, Nulls::Args),
        repeating(&["CONCAT"], &[Str], 1, STRING),
        repeating(&["CONCAT_WS"], &[Str, Str], 2, STRING),
        f(&["DATE_FORMAT"], &[Time, Str], 2, STRING, Nulls::Always),
        f(&["YEAR"], &[Time], 1, BigInt, Nulls::Args),
        f(&["QUARTER"], &[Time], 1, BigInt, Nulls::Args),
        f(&["MONTH"], &[Time], 1, BigInt, Nulls::Args),
        f(&["WEEK"], &[Time], 1, BigInt, Nulls::Args),
        f(&["DAYOFYEAR"], &[Time], 1, BigInt, Nulls::Args),
        f(&["DAYOFMONTH"], &[Time], 1, BigInt, Nulls::Args),
        f(&["DAYOFWEEK"], &[Time], 1, BigInt, Nulls::Args),
        f(&["HOUR"], &[Time], 1, BigInt, Nulls::Args),
        f(&["MINUTE"], &[Time], 1, BigInt, Nulls::Args),
        f(&["SECOND"], &[Time], 1, BigInt, Nulls::Args),
        f(&["TO_TIMESTAMP"], &[Str, Str], 1, TypeKind::Timestamp(3), Nulls::Always),
        f(&["TO_DATE"], &[Str, Str], 1, TypeKind::Date, Nulls::Always),
        f(&["UNIX_TIMESTAMP"], &[Str, Str], 0, BigInt, Nulls::Args),
        f(&["FROM_UNIXTIME"], &[Big, Str], 1, STRING, Nulls::Always),
        f(&["PROCTIME"], &[], 0, TypeKind::TimestampLtz(3), Nulls::Never),
        f(&["CURRENT_TIMESTAMP", "NOW", "CURRENT_ROW_TIMESTAMP"], &[], 0, TypeKind::TimestampLtz(3), Nulls::Never),
        f(&["LOCALTIMESTAMP"], &[], 0, TypeKind::Timestamp(3), Nulls::Never),
        f(&["CURRENT_DATE"], &[], 0, TypeKind::Date, Nulls::Never),
        f(&["LOCALTIME", "CURRENT_TIME"], &[], 0, TypeKind::Time(0), Nulls::Never),
    ]
});

/// Binds a function of the table.
pub(super) fn bind(name: &str, args: Vec<Expr>) -> Result<Expr> {
    let Some(function) = FUNCTIONS.iter().find(|f| f.names.contains(&name)) else {
        if json::WITH_CLAUSES.contains(&name) {
            return Err(mismatch(name, &args, "what its clauses say, as in JSON_VALUE(j, '$.a')"));
        }
        return Err(unknown(name));
    };
    let max = if function.repeats { usize::MAX } else { function.params.len() };
    if args.len() < function.required || args.len() > max {
        return Err(mismatch(name, &args, &function.signature(name)));
    }
    let mut nullable = match function.nulls {
        Nulls::Args => any_nullable(&args),
        Nulls::Always => true,
        Nulls::Never => false,
    };
    // So does a pattern that is none.
    if let ("REGEXP_REPLACE", [_, pattern, _]) = (function.names[0], &args[..]) {
        nullable |= !constant_text(pattern).is_some_and(is_regexp);
    }
    // A negative length gives NULL.
    if let ("SUBSTRING", [_, _, length]) = (function.names[0], &args[..]) {
        nullable |= !matches!(length.kind, ExprKind::Literal(Literal::Int(0..)));
    }
    let result = match (function.names[0], &args[..]) {
        // The length stays.
        ("UPPER" | "LOWER" | "INITCAP", [x]) if x.data_type.kind.is_string() => x.data_type.kind.clone(),
        _ => function.result.clone(),
    };
    let mut cast = Vec::with_capacity(args.len());
    for (i, arg) in args.iter().enumerate() {
        let param = function.params[i.min(function.params.len() - 1)];
        let Some(target) = param.target(&arg.data_type.kind) else {
            return Err(mismatch(name, &args, &function.signature(name)));
        };
        cast.push(implicit_cast(arg.clone(), &target)?);
    }
    Ok(Expr::call(function.names[0], cast, DataType { kind: result, nullable }))
}

impl P {
    /// What an argument of type `found` is cast to; `None` when it does not fit.
    fn target(self, found: &TypeKind) -> Option<TypeKind> {
        let null = *found == TypeKind::Null;
        match self {
            P::Str | P::Separator if null => Some(STRING),
            P::Separator if found.is_integer() => Some(TypeKind::Int),
            P::Str | P::Separator if found.is_string() => Some(found.clone()),
            P::Bytes if null => Some(TypeKind::BYTES),
            P::Bytes if matches!(found, TypeKind::Binary(_) | TypeKind::VarBinary(_)) => Some(found.clone()),
            P::Any if null => Some(STRING),
            P::Any if found.is_string() || matches!(found, TypeKind::Binary(_) | TypeKind::VarBinary(_)) => {
                Some(found.clone())
            }
            P::Int if null || found.is_integer() => Some(TypeKind::Int),
            P::Big if null || found.is_integer() => Some(BigInt),
            P::Double if null || found.is_numeric() => Some(TypeKind::Double),
            P::Bool if null || *found == Boolean => Some(Boolean),
            P::Time if null || found.is_string() => Some(TypeKind::Timestamp(3)),
            P::Time if found.is_timestamp() || matches!(found, TypeKind::Date | TypeKind::Time(_)) => {
                Some(found.clone())
            }
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            P::Str => "STRING",
            P::Separator => "STRING or the code of a character",
            P::Bytes => "BYTES",
            P::Any => "STRING or BYTES",
            P::Int | P::Big => "an integer",
            P::Double => "a number",
            P::Bool => "BOOLEAN",
            P::Time => "a DATE, TIME or TIMESTAMP",
        }
    }
}

impl Function {
    /// `SUBSTRING(STRING, an integer [, an integer])`
    fn signature(&self, name: &str) -> String {
        let mut out = format!("{name}(");
        for (i, p) in self.params.iter().enumerate() {
            if i >= self.required {
                out.push('[');
            }
            if i > 0 {
                out.push_str(", ");
            }
            out.push_str(p.name());
        }
        out.extend(std::iter::repeat_n(']', self.params.len() - self.required));
        out.push_str(if self.repeats { ", …)" } else { ")" });
        out
    }
}

/// All names [`super::bind_call`] knows, sorted: what SHOW FUNCTIONS lists, operators included.
pub fn function_names() -> Vec<&'static str> {
    let table = FUNCTIONS.iter().flat_map(|f| f.names.iter().copied());
    let more = [variadic::NAMES, collection::NAMES, json::NAMES, json::WITH_CLAUSES].into_iter().flatten().copied();
    let mut names: Vec<&str> = table.chain(special::NAMES.iter().copied()).chain(more).collect();
    names.sort_unstable();
    names
}

fn unknown(name: &str) -> Error {
    let error = Error::user("sql.function", format!("unknown function {name}"));
    let nearest = function_names()
        .into_iter()
        .filter(|n| n.starts_with(|c: char| c.is_ascii_alphabetic()))
        .map(|n| (strsim::damerau_levenshtein(n, name), n))
        .min();
    match nearest {
        Some((distance, n)) if distance <= 1 + name.len() / 3 => error.hint(format!("did you mean {n}?")),
        _ => error.hint("SHOW FUNCTIONS lists what there is"),
    }
}
