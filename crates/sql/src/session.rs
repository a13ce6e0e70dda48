//! A session: catalog, options, and what each statement comes to. Runs no job.

use std::collections::VecDeque;
use std::sync::Arc;

use flott_core::config::{Configuration, Notice, keys};
use flott_core::function::Function;
use flott_core::registry::Registry;
use flott_core::sink::{ChangelogMode, Sink};
use flott_core::source::SourceTransformFactory;
use flott_core::types::Column;
use flott_core::{Error, Result};
use flott_plan::spec::{OperatorSpec, SourceTransformSpec};
use flott_plan::{Partitioner, StreamGraph};

use crate::binder::QueryBinder;
use crate::catalog::{Catalog, CatalogObject, Table};
use crate::diag::place;
use crate::functions::{Context, Functions};
use crate::parser::ast::{ExplainDetails, Insert, ParsedStatement, Statement};
use crate::parser::parse_script;
use crate::planner::graph::GraphBuilder;
use crate::planner::physical::{Phys, PhysKind, PhysicalPlanner, updating_node};
use crate::planner::rel::{Rel, plan_columns};
use crate::planner::sink::upserts;
use crate::planner::{advice, explain, insert, optimise, pattern, prune, scan};
use crate::show::{self, strings};

/// What planning needs from the rest of the process.
#[derive(Clone)]
pub struct PlanServices {
    /// The connectors.
    pub registry: Registry,
    /// Makes the transform of a source: computed columns and watermarks.
    pub source_transform: fn(&SourceTransformSpec) -> Result<Arc<dyn SourceTransformFactory>>,
}

/// What a query gives back.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryInfo {
    /// Columns of the result.
    pub columns: Vec<Column>,
    /// Which changes the result holds.
    pub mode: ChangelogMode,
    /// The session's zone, in which instants are shown (`table.local-time-zone`).
    pub zone: String,
}

/// What a statement comes to.
pub enum Planned {
    /// It is done: DDL, SET, RESET.
    Done {
        /// A sentence for the user.
        message: Option<String>,
        /// What SET had to say.
        notices: Vec<Notice>,
    },
    /// Rows that are there already: SHOW, DESCRIBE, EXPLAIN, SET without arguments.
    Rows {
        /// The columns: STRING, but for flags.
        columns: Vec<Column>,
        /// The rows; `None` is NULL.
        rows: Vec<Vec<Option<String>>>,
    },
    /// EXPLAIN.
    Plan {
        /// The plan, and what was asked for beside it.
        text: String,
        /// What the user should know of the job, unless the text says so.
        warnings: Vec<String>,
    },
    /// A job to run.
    Job {
        /// The job.
        graph: StreamGraph,
        /// For SELECT: its result, which goes to the caller's sink.
        query: Option<QueryInfo>,
        /// Tables written.
        insert_tables: Vec<String>,
        /// Whether it ends by itself.
        bounded: bool,
        /// What the user should know.
        warnings: Vec<String>,
    },
}

/// The statements of a script, in order.
#[derive(Clone, Debug)]
pub struct Script {
    statements: VecDeque<ParsedStatement>,
}

impl Script {
    /// The next statement.
    pub fn next_statement(&mut self) -> Result<Option<ParsedStatement>> {
        Ok(self.statements.pop_front())
    }
}

impl Iterator for Script {
    type Item = ParsedStatement;
    fn next(&mut self) -> Option<ParsedStatement> {
        self.statements.pop_front()
    }
}

/// Catalog and options of one user.
#[derive(Clone, Debug)]
pub struct Session {
    pub(crate) catalog: Catalog,
    pub(crate) functions: Functions,
    pub(crate) config: Configuration,
    initial: Configuration,
}

/// A root of a job: what it feeds, its operators, how rows get there.
struct Root {
    label: String,
    phys: Phys,
    partitioner: Partitioner,
    parallelism: Option<u32>,
    /// What binding it had to say.
    notices: Vec<String>,
}

impl Session {
    /// A session with an empty catalog. RESET goes back to `config`.
    pub fn new(config: Configuration) -> Self {
        Session { catalog: Catalog::default(), functions: Functions::default(), initial: config.clone(), config }
    }

    /// The session's options.
    pub fn config(&self) -> &Configuration {
        &self.config
    }

    /// The session's options, to be changed by a program. RESET does not know of such changes.
    pub fn config_mut(&mut self) -> &mut Configuration {
        &mut self.config
    }

    /// Tables and views.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Makes a function known to SQL; it hides a built-in function of the name.
    pub fn create_temporary_function(&mut self, name: &str, function: Function) {
        self.functions.insert(name, function, None);
    }

    /// Names of all functions, built-in ones in small letters.
    pub fn function_names(&self) -> Vec<String> {
        let mut names = show::builtin_functions();
        names.extend(self.functions.names());
        names
    }

    /// Forgets a function; whether there was one.
    pub fn drop_temporary_function(&mut self, name: &str) -> bool {
        self.functions.remove(name)
    }

    /// The statements of a script. A syntax error anywhere is reported before anything runs.
    pub fn parse_script(&self, text: &str) -> Result<Script> {
        Ok(Script { statements: parse_script(text)?.into() })
    }

    /// Carries out a statement, or plans its job. `collect` makes the sink of a SELECT's result.
    pub fn plan(
        &mut self,
        statement: &ParsedStatement,
        services: &PlanServices,
        collect: &dyn Fn(&QueryInfo) -> Arc<dyn Sink>,
    ) -> Result<Planned> {
        let context = Context { functions: self.functions.clone(), database: self.catalog.home.database.clone() };
        let planned = context.during(|| self.statement(&statement.kind, services, collect));
        planned.map_err(|e| e.at(statement.position))
    }

    fn statement(
        &mut self,
        statement: &Statement,
        services: &PlanServices,
        collect: &dyn Fn(&QueryInfo) -> Arc<dyn Sink>,
    ) -> Result<Planned> {
        self.catalog.dynamic_options = self.config.bool(keys::DYNAMIC_TABLE_OPTIONS);
        match statement {
            Statement::CreateTable(create) => self.create_table(create, services),
            Statement::CreateView(_)
            | Statement::CreateDatabase { .. }
            | Statement::CreateCatalog { .. }
            | Statement::CreateFunction(_)
            | Statement::AlterTable { .. }
            | Statement::AlterView { .. }
            | Statement::AlterDatabase { .. }
            | Statement::Drop(_)
            | Statement::Use { .. } => self.define(statement, services),
            Statement::Set(None) => {
                let rows = self.config.iter_redacted().map(|(k, v)| vec![Some(k.to_owned()), Some(v.to_owned())]);
                Ok(Planned::Rows { columns: strings(&["key", "value"]), rows: rows.collect() })
            }
            Statement::Set(Some((key, value))) => {
                let notices = self.config.set(key, value)?;
                Ok(Planned::Done { message: None, notices })
            }
            Statement::Reset(None) => {
                self.config = self.initial.clone();
                Ok(Planned::Done { message: None, notices: Vec::new() })
            }
            Statement::Reset(Some(key)) => {
                self.config.reset(key)?;
                let before = self.initial.raw(key).map(str::to_owned);
                let notices = before.map(|v| self.config.set(key, &v)).transpose()?.unwrap_or_default();
                Ok(Planned::Done { message: None, notices })
            }
            Statement::Show(what) => show::show(&self.catalog, &self.functions, what),
            Statement::Describe(path) => show::describe(&self.catalog, path),
            Statement::Explain { details, statement } => self.explain(statement, *details, services, collect),
            Statement::Query(_) | Statement::Insert(_) | Statement::Inserts(_) => {
                self.job_of(statement, services, collect)
            }
        }
    }

    fn job_of(
        &self,
        statement: &Statement,
        services: &PlanServices,
        collect: &dyn Fn(&QueryInfo) -> Arc<dyn Sink>,
    ) -> Result<Planned> {
        match statement {
            Statement::Query(_) => self.query_job(self.roots(statement, services)?, services, collect),
            Statement::Insert(i) => self.insert_job(std::slice::from_ref(i), services),
            Statement::Inserts(inserts) => self.insert_job(inserts, services),
            _ => Err(Error::bug("not a job")),
        }
    }

    /// The optimised relations of the parts of a job, scans shared between them.
    fn relations(&self, rels: Vec<Rel>) -> Vec<Rel> {
        let rels: Vec<Rel> = rels.into_iter().map(|r| prune::prune(optimise::optimise(r))).collect();
        let mut columns = scan::ScanColumns::new();
        rels.iter().for_each(|r| scan::collect(r, &mut columns));
        rels.into_iter().map(|r| scan::widen(r, &columns)).collect()
    }

    /// The roots of a job: of a query one, of a statement set one per INSERT.
    fn roots(&self, statement: &Statement, services: &PlanServices) -> Result<Vec<Root>> {
        let planner = PhysicalPlanner { config: &self.config, services };
        match statement {
            Statement::Query(query) => {
                let mut binder = QueryBinder::new(&self.catalog);
                let rel = binder.query(query)?;
                let rel = self.relations(vec![rel]).pop().ok_or_else(|| Error::bug("a query vanished"))?;
                let mut phys = planner.build(&rel, true)?;
                if let Some((columns, drop)) = insert::not_null_results(&phys.columns, &self.config) {
                    phys = enforced(phys, columns, drop);
                }
                let names: Vec<&str> = rel.columns.iter().map(|c| c.name.as_str()).collect();
                let label = format!("Sink(table=[*collect*], fields=[{}])", names.join(", "));
                let parallelism = phys.parallelism;
                let (partitioner, notices) = (Partitioner::Forward, binder.notices);
                Ok(vec![Root { label, phys, partitioner, parallelism, notices }])
            }
            Statement::Insert(i) => self.insert_roots(std::slice::from_ref(i), &planner, services),
            Statement::Inserts(inserts) => self.insert_roots(inserts, &planner, services),
            _ => Err(Error::bug("not a job")),
        }
    }

    fn insert_roots(
        &self,
        inserts: &[Insert],
        planner: &PhysicalPlanner<'_>,
        services: &PlanServices,
    ) -> Result<Vec<Root>> {
        let (mut rels, mut notices) = (Vec::new(), Vec::new());
        for i in inserts {
            let table = self.sink_table(i)?;
            let mut binder = QueryBinder::new(&self.catalog);
            let rel = binder.query(&i.query)?;
            rels.push(insert::fit(rel, &table, i)?);
            notices.push(binder.notices);
        }
        let rels = self.relations(rels);
        let root = |((i, rel), notices): ((&Insert, Rel), Vec<String>)| {
            Ok(Root { notices, ..self.insert_root(i, &rel, planner, services)? })
        };
        inserts.iter().zip(rels).zip(notices).map(root).collect()
    }

    fn sink_table(&self, i: &Insert) -> Result<Arc<Table>> {
        match self.catalog.get(&i.table)? {
            CatalogObject::Table(t) => self.catalog.hinted(t, &i.table),
            CatalogObject::View(v) => {
                let error = Error::user("sql.insert", format!("`{}` is a view and cannot be written", v.name));
                Err(place(error, i.table.position))
            }
        }
    }

    fn insert_root(
        &self,
        i: &Insert,
        rel: &Rel,
        planner: &PhysicalPlanner<'_>,
        services: &PlanServices,
    ) -> Result<Root> {
        let table = &*self.sink_table(i)?;
        let builder = GraphBuilder::new(services, &self.config, planner.zone());
        // First as if updates were wanted in full: the sink says what it takes.
        let mut phys = planner.build(rel, true)?;
        let sink = builder.table_sink(table, &phys).map_err(|e| place(e, i.table.position))?;
        match sink.changelog_mode() {
            ChangelogMode::Append if !phys.changes.is_append() => {
                let message = format!(
                    "Table sink '{}' doesn't support consuming update changes which is produced by node {}",
                    table.path,
                    updating_node(&phys)
                );
                let error = Error::user("sql.update-sink", message)
                    .hint("write to a sink that takes updates, or aggregate in windows, whose results are final");
                return Err(place(error, i.table.position));
            }
            ChangelogMode::Upsert => phys = upserts(planner, rel, table)?,
            _ => {}
        }
        if let Some((columns, drop)) = insert::not_null_columns(table, &phys.columns, &self.config) {
            phys = enforced(phys, columns, drop);
        }
        let wanted: Option<u32> = table.options.get("sink.parallelism").and_then(|p| p.parse().ok());
        let (partitioner, parallelism) = match wanted {
            Some(n) if phys.parallelism != Some(n) && !phys.changes.is_append() => {
                let Some(keys) = sink_key(table) else {
                    let message = format!("'sink.parallelism' of `{}` would mix up the order of updates", table.name);
                    let error = Error::user("table.option", message).hint("declare a PRIMARY KEY … NOT ENFORCED");
                    return Err(place(error, i.table.position));
                };
                (Partitioner::Hash(keys), Some(n))
            }
            Some(n) => (Partitioner::Forward, Some(n)),
            None => (Partitioner::Forward, phys.parallelism),
        };
        let names: Vec<&str> = phys.columns.iter().map(|c| c.name.as_str()).collect();
        let label = format!("Sink(table=[{}], fields=[{}])", table.path, names.join(", "));
        Ok(Root { label, phys, partitioner, parallelism, notices: Vec::new() })
    }

    fn query_job(
        &self,
        roots: Vec<Root>,
        services: &PlanServices,
        collect: &dyn Fn(&QueryInfo) -> Arc<dyn Sink>,
    ) -> Result<Planned> {
        let zone = PhysicalPlanner { config: &self.config, services }.zone();
        let mut builder = GraphBuilder::new(services, &self.config, zone.clone());
        let Some(root) = roots.into_iter().next() else { return Err(Error::bug("a query without a root")) };
        let mut warnings = root.notices;
        pattern::warnings(&root.phys, &mut warnings);
        advice::updates(&root.phys, None, "whoever reads the result", &mut warnings);
        let columns = named_once(plan_columns(&root.phys.columns));
        let info = QueryInfo { columns, mode: root.phys.changes.mode(), zone };
        let sink = collect(&info);
        builder.sink("Sink: collect".to_owned(), sink, &root.phys, root.partitioner, root.parallelism)?;
        let GraphBuilder { graph, bounded, warnings: of_state, .. } = builder;
        warnings.extend(of_state);
        Ok(Planned::Job { graph, query: Some(info), insert_tables: Vec::new(), bounded, warnings })
    }

    pub(crate) fn insert_job(&self, inserts: &[Insert], services: &PlanServices) -> Result<Planned> {
        let planner = PhysicalPlanner { config: &self.config, services };
        let roots = self.insert_roots(inserts, &planner, services)?;
        let mut builder = GraphBuilder::new(services, &self.config, planner.zone());
        let mut insert_tables = Vec::new();
        let mut warnings = Vec::new();
        for (i, root) in inserts.iter().zip(roots) {
            warnings.extend(root.notices);
            pattern::warnings(&root.phys, &mut warnings);
            let table = self.sink_table(i)?;
            let sink = builder.table_sink(&table, &root.phys).map_err(|e| place(e, i.table.position))?;
            let name = format!("Sink: {}", table.name);
            let key = sink_key(&table).filter(|_| sink.changelog_mode() == ChangelogMode::Upsert);
            advice::updates(&root.phys, key.as_deref(), &format!("the sink `{}`", table.path), &mut warnings);
            builder
                .sink(name, sink, &root.phys, root.partitioner, root.parallelism)
                .map_err(|e| place(e, i.table.position))?;
            insert_tables.push(table.path.to_string());
        }
        if builder.graph.name.is_none() {
            builder.graph.name = Some(format!("insert-into_{}", insert_tables.join(",")));
        }
        let GraphBuilder { graph, bounded, warnings: of_state, .. } = builder;
        warnings.extend(of_state);
        Ok(Planned::Job { graph, query: None, insert_tables, bounded, warnings })
    }

    fn explain(
        &self,
        statement: &Statement,
        details: ExplainDetails,
        services: &PlanServices,
        collect: &dyn Fn(&QueryInfo) -> Arc<dyn Sink>,
    ) -> Result<Planned> {
        let roots = self.roots(statement, services)?;
        let roots: Vec<_> = roots.into_iter().map(|r| (r.label, r.phys, r.partitioner)).collect();
        let mut text = explain::tree(&roots, details.changelog_mode);
        if details.estimated_cost {
            text.push_str("\n\nCosts are not known: tables have no statistics.");
        }
        let job = self.job_of(statement, services, collect);
        let (graph, mut warnings) = match job {
            Ok(Planned::Job { graph, warnings, .. }) => (graph, warnings),
            // A plan is shown also of what could not run.
            Err(_) if !details.plan_advice && !details.json_execution_plan => {
                return Ok(Planned::Plan { text, warnings: Vec::new() });
            }
            Err(e) => return Err(e),
            Ok(_) => return Err(Error::bug("a statement that is no job was explained")),
        };
        if details.plan_advice {
            text = crate::explain::with_advice(text, &std::mem::take(&mut warnings));
        }
        if details.json_execution_plan {
            text = format!("{text}\n\n== Physical Execution Plan ==\n{}", crate::explain::json(&graph));
        }
        Ok(Planned::Plan { text, warnings })
    }
}

/// The primary key of a table, as columns that a sink is given.
fn sink_key(table: &Table) -> Option<Vec<usize>> {
    let columns = table.sink_columns();
    let key: Vec<usize> = table.primary_key.iter().filter_map(|k| columns.iter().position(|c| c == k)).collect();
    Some(key).filter(|k| !k.is_empty())
}

/// The NOT NULL check before a sink.
fn enforced(phys: Phys, columns: Vec<(usize, String)>, drop: bool) -> Phys {
    let names: Vec<&str> = columns.iter().map(|c| c.1.as_str()).collect();
    let text = format!("ConstraintEnforcer(NotNullEnforcer(fields=[{}]))", names.join(", "));
    let mut out = phys.columns.clone();
    for (i, _) in &columns {
        out[*i].data_type.nullable = false;
    }
    let (changes, parallelism) = (phys.changes, phys.parallelism);
    let kind = PhysKind::Spec(OperatorSpec::NotNullEnforcer { columns, drop });
    Phys { kind, inputs: vec![(phys, Partitioner::Forward)], columns: out, changes, parallelism, text }
}

/// Names that occur before get a number, as in Flink: `id`, `id0`, `id1`.
fn named_once(mut columns: Vec<Column>) -> Vec<Column> {
    for i in 1..columns.len() {
        let taken = |name: &str| columns[..i].iter().any(|c| c.name == name);
        if taken(&columns[i].name) {
            let numbered = (0..=i).map(|n| format!("{}{n}", columns[i].name));
            columns[i].name = numbered.into_iter().find(|name| !taken(name)).unwrap_or_default();
        }
    }
    columns
}
