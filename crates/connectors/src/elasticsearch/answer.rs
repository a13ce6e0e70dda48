//! What a server says to a `_bulk` request, operation by operation; decides nothing but what kind of failure it is.

use serde::Deserialize;

/// Asks for no more of the answer than is read.
pub const FILTER: &str = "filter_path=errors,items.*.status,items.*._index,items.*._id,items.*.error.type,\
                          items.*.error.reason,items.*.error.caused_by.type,items.*.error.caused_by.reason";

/// What became of one operation.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The server is too busy, or another write came in between: trying again helps.
    Later(Refusal),
    /// Trying again changes nothing.
    Never(Refusal),
}

/// Why an operation was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The index.
    pub index: String,
    /// The document; empty where the server makes ids.
    pub id: String,
    /// HTTP status of the operation.
    pub status: u16,
    /// The server's words.
    pub reason: String,
    /// Another write to the document came in between.
    pub is_conflict: bool,
}

#[derive(Deserialize)]
struct Short {
    errors: bool,
}

#[derive(Deserialize)]
struct Bulk {
    #[serde(default)]
    items: Vec<Item>,
}

/// The operation's name, which is of no interest, and what became of it.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Item {
    Index(Told),
    Create(Told),
    Update(Told),
    Delete(Told),
}

#[derive(Deserialize)]
struct Told {
    #[serde(default, rename = "_index")]
    index: String,
    #[serde(default, rename = "_id")]
    id: Option<String>,
    #[serde(default)]
    status: u16,
    #[serde(default)]
    error: Option<Cause>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cause {
    r#type: String,
    reason: Option<String>,
    caused_by: Option<Box<Cause>>,
}

impl Cause {
    fn text(&self) -> String {
        let mut text = self.r#type.clone();
        if let Some(reason) = &self.reason {
            text = format!("{text}: {reason}");
        }
        match &self.caused_by {
            Some(cause) => format!("{text}; caused by {}", cause.text()),
            None => text,
        }
    }
}

/// Reads an answer with status 200 to so many operations; `None`: all are done. `Err` when it is no such answer.
pub fn outcomes(body: &[u8], operations: usize) -> Result<Option<Vec<Outcome>>, String> {
    let odd = |e: serde_json::Error| format!("it is not the answer to a bulk request: {e}");
    if !serde_json::from_slice::<Short>(body).map_err(odd)?.errors {
        return Ok(None);
    }
    let items = serde_json::from_slice::<Bulk>(body).map_err(odd)?.items;
    if items.len() != operations {
        return Err(format!("it tells about {} operations, and there were {operations}", items.len()));
    }
    Ok(Some(items.into_iter().map(outcome).collect()))
}

fn outcome(item: Item) -> Outcome {
    let (Item::Index(told) | Item::Create(told) | Item::Update(told) | Item::Delete(told)) = item;
    // A delete of what is not there has status 404 and no error: it is done.
    let Some(error) = told.error else { return Outcome::Done };
    let is_conflict = error.r#type == "version_conflict_engine_exception";
    let later = is_conflict
        || told.status == 429
        || told.status >= 500
        || matches!(
            error.r#type.as_str(),
            "es_rejected_execution_exception"
                | "rejected_execution_exception"
                | "circuit_breaking_exception"
                | "cluster_block_exception"
                | "unavailable_shards_exception"
                | "process_cluster_event_timeout_exception"
        );
    let refusal = Refusal {
        index: told.index,
        id: told.id.unwrap_or_default(),
        status: told.status,
        reason: error.text(),
        is_conflict,
    };
    if later { Outcome::Later(refusal) } else { Outcome::Never(refusal) }
}

#[derive(Deserialize)]
struct Refused {
    error: serde_json::Value,
}

/// What a server says to a request that it refuses as a whole.
pub fn said(body: &[u8]) -> String {
    match serde_json::from_slice::<Refused>(body).map(|r| r.error) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(error) => serde_json::from_value::<Cause>(error).map(|c| c.text()).unwrap_or_default(),
        Err(_) => crate::formats::excerpt(body),
    }
}

/// Name and version of a server, from its answer to `GET /`.
#[derive(Debug, PartialEq, Eq)]
pub struct Server {
    /// `opensearch`, or nothing for Elasticsearch.
    pub distribution: String,
    /// Such as `2.19.1`.
    pub number: String,
}

#[derive(Deserialize)]
struct About {
    version: Version,
}

#[derive(Deserialize)]
struct Version {
    number: String,
    #[serde(default)]
    distribution: String,
}

/// Reads what a server says about itself; `None` when it is another kind of server.
pub fn server(body: &[u8]) -> Option<Server> {
    let about = serde_json::from_slice::<About>(body).ok()?;
    Some(Server { distribution: about.version.distribution, number: about.version.number })
}

impl Server {
    /// The first number of the version.
    pub fn major(&self) -> u32 {
        self.number.split('.').next().and_then(|n| n.parse().ok()).unwrap_or(0)
    }
    /// For messages.
    pub fn name(&self) -> String {
        let distribution = if self.distribution.is_empty() { "Elasticsearch" } else { self.distribution.as_str() };
        format!("{distribution} {}", self.number)
    }
}
