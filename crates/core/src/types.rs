//! Flink's SQL types, and the Arrow types that carry them.

use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType as Arrow, Field, Fields, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

/// A SQL type without nullability. Lengths and precisions as in Flink.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TypeKind {
    /// The type of a bare NULL.
    Null,
    /// BOOLEAN
    Boolean,
    /// TINYINT
    TinyInt,
    /// SMALLINT
    SmallInt,
    /// INT
    Int,
    /// BIGINT
    BigInt,
    /// FLOAT
    Float,
    /// DOUBLE
    Double,
    /// DECIMAL(precision, scale)
    Decimal(u8, u8),
    /// CHAR(n)
    Char(u32),
    /// VARCHAR(n); STRING is VARCHAR(2147483647)
    VarChar(u32),
    /// BINARY(n)
    Binary(u32),
    /// VARBINARY(n); BYTES is VARBINARY(2147483647)
    VarBinary(u32),
    /// DATE
    Date,
    /// TIME(p)
    Time(u8),
    /// TIMESTAMP(p)
    Timestamp(u8),
    /// TIMESTAMP_LTZ(p)
    TimestampLtz(u8),
    /// INTERVAL DAY TO SECOND, milliseconds
    IntervalDayTime,
    /// INTERVAL YEAR TO MONTH, months
    IntervalYearMonth,
    /// ARRAY<t>
    Array(Box<DataType>),
    /// MAP<k, v>
    Map(Box<DataType>, Box<DataType>),
    /// MULTISET<t>, carried as a map from each value to how often it is there.
    Multiset(Box<DataType>),
    /// VARIANT: a JSON-like value, carried as JSON text.
    Variant,
    /// BITMAP: a set of 32-bit integers, carried in the portable Roaring format.
    Bitmap,
    /// ROW<name type, …>
    Row(Vec<(String, DataType)>),
}

/// A SQL type with nullability.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DataType {
    /// The type.
    pub kind: TypeKind,
    /// Whether NULL is a value of it.
    pub nullable: bool,
}

/// Length of STRING and BYTES.
pub const MAX_LENGTH: u32 = 2_147_483_647;

impl TypeKind {
    /// STRING.
    pub const STRING: TypeKind = TypeKind::VarChar(MAX_LENGTH);
    /// BYTES.
    pub const BYTES: TypeKind = TypeKind::VarBinary(MAX_LENGTH);
    /// The nullable type.
    pub fn nullable(self) -> DataType {
        DataType { kind: self, nullable: true }
    }
    /// The NOT NULL type.
    pub fn not_null(self) -> DataType {
        DataType { kind: self, nullable: false }
    }
    /// TINYINT … BIGINT.
    pub fn is_integer(&self) -> bool {
        matches!(self, TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int | TypeKind::BigInt)
    }
    /// Integers, DECIMAL, FLOAT, DOUBLE.
    pub fn is_numeric(&self) -> bool {
        self.is_integer() || matches!(self, TypeKind::Float | TypeKind::Double | TypeKind::Decimal(..))
    }
    /// CHAR or VARCHAR.
    pub fn is_string(&self) -> bool {
        matches!(self, TypeKind::Char(_) | TypeKind::VarChar(_))
    }
    /// TIMESTAMP or TIMESTAMP_LTZ.
    pub fn is_timestamp(&self) -> bool {
        matches!(self, TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_))
    }
    /// The Arrow type that carries values of this type.
    pub fn to_arrow(&self) -> Arrow {
        match self {
            TypeKind::Null => Arrow::Null,
            TypeKind::Boolean => Arrow::Boolean,
            TypeKind::TinyInt => Arrow::Int8,
            TypeKind::SmallInt => Arrow::Int16,
            TypeKind::Int | TypeKind::IntervalYearMonth => Arrow::Int32,
            TypeKind::BigInt | TypeKind::IntervalDayTime => Arrow::Int64,
            TypeKind::Float => Arrow::Float32,
            TypeKind::Double => Arrow::Float64,
            TypeKind::Decimal(p, s) => Arrow::Decimal128(*p, i8::try_from(*s).unwrap_or(i8::MAX)),
            TypeKind::Char(_) | TypeKind::VarChar(_) | TypeKind::Variant => Arrow::Utf8,
            TypeKind::Binary(_) | TypeKind::VarBinary(_) | TypeKind::Bitmap => Arrow::Binary,
            TypeKind::Date => Arrow::Date32,
            TypeKind::Time(_) => Arrow::Time32(TimeUnit::Millisecond),
            TypeKind::Timestamp(p) => Arrow::Timestamp(unit(*p), None),
            TypeKind::TimestampLtz(p) => Arrow::Timestamp(unit(*p), Some("UTC".into())),
            TypeKind::Array(t) => Arrow::List(Arc::new(t.to_field("item"))),
            TypeKind::Map(k, v) => {
                let key = Field::new("key", k.kind.to_arrow(), false);
                let entries = Fields::from(vec![key, v.to_field("value")]);
                Arrow::Map(Arc::new(Field::new("entries", Arrow::Struct(entries), false)), false)
            }
            TypeKind::Multiset(t) => TypeKind::Map(t.clone(), Box::new(TypeKind::Int.not_null())).to_arrow(),
            TypeKind::Row(fields) => Arrow::Struct(fields.iter().map(|(n, t)| t.to_field(n)).collect()),
        }
    }
}

fn unit(precision: u8) -> TimeUnit {
    match precision {
        0..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

impl DataType {
    /// An Arrow field of this type. Always nullable in Arrow: NOT NULL is checked by the sink, not by the carrier.
    pub fn to_field(&self, name: &str) -> Field {
        Field::new(name, self.kind.to_arrow(), true)
    }
    /// The same type with another nullability.
    pub fn with_nullable(mut self, nullable: bool) -> Self {
        self.nullable = nullable;
        self
    }
}

impl fmt::Display for TypeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypeKind::Null => write!(f, "NULL"),
            TypeKind::Boolean => write!(f, "BOOLEAN"),
            TypeKind::TinyInt => write!(f, "TINYINT"),
            TypeKind::SmallInt => write!(f, "SMALLINT"),
            TypeKind::Int => write!(f, "INT"),
            TypeKind::BigInt => write!(f, "BIGINT"),
            TypeKind::Float => write!(f, "FLOAT"),
            TypeKind::Double => write!(f, "DOUBLE"),
            TypeKind::Decimal(p, s) => write!(f, "DECIMAL({p}, {s})"),
            TypeKind::Char(n) => write!(f, "CHAR({n})"),
            TypeKind::VarChar(MAX_LENGTH) => write!(f, "STRING"),
            TypeKind::VarChar(n) => write!(f, "VARCHAR({n})"),
            TypeKind::Binary(n) => write!(f, "BINARY({n})"),
            TypeKind::VarBinary(MAX_LENGTH) => write!(f, "BYTES"),
            TypeKind::VarBinary(n) => write!(f, "VARBINARY({n})"),
            TypeKind::Date => write!(f, "DATE"),
            TypeKind::Time(p) => write!(f, "TIME({p})"),
            TypeKind::Timestamp(p) => write!(f, "TIMESTAMP({p})"),
            TypeKind::TimestampLtz(p) => write!(f, "TIMESTAMP_LTZ({p})"),
            TypeKind::IntervalDayTime => write!(f, "INTERVAL SECOND(3)"),
            TypeKind::IntervalYearMonth => write!(f, "INTERVAL MONTH"),
            TypeKind::Array(t) => write!(f, "ARRAY<{t}>"),
            TypeKind::Map(k, v) => write!(f, "MAP<{k}, {v}>"),
            TypeKind::Multiset(t) => write!(f, "MULTISET<{t}>"),
            TypeKind::Variant => write!(f, "VARIANT"),
            TypeKind::Bitmap => write!(f, "BITMAP"),
            TypeKind::Row(fields) => {
                write!(f, "ROW<")?;
                for (i, (name, t)) in fields.iter().enumerate() {
                    write!(f, "{}`{name}` {t}", if i > 0 { ", " } else { "" })?;
                }
                write!(f, ">")
            }
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind, if self.nullable { "" } else { " NOT NULL" })
    }
}

/// A named column.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    /// Name, case kept.
    pub name: String,
    /// Type.
    pub data_type: DataType,
    /// For metadata columns: the connector's key.
    pub metadata_key: Option<String>,
}

impl Column {
    /// A physical column.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Column { name: name.into(), data_type, metadata_key: None }
    }
}

/// The Arrow schema of columns.
pub fn arrow_schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|c| c.data_type.to_field(&c.name)).collect::<Vec<_>>()))
}
