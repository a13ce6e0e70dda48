//! Aggregates for SQL from a Rust type: accumulators are values of the type's own, and bytes while they lie in state. Takes rows one at
//! a time; an aggregate that works on whole columns implements [`ColumnAggregate`] itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use flott_core::error::{Error, Result};
use flott_core::function::{AggregateChange, ColumnAggregate, Function, Signature};
use flott_core::types::DataType;
use flott_state::typed::StateType;

use crate::record::FieldType;

/// An aggregate in SQL: how values of rows become an accumulator, and what result is drawn from it.
///
/// ```
/// # use flott::{Result, StreamExecutionEnvironment, function};
/// struct WeightedAverage;
///
/// impl function::Aggregate for WeightedAverage {
///     type In = (f64, f64);
///     type Acc = (f64, f64);
///     type Out = Option<f64>;
///     const RETRACTS: bool = true;
///     const MERGES: bool = true;
///     fn create_accumulator(&self) -> (f64, f64) {
///         (0.0, 0.0)
///     }
///     fn accumulate(&self, acc: &mut (f64, f64), (value, weight): (f64, f64)) -> Result<()> {
///         (acc.0, acc.1) = (acc.0 + value * weight, acc.1 + weight);
///         Ok(())
///     }
///     fn retract(&self, acc: &mut (f64, f64), (value, weight): (f64, f64)) -> Result<()> {
///         (acc.0, acc.1) = (acc.0 - value * weight, acc.1 - weight);
///         Ok(())
///     }
///     fn merge(&self, acc: &mut (f64, f64), other: (f64, f64)) -> Result<()> {
///         (acc.0, acc.1) = (acc.0 + other.0, acc.1 + other.1);
///         Ok(())
///     }
///     fn get_value(&self, acc: &(f64, f64)) -> Result<Option<f64>> {
///         Ok((acc.1 != 0.0).then(|| acc.0 / acc.1))
///     }
/// }
/// # fn main() -> Result<()> {
/// let env = StreamExecutionEnvironment::new();
/// env.create_temporary_function("weighted", function::aggregate(WeightedAverage));
/// let query = "SELECT weighted(p, w) FROM (VALUES (10.0, 1.0), (20.0, 3.0)) AS t (p, w)";
/// # let query = query.replace("weighted(p, w)", "CAST(weighted(p, w) AS STRING)");
/// let changes = env.to_changelog_stream::<String>(&query)?.execute_and_collect("weighted")?;
/// assert_eq!(changes.last().map(|change| change.row.as_str()), Some("17.5"));
/// # Ok(())
/// # }
/// ```
pub trait Aggregate: Send + Sync + 'static {
    /// The arguments: a tuple of one to five values. A row that has NULL where this is no `Option` is left out.
    type In: Arguments;
    /// What is kept per group.
    type Acc: StateType;
    /// The result; an `Option` may be NULL.
    type Out: FieldType;
    /// Version of the accumulator's bytes: raise it when `Acc` changes, and let `decode` read the older ones.
    const VERSION: u16 = 1;
    /// Whether [`Aggregate::retract`] is there: for inputs that update, and frames of OVER with a bound.
    const RETRACTS: bool = false;
    /// Whether [`Aggregate::merge`] is there: sessions then keep an accumulator instead of their rows.
    const MERGES: bool = false;
    /// An accumulator to which nothing came.
    fn create_accumulator(&self) -> Self::Acc;
    /// A row comes.
    fn accumulate(&self, acc: &mut Self::Acc, args: Self::In) -> Result<()>;
    /// A row that came leaves again.
    fn retract(&self, _acc: &mut Self::Acc, _args: Self::In) -> Result<()> {
        Err(Error::bug("RETRACTS is set without a retract"))
    }
    /// The rows of `other` come, behind those that are there.
    fn merge(&self, _acc: &mut Self::Acc, _other: Self::Acc) -> Result<()> {
        Err(Error::bug("MERGES is set without a merge"))
    }
    /// The result so far.
    fn get_value(&self, acc: &Self::Acc) -> Result<Self::Out>;
    /// The accumulator as bytes.
    fn encode(&self, acc: &Self::Acc) -> Result<Vec<u8>> {
        postcard::to_stdvec(acc).map_err(|e| Error::bug(format!("an accumulator cannot be written: {e}")))
    }
    /// The accumulator that `encode` of that version wrote.
    fn decode(&self, version: u16, bytes: &[u8]) -> Result<Self::Acc> {
        if version != Self::VERSION {
            let text = format!("its state has version {version}, and the function writes {}", Self::VERSION);
            return Err(Error::user("function.state", text).hint("let decode of the function read the older version"));
        }
        let damaged = |e| Error::corrupt("function.state", format!("its state cannot be read: {e}"));
        postcard::from_bytes(bytes).map_err(damaged)
    }
}

/// Arguments of an aggregate: tuples of one to five values.
pub trait Arguments: Sized + 'static {
    /// Their types.
    fn types() -> Vec<DataType>;
    /// The values of these rows.
    fn read(columns: &[ArrayRef]) -> Result<Vec<Self>>;
}

macro_rules! arguments {
    ($(($type:ident, $value:ident, $at:tt)),*) => {
        impl<$($type: FieldType),*> Arguments for ($($type,)*) {
            fn types() -> Vec<DataType> {
                vec![$($type::data_type()),*]
            }
            fn read(columns: &[ArrayRef]) -> Result<Vec<Self>> {
                let rows = columns.first().map_or(0, |c| c.len());
                $(let mut $value = $type::from_array(&columns[$at], concat!("argument ", $at))?.into_iter();)*
                (0..rows).map(|_| Ok(($(crate::record::next_field(&mut $value)?,)*))).collect()
            }
        }
    };
}

arguments!((A, a, 0));
arguments!((A, a, 0), (B, b, 1));
arguments!((A, a, 0), (B, b, 1), (C, c, 2));
arguments!((A, a, 0), (B, b, 1), (C, c, 2), (D, d, 3));
arguments!((A, a, 0), (B, b, 1), (C, c, 2), (D, d, 3), (E, e, 4));

/// A function for SQL from an aggregate.
pub fn aggregate<F: Aggregate>(function: F) -> Function {
    Function::Aggregate(Arc::new(Rows(function)))
}

struct Rows<F>(F);

impl<F: Aggregate> Rows<F> {
    fn decode(&self, bytes: Option<&[u8]>) -> Result<F::Acc> {
        let Some(bytes) = bytes else { return Ok(self.0.create_accumulator()) };
        let Some((version, rest)) = bytes.split_first_chunk::<2>() else {
            return Err(Error::corrupt("function.state", "its state is cut off"));
        };
        self.0.decode(u16::from_le_bytes(*version), rest)
    }
    fn encode(&self, acc: &F::Acc) -> Result<Vec<u8>> {
        Ok([&F::VERSION.to_le_bytes()[..], &self.0.encode(acc)?].concat())
    }
}

impl<F: Aggregate> ColumnAggregate for Rows<F> {
    fn bind(&self, _: &[DataType]) -> Result<Signature> {
        let args = F::In::types().into_iter().map(|a| DataType { nullable: true, ..a }).collect();
        Ok(Signature { args, result: F::Out::data_type() })
    }

    fn can_retract(&self) -> bool {
        F::RETRACTS
    }

    fn can_merge(&self) -> bool {
        F::MERGES
    }

    fn fold(&self, accumulators: &mut [Option<Vec<u8>>], changes: &[AggregateChange], args: &[ArrayRef]) -> Result<()> {
        let strict = |(a, t): &(&ArrayRef, &DataType)| !t.nullable && a.null_count() > 0;
        let types = F::In::types();
        let with_nulls: Vec<&ArrayRef> = args.iter().zip(&types).filter(strict).map(|(a, _)| a).collect();
        let counts = |c: &&AggregateChange| with_nulls.iter().all(|a| a.is_valid(c.row));
        let kept: Vec<&AggregateChange> = changes.iter().filter(counts).collect();
        let rows: arrow_array::UInt64Array = kept.iter().map(|c| c.row as u64).collect();
        let take = |a: &ArrayRef| arrow_select::take::take(a, &rows, None);
        let columns = args.iter().map(take).collect::<std::result::Result<Vec<_>, _>>()?;
        let mut touched: BTreeMap<usize, F::Acc> = BTreeMap::new();
        for (change, values) in kept.iter().zip(F::In::read(&columns)?) {
            let acc = match touched.entry(change.accumulator) {
                std::collections::btree_map::Entry::Occupied(acc) => acc.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(self.decode(accumulators[change.accumulator].as_deref())?)
                }
            };
            match change.add {
                true => self.0.accumulate(acc, values)?,
                false => self.0.retract(acc, values)?,
            }
        }
        for (place, acc) in touched {
            accumulators[place] = Some(self.encode(&acc)?);
        }
        Ok(())
    }

    fn merge(&self, first: &[u8], second: &[u8]) -> Result<Vec<u8>> {
        let (mut acc, other) = (self.decode(Some(first))?, self.decode(Some(second))?);
        self.0.merge(&mut acc, other)?;
        self.encode(&acc)
    }

    fn values(&self, accumulators: &[Option<&[u8]>]) -> Result<ArrayRef> {
        let value = |bytes: &Option<&[u8]>| self.0.get_value(&self.decode(*bytes)?);
        let values = accumulators.iter().map(value).collect::<Result<Vec<F::Out>>>()?;
        Ok(F::Out::to_array(&mut values.iter()))
    }
}
