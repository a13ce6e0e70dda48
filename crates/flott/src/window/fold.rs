//! How the rows of a window become one value: reduce and aggregate behind one trait. Holds no rows.

use std::marker::PhantomData;

use flott_core::error::Result;
use flott_state::typed::StateType;

use crate::record::Record;
use crate::state::AggregateFunction;

/// Folds rows into an accumulator.
pub(crate) trait Fold: Clone + Send + Sync + 'static {
    type In: Record;
    type Acc: StateType;
    type Out;
    /// Adds a row; `None` is a window without rows.
    fn add(&self, row: Self::In, acc: &mut Option<Self::Acc>) -> Result<()>;
    /// Both in one.
    fn merge(&self, a: Self::Acc, b: Self::Acc) -> Result<Self::Acc>;
    /// The result.
    fn result(&self, acc: Self::Acc) -> Self::Out;
}

/// A reduce function.
pub(crate) struct Reducing<T, R> {
    f: R,
    row: PhantomData<fn() -> T>,
}

impl<T, R> Reducing<T, R> {
    pub(crate) fn new(f: R) -> Self {
        Reducing { f, row: PhantomData }
    }
}

impl<T, R: Clone> Clone for Reducing<T, R> {
    fn clone(&self) -> Self {
        Reducing::new(self.f.clone())
    }
}

impl<T: Record + StateType, R: Fn(T, T) -> T + Clone + Send + Sync + 'static> Fold for Reducing<T, R> {
    type In = T;
    type Acc = T;
    type Out = T;
    fn add(&self, row: T, acc: &mut Option<T>) -> Result<()> {
        *acc = Some(match acc.take() {
            Some(old) => (self.f)(old, row),
            None => row,
        });
        Ok(())
    }
    fn merge(&self, a: T, b: T) -> Result<T> {
        Ok((self.f)(a, b))
    }
    fn result(&self, acc: T) -> T {
        acc
    }
}

/// An aggregate function.
#[derive(Clone)]
pub(crate) struct Aggregating<F>(pub(crate) F);

impl<F: AggregateFunction> Fold for Aggregating<F>
where
    F::In: Record,
{
    type In = F::In;
    type Acc = F::Acc;
    type Out = F::Out;
    fn add(&self, row: F::In, acc: &mut Option<F::Acc>) -> Result<()> {
        self.0.add(row, acc.get_or_insert_with(|| self.0.create_accumulator()))
    }
    fn merge(&self, a: F::Acc, b: F::Acc) -> Result<F::Acc> {
        self.0.merge(a, b)
    }
    fn result(&self, acc: F::Acc) -> F::Out {
        self.0.result(&acc)
    }
}
