//! Where each accumulator lies in a state row. Pure: built from the plan, the same plan gives the same layout.
//!
//! A row is an optional header of its owner, the number of rows of the group (i64), then the accumulators, 8 bytes aligned.
//! Calls that need the same accumulator share it: `SUM(x)` and `AVG(x)` keep one sum and one count.

use std::sync::Arc;

use arrow_schema::DataType as Arrow;
use flott_core::error::{Error, Result};
use flott_core::keys::RowCodec;
use flott_core::types::{DataType, TypeKind};
use flott_plan::UserAggregate;
use flott_plan::spec::{AggregateCall, AggregateFunction};

use super::collected::Collected;
use super::values::{Form, form_of};

/// What an accumulator keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccKind {
    /// i64.
    Count,
    /// Sum and count of non-NULL values. `single`: the sum is rounded to f32 at each step.
    Sum {
        /// Form of the sum.
        form: Form,
        /// FLOAT.
        single: bool,
    },
    /// Count of non-NULL values and the least or greatest of them (beside the row for [`Form::Bytes`]).
    Extreme {
        /// MAX.
        max: bool,
        /// Form of the value.
        form: Form,
    },
    /// Count, mean and sum of squared distances from it (f64), kept up as Welford does.
    Moments,
    /// Count, and values beside the row.
    Collected {
        /// Which of them.
        kind: Collected,
        /// How many arguments must not be NULL for a row to count.
        not_null: usize,
    },
    /// Count, and the accumulator of a function of the user beside the row.
    User,
}

/// Which rows an accumulator sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MaskSpec {
    /// All.
    All,
    /// Those where the BOOLEAN column is TRUE.
    Filter(usize),
    /// Those that bring or take the last copy of a value.
    Distinct {
        /// Index of the distinct set.
        set: usize,
        /// Index of the filter within the set.
        filter: usize,
    },
}

/// One accumulator.
#[derive(Clone, Debug)]
pub(crate) struct Accumulator {
    /// What it keeps.
    pub kind: AccKind,
    /// Argument columns; none for COUNT(*).
    pub args: Vec<usize>,
    /// Index into [`Layout::masks`].
    pub mask: usize,
    /// Where it begins in the row.
    pub offset: usize,
    /// Index among the values kept beside the row.
    pub beside: Option<usize>,
    /// Index among the value multisets (MIN/MAX of inputs that retract).
    pub multiset: Option<usize>,
    /// Bytes of the arguments, for values kept beside the row.
    pub codec: Option<RowCodec>,
    /// The function of [`AccKind::User`].
    pub user: Option<UserAggregate>,
    /// Its part of the state's schema text.
    pub schema: String,
}

/// Values seen so far of one DISTINCT argument list, counted per filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DistinctSet {
    /// Argument columns.
    pub args: Vec<usize>,
    /// NULL is a value like others (ARRAY_AGG).
    pub nulls: bool,
    /// One count each: no filter, or a BOOLEAN column.
    pub filters: Vec<Option<usize>>,
}

/// One output column.
#[derive(Clone, Debug)]
pub(crate) struct OutputSpec {
    /// The accumulator.
    pub acc: usize,
    /// What is made of it.
    pub function: AggregateFunction,
    /// Scale of a DECIMAL argument.
    pub arg_scale: u8,
    /// Type of the column.
    pub arrow: Arrow,
}

/// The layout of state rows.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Bytes at the front that belong to the owner.
    pub header: usize,
    /// Bytes of a row.
    pub width: usize,
    /// Accumulators; the first counts the rows of the group.
    pub accumulators: Vec<Accumulator>,
    /// Distinct masks.
    pub masks: Vec<MaskSpec>,
    /// Distinct sets.
    pub distinct: Vec<DistinctSet>,
    /// Output columns.
    pub outputs: Vec<OutputSpec>,
    /// Number of values kept beside the row.
    pub beside: usize,
    /// Number of value multisets.
    pub multisets: usize,
}

impl Layout {
    /// The layout for `calls` over an input that `retracts` or does not.
    pub(crate) fn new(calls: &[AggregateCall], retracts: bool, header: usize) -> Result<Layout> {
        let mut layout = Layout {
            header,
            width: header,
            accumulators: Vec::new(),
            masks: vec![MaskSpec::All],
            distinct: Vec::new(),
            outputs: Vec::new(),
            beside: 0,
            multisets: 0,
        };
        layout.accumulator(AccKind::Count, (&[], None), 0, retracts, "rows");
        for call in calls {
            layout.add(call, retracts)?;
        }
        Ok(layout)
    }

    fn add(&mut self, call: &AggregateCall, retracts: bool) -> Result<()> {
        let kind = acc_kind(call, retracts)?;
        // Duplicates change neither MIN nor MAX.
        let distinct = call.distinct && !matches!(kind, AccKind::Extreme { .. }) && !call.args.is_empty();
        let mask = match (distinct, call.filter) {
            (true, filter) => {
                let nulls = matches!(kind, AccKind::Collected { not_null: 0, .. });
                self.distinct_mask(&call.args, nulls, filter)
            }
            (false, Some(column)) => MaskSpec::Filter(column),
            (false, None) => MaskSpec::All,
        };
        let mask = self.masks.iter().position(|m| *m == mask).unwrap_or_else(|| {
            self.masks.push(mask);
            self.masks.len() - 1
        });
        // COUNT of a column that cannot be NULL is COUNT(*).
        let never_null = call.arg_types.iter().all(|t| !t.nullable);
        let args: &[usize] = if kind == AccKind::Count && never_null { &[] } else { &call.args };
        let arg_type = call.arg_types.iter().map(|t| t.kind.to_string()).collect::<Vec<_>>().join(",");
        let acc = self.accumulator(kind, (args, call.user.as_ref()), mask, retracts, &arg_type);
        if matches!(kind, AccKind::Collected { .. }) {
            let field = |(i, t): (usize, &DataType)| Arc::new(t.to_field(&format!("argument {i}")));
            self.accumulators[acc].codec = Some(RowCodec::new(call.arg_types.iter().enumerate().map(field).collect())?);
        }
        let arg_scale = match call.arg_types.first().map(|t| &t.kind) {
            Some(TypeKind::Decimal(_, s)) => *s,
            _ => 0,
        };
        let arrow = call.data_type.kind.to_arrow();
        self.outputs.push(OutputSpec { acc, function: call.function, arg_scale, arrow });
        Ok(())
    }

    fn distinct_mask(&mut self, args: &[usize], nulls: bool, filter: Option<usize>) -> MaskSpec {
        let set = self.distinct.iter().position(|s| s.args == args && s.nulls == nulls).unwrap_or_else(|| {
            self.distinct.push(DistinctSet { args: args.to_vec(), nulls, filters: Vec::new() });
            self.distinct.len() - 1
        });
        let filters = &mut self.distinct[set].filters;
        let filter = filters.iter().position(|f| *f == filter).unwrap_or_else(|| {
            filters.push(filter);
            filters.len() - 1
        });
        MaskSpec::Distinct { set, filter }
    }

    fn accumulator(
        &mut self,
        kind: AccKind,
        (args, user): (&[usize], Option<&UserAggregate>),
        mask: usize,
        retracts: bool,
        text: &str,
    ) -> usize {
        let same = |a: &Accumulator| a.kind == kind && a.args == args && a.mask == mask && a.user.as_ref() == user;
        if let Some(i) = self.accumulators.iter().position(same) {
            return i;
        }
        let (mut beside, mut multiset) = (None, None);
        if let AccKind::Collected { .. } | AccKind::User = kind {
            beside = Some(self.beside);
            self.beside += 1;
        }
        if let AccKind::Extreme { form, .. } = kind {
            if form == Form::Bytes {
                beside = Some(self.beside);
                self.beside += 1;
            }
            if retracts {
                multiset = Some(self.multisets);
                self.multisets += 1;
            }
        }
        let schema = match kind {
            AccKind::Count => "count".to_owned(),
            AccKind::Sum { .. } => format!("sum,count:{text}"),
            AccKind::Extreme { max, .. } => format!("count,{}:{text}", if max { "max" } else { "min" }),
            AccKind::Moments => format!("count,mean,squares:{text}"),
            AccKind::Collected { kind, .. } => format!("count,{kind:?}:{text}"),
            AccKind::User => format!("count,user {}:{text}", user.map_or("", |u| u.name.as_str())),
        };
        let offset = self.width;
        self.width += kind.width();
        self.accumulators.push(Accumulator {
            kind,
            args: args.to_vec(),
            mask,
            offset,
            beside,
            multiset,
            codec: None,
            user: user.cloned(),
            schema,
        });
        self.accumulators.len() - 1
    }

    /// What the bytes of a row mean.
    pub(crate) fn schema(&self) -> String {
        let parts: Vec<&str> = self.accumulators.iter().map(|a| a.schema.as_str()).collect();
        format!("header:{};{}", self.header, parts.join(";"))
    }
    /// Whether slices of a window can be merged from rows alone.
    pub(crate) fn mergeable(&self) -> bool {
        self.distinct.is_empty() && self.beside == 0 && self.multisets == 0
    }
    /// Number of rows of the group, from its image.
    #[inline]
    pub(crate) fn group_rows(&self, image: &[u8]) -> i64 {
        read_i64(image, self.accumulators[0].offset)
    }
}

impl Accumulator {
    /// Arguments that must not be NULL for a row to count.
    pub(crate) fn not_null(&self) -> &[usize] {
        match self.kind {
            AccKind::Collected { not_null, .. } => &self.args[..not_null.min(self.args.len())],
            // What NULL means is the function's own business.
            AccKind::User => &[],
            _ => &self.args,
        }
    }
}

impl AccKind {
    /// Bytes in the row.
    pub(crate) fn width(self) -> usize {
        match self {
            AccKind::Count | AccKind::Collected { .. } | AccKind::User => 8,
            AccKind::Moments => 24,
            AccKind::Sum { form, .. } | AccKind::Extreme { form, .. } => match form {
                Form::Int | Form::Float => 16,
                Form::Decimal => 24,
                Form::Bytes => 8,
            },
        }
    }
}

fn acc_kind(call: &AggregateCall, retracts: bool) -> Result<AccKind> {
    if call.user.is_some() {
        return Ok(AccKind::User);
    }
    let Some(argument) = call.arg_types.first() else {
        return match call.function {
            AggregateFunction::Count => Ok(AccKind::Count),
            _ => Err(Error::bug(format!("aggregate `{}` has no argument", call.name))),
        };
    };
    let refuse = || {
        let text =
            format!("aggregate `{}`: {:?} does not take an argument of type {}", call.name, call.function, argument);
        Error::user("sql.aggregate-type", text).hint("cast the argument to a numeric, string or time type")
    };
    let form = form_of(&argument.kind.to_arrow());
    Ok(match call.function {
        AggregateFunction::Count => AccKind::Count,
        AggregateFunction::Min | AggregateFunction::Max => {
            AccKind::Extreme { max: call.function == AggregateFunction::Max, form: form.ok_or_else(refuse)? }
        }
        AggregateFunction::Sum | AggregateFunction::Avg => {
            if !argument.kind.is_numeric() {
                return Err(refuse());
            }
            // Flink sums FLOAT in FLOAT but averages it in DOUBLE.
            let single = argument.kind == TypeKind::Float && call.function == AggregateFunction::Sum;
            AccKind::Sum { form: form.ok_or_else(refuse)?, single }
        }
        AggregateFunction::Deviation { .. } if argument.kind.is_numeric() => AccKind::Moments,
        AggregateFunction::Deviation { .. } => return Err(refuse()),
        function => collected(function, retracts),
    })
}

/// What the aggregates keep that have no fixed size.
fn collected(function: AggregateFunction, retracts: bool) -> AccKind {
    use AggregateFunction as F;
    let kind = match function {
        F::FirstValue if !retracts => Collected::First,
        F::LastValue if !retracts => Collected::Last,
        F::Collect | F::Percentile | F::Bitmap { .. } | F::JsonObjectAgg { .. } => Collected::Bag,
        _ => Collected::List,
    };
    let not_null = match function {
        F::ArrayAgg { ignore_nulls: false } | F::JsonArrayAgg { .. } | F::JsonObjectAgg { .. } | F::SingleValue => 0,
        _ => 1,
    };
    AccKind::Collected { kind, not_null }
}

/// The i64 at `at`.
#[inline]
pub(crate) fn read_i64(image: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(image[at..at + 8].try_into().expect("eight bytes were taken"))
}

/// Sets the i64 at `at`.
#[inline]
pub(crate) fn write_i64(image: &mut [u8], at: usize, value: i64) {
    image[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// The i128 at `at`.
#[inline]
pub(crate) fn read_i128(image: &[u8], at: usize) -> i128 {
    i128::from_le_bytes(image[at..at + 16].try_into().expect("sixteen bytes were taken"))
}

/// Sets the i128 at `at`.
#[inline]
pub(crate) fn write_i128(image: &mut [u8], at: usize, value: i128) {
    image[at..at + 16].copy_from_slice(&value.to_le_bytes());
}
