//! What sources and sinks of Kafka have in common among the options: topics, formats, and which columns are in the key and the
//! value of a message. Connects to nothing.

use flott_core::registry::{OptionSpec, TableSpec};
use flott_core::types::Column;
use flott_core::{Error, Result};
use regex::Regex;

use crate::formats::message::MessageFormat;
use crate::options::{TableOptions, option};

/// Options that both halves of both connectors read.
pub const SHARED_OPTIONS: &[OptionSpec] = &[
    option("topic", "STRING", "", false, "Topic, or several separated by `;`."),
    option(
        "properties.bootstrap.servers",
        "STRING",
        "",
        true,
        "Brokers to ask first, as in `broker-1:9092,broker-2:9092`.",
    ),
    option("properties.#", "STRING", "", false, "A property of Kafka's Java client, such as `properties.group.id`."),
    option("key.format", "STRING", "", false, "Format of the messages' keys."),
    option(
        "key.fields-prefix",
        "STRING",
        "",
        false,
        "What the names of key columns begin with in the table and not in the message.",
    ),
    option("value.format", "STRING", "", false, "Format of the messages' values."),
    option(
        "value.fields-include",
        "ENUM(ALL|EXCEPT_KEY)",
        "ALL",
        false,
        "Whether the columns of the key are in the value too.",
    ),
];

/// Options that only `kafka` has, not `upsert-kafka`.
pub const PLAIN_OPTIONS: &[OptionSpec] = &[
    option("topic-pattern", "STRING", "", false, "A regular expression: all topics whose whole name matches are read."),
    option("format", "STRING", "", false, "Format of the messages' values; the same as `value.format`."),
    option("key.fields", "STRING", "", false, "Columns in the key, separated by `;`."),
    option(
        "scan.startup.mode",
        "ENUM(earliest-offset|latest-offset|group-offsets|timestamp|specific-offsets)",
        "group-offsets",
        false,
        "Where reading begins when there is no checkpoint.",
    ),
    option(
        "scan.startup.specific-offsets",
        "STRING",
        "",
        false,
        "For `specific-offsets`: `partition:0,offset:42;partition:1,offset:300`.",
    ),
    option("scan.startup.timestamp-millis", "BIGINT", "", false, "For `timestamp`: milliseconds since the epoch."),
    option(
        "scan.startup.timestamp-offset",
        "DURATION",
        "",
        false,
        "For `timestamp`: so long before the start of the job, as in `1 h` (Flott's own option).",
    ),
];

/// Options of sources, of both connectors.
pub const SOURCE_OPTIONS: &[OptionSpec] = &[
    option(
        "scan.bounded.mode",
        "ENUM(unbounded|latest-offset|group-offsets|timestamp|specific-offsets)",
        "unbounded",
        false,
        "Where reading ends.",
    ),
    option(
        "scan.bounded.specific-offsets",
        "STRING",
        "",
        false,
        "For `specific-offsets`: `partition:0,offset:42;partition:1,offset:300`; other partitions are not read.",
    ),
    option("scan.bounded.timestamp-millis", "BIGINT", "", false, "For `timestamp`: milliseconds since the epoch."),
    option(
        "scan.topic-partition-discovery.interval",
        "DURATION",
        "5 min",
        false,
        "How often new topics and partitions are looked for; `0 s` is never.",
    ),
    option(
        "scan.offsets-out-of-range",
        "ENUM(fail|earliest|latest)",
        "fail",
        false,
        "What to do when the next record is not kept any more, unless `properties.auto.offset.reset` says it (Flott's own option).",
    ),
    option(
        "scan.bad-records",
        "ENUM(fail|skip|dead-letter)",
        "fail",
        false,
        "What to do with a record that the format refuses: fail, skip and count, or copy to a topic and count (Flott's own option).",
    ),
    option("scan.dead-letter.topic", "STRING", "", false, "The topic for `dead-letter` (Flott's own option)."),
    option(
        "scan.unavailable-timeout",
        "DURATION",
        "2 min",
        false,
        "How long no broker may be reachable in mid-run before the job fails over (Flott's own option).",
    ),
];

/// Which topics a source reads.
#[derive(Clone, Debug)]
pub enum Topics {
    /// These.
    List(Vec<String>),
    /// All whose whole name matches.
    Pattern(Regex),
}

/// The topics in `topic`, at least one.
pub fn topic_list(o: &TableOptions<'_>) -> Result<Vec<String>> {
    let Some(text) = o.text("topic") else {
        let message = format!("table `{}`: the option 'topic' is missing", o.table());
        return Err(Error::user("table.missing-option", message).hint("name a topic, or several separated by ';'"));
    };
    let topics: Vec<String> = text.split(';').map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()).collect();
    if topics.is_empty() {
        return Err(o.bad("topic", "the name of a topic"));
    }
    topics.iter().try_for_each(|t| if is_topic(t) { Ok(()) } else { Err(o.bad("topic", TOPIC_NAME)) })?;
    Ok(topics)
}

const TOPIC_NAME: &str = "a list of topics: names of up to 249 letters, digits, '.', '_' and '-', separated by ';' (a pattern goes into 'topic-pattern')";

/// Whether a topic may have this name.
pub fn is_topic(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.chars().all(fits)
}

impl Topics {
    /// The topics of a source, from `topic` or `topic-pattern`.
    pub fn read(o: &TableOptions<'_>) -> Result<Self> {
        let Some(pattern) = o.text("topic-pattern") else { return topic_list(o).map(Topics::List) };
        if o.text("topic").is_some() {
            return Err(o.refused("topic-pattern", "'topic' is set too; only one of the two may be"));
        }
        let regex = Regex::new(&format!("^(?:{pattern})$"));
        regex.map(Topics::Pattern).map_err(|e| o.bad("topic-pattern", "a regular expression").detail(e.to_string()))
    }
}

impl std::fmt::Display for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Topics::List(names) => write!(f, "{}", names.join(";")),
            Topics::Pattern(regex) => {
                let text = regex.as_str();
                write!(f, "{}", text.strip_prefix("^(?:").and_then(|t| t.strip_suffix(")$")).unwrap_or(text))
            }
        }
    }
}

/// The formats of a table, and which of its columns are where.
#[derive(Clone, Debug)]
pub struct Encoding {
    /// Format of keys, if the table has them.
    pub key_format: Option<MessageFormat>,
    /// Format of values.
    pub value_format: MessageFormat,
    /// Columns in the key, in the key's order: indices into the table's columns.
    pub key: Vec<usize>,
    /// Columns in the value: indices into the table's columns. Metadata columns are in neither.
    pub value: Vec<usize>,
    prefix: String,
}

impl Encoding {
    /// The option tables of the formats that the table names, for [`TableOptions::checked`].
    pub fn tables(table: &TableSpec) -> Result<[&'static [OptionSpec]; 2]> {
        Ok([MessageFormat::options(table, MessageFormat::value_prefix(table))?, MessageFormat::options(table, "key.")?])
    }

    /// Formats and columns of a table. With `upsert` the key is the primary key, and must be there.
    pub fn read(o: &TableOptions<'_>, table: &TableSpec, upsert: bool) -> Result<Self> {
        let prefix = o.text("key.fields-prefix").unwrap_or("").to_owned();
        if o.text("format").is_some() && o.text("value.format").is_some() {
            return Err(o.refused("format", "'value.format' is set too; only one of the two may be"));
        }
        let value_format = MessageFormat::read(o, MessageFormat::value_prefix(table))?;
        let key_format = o.text("key.format").map(|_| MessageFormat::read(o, "key.")).transpose()?;
        if let Some(format) = &key_format
            && format.changelog_mode() != flott_core::sink::ChangelogMode::Append
        {
            return Err(o.refused("key.format", "a format of changes is for values only"));
        }
        let key = if upsert { Self::primary_key(o, table)? } else { Self::key_fields(o, table)? };
        let except_key = o.one_of("value.fields-include", &["ALL", "EXCEPT_KEY"], 0)? == 1;
        Self::check_prefix(o, table, &key, &prefix, except_key)?;
        let in_value = |i: &usize| table.columns[*i].metadata_key.is_none() && !(except_key && key.contains(i));
        let value: Vec<usize> = (0..table.columns.len()).filter(in_value).collect();
        if value.is_empty() && !upsert {
            return Err(Error::user("kafka.columns", format!("table `{}` has no column in its values", table.name))
                .hint("declare a physical column that is not in 'key.fields', or set 'value.fields-include' = 'ALL'"));
        }
        Ok(Encoding { key_format, value_format, key, value, prefix })
    }

    fn primary_key(o: &TableOptions<'_>, table: &TableSpec) -> Result<Vec<usize>> {
        let missing = |what: &str, hint: &str| {
            Err(Error::user("table.missing-option", format!("table `{}`: {what}", table.name)).hint(hint))
        };
        if table.primary_key.is_empty() {
            return missing(
                "'upsert-kafka' needs a primary key, and there is none",
                "declare PRIMARY KEY (…) NOT ENFORCED: these columns are the key of the messages",
            );
        }
        if o.text("key.format").is_none() {
            return missing("the option 'key.format' is missing", "name the format of the keys, as in 'json' or 'raw'");
        }
        if o.text("value.format").is_none() {
            return missing("the option 'value.format' is missing", "name the format of the values, as in 'json'");
        }
        Ok(table.primary_key.clone())
    }

    fn key_fields(o: &TableOptions<'_>, table: &TableSpec) -> Result<Vec<usize>> {
        let names = match (o.text("key.fields"), o.text("key.format")) {
            (None, None) => return Ok(Vec::new()),
            (Some(_), None) => {
                return Err(o.refused("key.fields", "'key.format' is missing, which says how they are written"));
            }
            (None, Some(_)) => {
                return Err(o.refused("key.format", "'key.fields' is missing, which says what the key holds"));
            }
            (Some(names), Some(_)) => names,
        };
        let names = names.split(';').map(str::trim).filter(|n| !n.is_empty());
        let of = |name: &str| {
            let physical = |c: &Column| c.metadata_key.is_none() && c.name == name;
            table.columns.iter().position(physical).ok_or_else(|| {
                let all: Vec<_> = table.columns.iter().filter(|c| c.metadata_key.is_none()).map(|c| &*c.name).collect();
                o.bad("key.fields", format!("a list of physical columns: there is no `{name}`"))
                    .hint(format!("the full names, with 'key.fields-prefix'; available: {}", all.join(", ")))
            })
        };
        let key: Vec<usize> = names.map(of).collect::<Result<_>>()?;
        if key.is_empty() {
            return Err(o.bad("key.fields", "a list of columns"));
        }
        Ok(key)
    }

    fn check_prefix(
        o: &TableOptions<'_>,
        table: &TableSpec,
        key: &[usize],
        prefix: &str,
        except_key: bool,
    ) -> Result<()> {
        if prefix.is_empty() {
            return Ok(());
        }
        if !except_key {
            return Err(o.refused("key.fields-prefix", "it needs 'value.fields-include' = 'EXCEPT_KEY'"));
        }
        match key.iter().map(|i| &table.columns[*i].name).find(|name| !name.starts_with(prefix)) {
            None => Ok(()),
            Some(name) => {
                Err(o.bad("key.fields-prefix", format!("what the name of the key column `{name}` begins with")))
            }
        }
    }

    /// The columns of the key as the message names them: without the prefix.
    pub fn key_columns(&self, table: &TableSpec) -> Vec<Column> {
        let plain = |i: &usize| {
            let column = &table.columns[*i];
            let name = column.name.strip_prefix(self.prefix.as_str()).unwrap_or(&column.name);
            Column::new(name, column.data_type.clone())
        };
        self.key.iter().map(plain).collect()
    }

    /// The columns of the value.
    pub fn value_columns(&self, table: &TableSpec) -> Vec<Column> {
        self.value.iter().map(|i| table.columns[*i].clone()).collect()
    }
}

#[cfg(test)]
mod tests;
