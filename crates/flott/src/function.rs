//! Functions for SQL from Rust closures: types come from the closure's own. Runs rows one at a time; a function that works on whole
//! columns implements [`ScalarFunction`] itself.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, UInt32Array};
use flott_core::error::{Error, Result};
use flott_core::function::{Function, ScalarFunction, Signature, TableFunction, TableSignature};
use flott_core::table_function::TableRows;
use flott_core::types::DataType;

pub use crate::aggregate::{Aggregate, Arguments, aggregate};
use crate::environment::StreamExecutionEnvironment;
use crate::record::{FieldType, Record};

/// What a closure of a scalar function may give: a value, or a `Result` of one.
pub trait ScalarResult {
    /// The value.
    type Value: FieldType;
    /// The value, or the error that ends the job.
    fn into_value(self) -> Result<Self::Value>;
}

impl<T: FieldType> ScalarResult for T {
    type Value = T;
    fn into_value(self) -> Result<T> {
        Ok(self)
    }
}

impl<T: FieldType> ScalarResult for Result<T> {
    type Value = T;
    fn into_value(self) -> Result<T> {
        self
    }
}

/// A closure over values, called row by row.
pub trait RowFunction<Args>: Send + Sync + 'static {
    /// What it gives for a row.
    type Output;
    /// Types of its arguments.
    fn args() -> Vec<DataType>;
    /// Its results for rows without NULL where an argument is no `Option`.
    fn call(&self, args: &[ArrayRef], each: &mut dyn FnMut(Self::Output) -> Result<()>) -> Result<()>;
}

macro_rules! row_function {
    ($(($type:ident, $value:ident, $at:tt)),*) => {
        impl<F, R, $($type: FieldType),*> RowFunction<($($type,)*)> for F
        where
            F: Fn($($type),*) -> R + Send + Sync + 'static,
        {
            type Output = R;
            fn args() -> Vec<DataType> {
                vec![$($type::data_type()),*]
            }
            fn call(&self, args: &[ArrayRef], each: &mut dyn FnMut(R) -> Result<()>) -> Result<()> {
                let rows = args.first().map_or(0, |a| a.len());
                $(let mut $value = $type::from_array(&args[$at], concat!("argument ", $at))?.into_iter();)*
                for _ in 0..rows {
                    $(let $value = crate::record::next_field(&mut $value)?;)*
                    each(self($($value),*))?;
                }
                Ok(())
            }
        }
    };
}

row_function!((A, a, 0));
row_function!((A, a, 0), (B, b, 1));
row_function!((A, a, 0), (B, b, 1), (C, c, 2));
row_function!((A, a, 0), (B, b, 1), (C, c, 2), (D, d, 3));
row_function!((A, a, 0), (B, b, 1), (C, c, 2), (D, d, 3), (E, e, 4));

/// Rows that have a value wherever the function wants one; `None`: all.
fn complete(args: &[ArrayRef], types: &[DataType], rows: usize) -> Option<BooleanArray> {
    let strict = |(a, t): &(&ArrayRef, &DataType)| !t.nullable && a.null_count() > 0;
    let mut with_nulls = args.iter().zip(types).filter(strict).map(|(a, _)| a).peekable();
    with_nulls.peek()?;
    let mut whole = vec![true; rows];
    for array in with_nulls {
        whole.iter_mut().enumerate().for_each(|(i, w)| *w &= !array.is_null(i));
    }
    Some(whole.into())
}

fn kept(args: &[ArrayRef], mask: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
    let filter = |a: &ArrayRef| match mask {
        Some(mask) => Ok(arrow_select::filter::filter(a, mask)?),
        None => Ok(Arc::clone(a)),
    };
    args.iter().map(filter).collect()
}

struct Scalar<F, Args> {
    function: F,
    deterministic: bool,
    args: PhantomData<fn(Args)>,
}

impl<F, Args> ScalarFunction for Scalar<F, Args>
where
    F: RowFunction<Args>,
    F::Output: ScalarResult,
    Args: 'static,
{
    fn bind(&self, found: &[DataType]) -> Result<Signature> {
        let args = F::args();
        let mut result = <F::Output as ScalarResult>::Value::data_type();
        // NULL where the closure takes none gives NULL.
        result.nullable |= found.iter().zip(&args).any(|(f, a)| f.nullable && !a.nullable);
        let args = args.into_iter().map(|a| DataType { nullable: true, ..a }).collect();
        Ok(Signature { args, result })
    }

    fn evaluate(&self, args: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let mask = complete(args, &F::args(), rows);
        let mut values = Vec::with_capacity(rows);
        self.function.call(&kept(args, mask.as_ref())?, &mut |value| {
            values.push(value.into_value()?);
            Ok(())
        })?;
        let dense = <F::Output as ScalarResult>::Value::to_array(&mut values.iter());
        let Some(mask) = mask else { return Ok(dense) };
        let mut next = 0u32;
        let places = mask.values().iter().map(|whole| {
            let place = whole.then_some(next);
            next += u32::from(whole);
            place
        });
        Ok(arrow_select::take::take(&dense, &places.collect::<UInt32Array>(), None)?)
    }

    fn is_deterministic(&self) -> bool {
        self.deterministic
    }
}

struct Rows<F, Args> {
    function: F,
    args: PhantomData<fn(Args)>,
}

impl<F, Args, R> TableFunction for Rows<F, Args>
where
    F: RowFunction<Args, Output = Vec<R>>,
    R: Record,
    Args: 'static,
{
    fn bind(&self, _: &[DataType]) -> Result<TableSignature> {
        let args = F::args().into_iter().map(|a| DataType { nullable: true, ..a }).collect();
        Ok(TableSignature { args, columns: R::columns() })
    }

    fn evaluate(&self, args: &[ArrayRef], rows: usize) -> Result<TableRows> {
        let mask = complete(args, &F::args(), rows);
        let whole: Vec<u32> = match &mask {
            Some(mask) => mask.values().set_indices().map(|i| i as u32).collect(),
            None => (0..u32::try_from(rows).map_err(|_| Error::bug("a batch of more than 2^32 rows"))?).collect(),
        };
        let (mut owners, mut all, mut at) = (Vec::new(), Vec::new(), whole.into_iter());
        self.function.call(&kept(args, mask.as_ref())?, &mut |mut made| {
            let owner = at.next().ok_or_else(|| Error::bug("more results than rows"))?;
            owners.extend(std::iter::repeat_n(owner, made.len()));
            all.append(&mut made);
            Ok(())
        })?;
        Ok(TableRows { rows: UInt32Array::from(owners), columns: R::to_arrays(&all) })
    }
}

/// A scalar function from a closure over values of one row. Where an argument is no `Option`, NULL gives NULL without a call.
pub fn scalar<Args: 'static, F>(function: F) -> Function
where
    F: RowFunction<Args>,
    F::Output: ScalarResult,
{
    Function::Scalar(Arc::new(Scalar { function, deterministic: true, args: PhantomData }))
}

/// As [`scalar`], for a function that may give something else for the same arguments: it is called for every row and never when
/// the query is planned.
pub fn nondeterministic_scalar<Args: 'static, F>(function: F) -> Function
where
    F: RowFunction<Args>,
    F::Output: ScalarResult,
{
    Function::Scalar(Arc::new(Scalar { function, deterministic: false, args: PhantomData }))
}

/// A table function from a closure that gives rows. Where an argument is no `Option`, NULL gives no row without a call.
pub fn table<Args: 'static, R: Record, F>(function: F) -> Function
where
    F: RowFunction<Args, Output = Vec<R>>,
{
    Function::Table(Arc::new(Rows { function, args: PhantomData }))
}

impl StreamExecutionEnvironment {
    /// Makes a function known to SQL, by a name without case. It hides a built-in function of that name.
    ///
    /// ```
    /// # use flott::{Result, StreamExecutionEnvironment, function};
    /// # fn main() -> Result<()> {
    /// let env = StreamExecutionEnvironment::new();
    /// env.create_temporary_function("shout", function::scalar(|text: String| format!("{text}!")));
    /// let rows = env.sql_query::<String>("SELECT shout(word) FROM (VALUES ('hey'), ('you')) AS t (word)")?;
    /// let mut rows = rows.execute_and_collect("shout")?;
    /// rows.sort();
    /// assert_eq!(rows, ["hey!", "you!"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn create_temporary_function(&self, name: &str, function: Function) {
        self.with_session(|session, _| session.create_temporary_function(name, function));
    }

    /// Forgets a function; whether there was one.
    pub fn drop_temporary_function(&self, name: &str) -> bool {
        self.with_session(|session, _| session.drop_temporary_function(name))
    }
}
