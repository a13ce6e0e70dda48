//! Connectors that promise everything and carry nothing: for planning only.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use flott_core::config::Configuration;
use flott_core::error::{Error, Result};
use flott_core::lookup::{Lookup, LookupContext, LookupOptions, LookupSource};
use flott_core::registry::{ConnectorFactory, OptionSpec, Registry, TableSpec};
use flott_core::sink::{ChangelogMode, Sink, SinkContext, SinkWriter};
use flott_core::source::{
    Boundedness, ReaderContext, Source, SourceTransform, SourceTransformFactory, SplitEnumerator, SplitReader,
};
use flott_core::types::{Column, DataType, TypeKind};
use flott_plan::spec::SourceTransformSpec;
use flott_sql::{PlanServices, Planned, QueryInfo, Session};

struct Fake(&'static str);

struct FakeSource(Boundedness);

impl Source for FakeSource {
    fn boundedness(&self) -> Boundedness {
        self.0
    }
    fn enumerator(&self) -> Result<Box<dyn SplitEnumerator>> {
        Err(Error::bug("planning only"))
    }
    fn reader(&self, _: ReaderContext) -> Result<Box<dyn SplitReader>> {
        Err(Error::bug("planning only"))
    }
}

struct FakeSink(ChangelogMode);

impl Sink for FakeSink {
    fn changelog_mode(&self) -> ChangelogMode {
        self.0
    }
    fn writer(&self, _: SinkContext, _: Vec<bytes::Bytes>) -> Result<Box<dyn SinkWriter>> {
        Err(Error::bug("planning only"))
    }
}

const fn option(key: &'static str, required: bool) -> OptionSpec {
    OptionSpec { key, kind: "STRING", default: "", required, doc: "For tests." }
}

static NEXMARK: &[OptionSpec] =
    &[option("first-event.rate", false), option("next-event.rate", false), option("events.num", false)];
static FILES: &[OptionSpec] = &[option("path", true), option("source.replay-rate", false)];
static DATAGEN: &[OptionSpec] = &[option("rows-per-second", false), option("fields.#.min", false)];

impl ConnectorFactory for Fake {
    fn identifier(&self) -> &'static str {
        self.0
    }
    fn options(&self) -> &'static [OptionSpec] {
        match self.0 {
            "nexmark" => NEXMARK,
            "filesystem" => FILES,
            "datagen" => DATAGEN,
            _ => &[],
        }
    }
    fn metadata(&self, _: &BTreeMap<String, String>) -> Vec<(String, DataType)> {
        match self.0 {
            "filesystem" => vec![("file.name".to_owned(), TypeKind::STRING.not_null())],
            "kafka" | "upsert-kafka" => {
                let headers =
                    TypeKind::Map(Box::new(TypeKind::STRING.not_null()), Box::new(TypeKind::BYTES.nullable()));
                vec![
                    ("timestamp".to_owned(), TypeKind::TimestampLtz(3).not_null()),
                    ("offset".to_owned(), TypeKind::BigInt.not_null()),
                    ("headers".to_owned(), headers.not_null()),
                ]
            }
            _ => Vec::new(),
        }
    }
    fn source_mode(&self, _: &TableSpec) -> Result<ChangelogMode> {
        Ok(match self.0 {
            "upsert-kafka" => ChangelogMode::Upsert,
            "cdc" => ChangelogMode::Retract,
            _ => ChangelogMode::Append,
        })
    }
    fn lookup(&self, table: &TableSpec, keys: &[usize], _: &Configuration) -> Result<Arc<dyn LookupSource>> {
        match self.0 {
            "jdbc" => {
                assert!(!keys.is_empty() && keys.iter().all(|&k| k < table.columns.len()), "keys {keys:?}");
                Ok(Arc::new(FakeLookup))
            }
            other => Err(Error::user("table.not-a-lookup-source", format!("'{other}' cannot be asked by key"))),
        }
    }
    fn default_columns(&self) -> Option<Vec<Column>> {
        (self.0 == "nexmark").then(|| vec![Column::new("event_type", TypeKind::Int.nullable())])
    }
    fn source(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Source>> {
        match self.0 {
            "print" | "blackhole" => Err(Error::user("table.no-source", format!("{} cannot be read", table.name))),
            "filesystem" => Ok(Arc::new(FakeSource(Boundedness::Bounded))),
            _ => Ok(Arc::new(FakeSource(Boundedness::Unbounded))),
        }
    }
    fn sink(&self, table: &TableSpec, _: &Configuration) -> Result<Arc<dyn Sink>> {
        let metadata = table.columns.iter().position(|c| c.metadata_key.is_some()).unwrap_or(table.columns.len());
        assert!(table.columns[metadata..].iter().all(|c| c.metadata_key.is_some()), "metadata comes last");
        Ok(Arc::new(FakeSink(match self.0 {
            "blackhole" | "upsert-kafka" | "jdbc" => ChangelogMode::Upsert,
            "print" => ChangelogMode::Retract,
            _ => ChangelogMode::Append,
        })))
    }
}

struct FakeLookup;

impl LookupSource for FakeLookup {
    fn connect(&self, _: LookupContext) -> Result<Box<dyn Lookup>> {
        Err(Error::bug("planning only"))
    }
    fn options(&self) -> LookupOptions {
        LookupOptions::default()
    }
}

struct NoTransform;

impl SourceTransformFactory for NoTransform {
    fn create(&self) -> Result<Box<dyn SourceTransform>> {
        Err(Error::bug("planning only"))
    }
    fn has_watermarks(&self) -> bool {
        true
    }
}

fn transform(spec: &SourceTransformSpec) -> Result<Arc<dyn SourceTransformFactory>> {
    let width = spec.physical.len();
    for e in &spec.projection {
        e.visit_columns(&mut |i| assert!(i < width, "column {i} of {width}"));
    }
    if let Some((rowtime, e)) = &spec.watermark {
        assert!(*rowtime < spec.output.len(), "rowtime {rowtime}");
        e.visit_columns(&mut |i| assert!(i < spec.output.len(), "watermark column {i}"));
    }
    Ok(Arc::new(NoTransform))
}

/// Services with fake connectors.
pub fn services() -> PlanServices {
    let mut registry = Registry::default();
    for name in ["nexmark", "filesystem", "datagen", "print", "blackhole", "kafka", "upsert-kafka", "cdc", "jdbc"] {
        registry.register(Arc::new(Fake(name)));
    }
    PlanServices { registry, source_transform: transform }
}

/// The sink of a query.
pub fn collect(_: &QueryInfo) -> Arc<dyn Sink> {
    Arc::new(FakeSink(ChangelogMode::Retract))
}

/// Runs `setup`, which must work, then `script`; what the script's statements give, or their error.
pub fn run_after(setup: &str, script: &str) -> String {
    let mut session = Session::new(Configuration::new());
    let services = services();
    let mut before = String::new();
    assert!(run(&mut session, &services, setup, &mut before), "setup: {before}");
    let mut out = String::new();
    run(&mut session, &services, script, &mut out);
    out
}

/// Plans every statement; false when one failed.
fn run(session: &mut Session, services: &PlanServices, script: &str, out: &mut String) -> bool {
    let parsed = match session.parse_script(script) {
        Ok(p) => p,
        Err(e) => {
            out.push_str(&format!("ERROR {e}\n"));
            return false;
        }
    };
    for statement in parsed {
        match session.plan(&statement, services, &collect) {
            Ok(Planned::Done { .. }) => {}
            Ok(Planned::Rows { columns, rows }) => {
                let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
                if names != ["result"] {
                    out.push_str(&format!("{}\n", names.join(" | ")));
                }
                for row in rows {
                    let cells: Vec<&str> = row.iter().map(|c| c.as_deref().unwrap_or("NULL")).collect();
                    out.push_str(&format!("{}\n", cells.join(" | ")));
                }
            }
            Ok(Planned::Plan { text, warnings }) => {
                out.push_str(&format!("{text}\n"));
                warnings.iter().for_each(|w| out.push_str(&format!("warning: {w}\n")));
            }
            Ok(Planned::Job { graph, query, insert_tables, bounded, warnings }) => {
                graph.validate().expect("a planned job is valid");
                let what = query.map_or(insert_tables.join(", "), |q| format!("{:?} query", q.mode));
                let ends = if bounded { "bounded" } else { "unbounded" };
                out.push_str(&format!("job: {what}, {ends}, {} nodes\n", graph.nodes.len()));
                warnings.iter().for_each(|w| out.push_str(&format!("warning: {w}\n")));
            }
            Err(e) => {
                out.push_str(&format!("ERROR {e}\n"));
                return false;
            }
        }
    }
    true
}
