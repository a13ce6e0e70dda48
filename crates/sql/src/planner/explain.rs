//! EXPLAIN: operators as Flink writes them. Plans nothing.

use std::fmt::Write;

use flott_core::types::TypeKind;
use flott_plan::spec::{SortKey, WindowKind, WindowProperty};
use flott_plan::{Expr, ExprKind, Literal, Partitioner};

use super::over;
use super::physical::Phys;
use super::rel::{HintedTtl, Rel, RelAggregate, RelColumn, RelNode, Window};
use super::scan::inputs;
use crate::catalog::Table;

/// A scan with what its table adds.
fn scan_text(table: &Table, fields: &[usize]) -> String {
    let names: Vec<&str> = fields.iter().map(|&i| table.columns[i].name.as_str()).collect();
    let mut text = format!(
        "TableSourceScan(table=[[{}, {}, {}]], fields=[{}]",
        table.path.catalog,
        table.path.database,
        table.name,
        names.join(", ")
    );
    if !table.hinted.is_empty() {
        let _ = write!(text, ", hints=[OPTIONS({})]", table.hinted.trim_end());
    }
    if let Some((rowtime, watermark)) = &table.watermark {
        let columns: Vec<RelColumn> =
            table.columns.iter().map(|c| RelColumn::new(&c.name, c.data_type.clone())).collect();
        let (name, watermark) = (&table.columns[*rowtime].name, expr(watermark, &columns));
        let _ = write!(text, ", rowtime=[{name}], watermark=[{watermark}]");
    }
    text.push(')');
    text
}

/// One line about the operator of a relation.
pub(crate) fn describe(rel: &Rel) -> String {
    let below = inputs(rel);
    let input: &[RelColumn] = below.first().map_or(&[], |r| &r.columns);
    match &rel.node {
        RelNode::Scan { table, fields } => scan_text(table, fields),
        RelNode::Values { rows } => {
            let row = |r: &Vec<Expr>| {
                let cells: Vec<String> = r.iter().map(|e| expr(e, &[])).collect();
                format!("{{ {} }}", cells.join(", "))
            };
            let rows: Vec<String> = rows.iter().map(row).collect();
            format!("Values(tuples=[[{}]])", rows.join(", "))
        }
        RelNode::Calc { filter, projection, .. } => {
            let select = selected(projection, &rel.columns, input);
            match filter {
                Some(f) => format!("Calc(select=[{select}], where=[{}])", expr(f, input)),
                None => format!("Calc(select=[{select}])"),
            }
        }
        RelNode::Expand { projections, .. } => {
            let projects = projections.iter().map(|p| format!("{{{}}}", selected(p, &rel.columns, input)));
            format!("Expand(projects=[{}])", projects.collect::<Vec<_>>().join(", "))
        }
        RelNode::Window { window, .. } => format!("WindowTableFunction(window=[{}])", window_text(window, input)),
        RelNode::WindowAggregate { .. } => window_aggregate_text(rel, input),
        RelNode::Aggregate { group, aggregates, ttl, .. } => {
            let groups = names(group, input);
            let by = if groups.is_empty() { String::new() } else { format!("groupBy=[{groups}], ") };
            let hint = ttl_text(&[("FROM", *ttl)]);
            format!("GroupAggregate({by}select=[{}]{hint})", aggregated(group, aggregates, input, std::iter::empty()))
        }
        RelNode::Join { .. } => join_text(rel),
        RelNode::Repeat { count, .. } => format!("ReplicateRows(count=[{}])", input[*count].name),
        RelNode::Union { inputs } => {
            let select: Vec<&str> = rel.columns.iter().map(|c| c.name.as_str()).collect();
            format!("Union(all=[true], inputs=[{}], union=[{}])", inputs.len(), select.join(", "))
        }
        RelNode::LookupJoin { .. } => lookup_text(rel, input),
        RelNode::Correlate { .. } => super::correlate::text(rel, input),
        RelNode::Rank { .. } => rank_text(rel, input),
        RelNode::Over { .. } => over::describe(rel, input),
        RelNode::Match { spec, .. } => super::pattern::text(spec, rel, input),
        RelNode::Sort { keys, offset, limit, .. } => sort_text(keys, *offset, *limit, input),
    }
}

fn join_text(rel: &Rel) -> String {
    let RelNode::Join { left, right, kind, keys, condition, as_of, ttl } = &rel.node else { return String::new() };
    let kind = kind.name();
    let both: Vec<RelColumn> = left.columns.iter().chain(&right.columns).cloned().collect();
    let mut parts: Vec<String> =
        keys.iter().map(|(l, r)| format!("({} = {})", left.columns[*l].name, right.columns[*r].name)).collect();
    parts.extend(condition.iter().map(|c| expr(c, &both)));
    parts.extend(as_of.map(|a| {
        let (l, r) = (&left.columns[a.left_time].name, &right.columns[a.right_time].name);
        format!("__TEMPORAL_JOIN_CONDITION({l}, {r})")
    }));
    let on = if parts.is_empty() { "true".to_owned() } else { parts.join(" AND ") };
    let select: Vec<&str> = rel.columns.iter().map(|c| c.name.as_str()).collect();
    let name = if as_of.is_some() { "TemporalJoin" } else { "Join" };
    let hint = ttl_text(&[("LEFT", ttl.left), ("RIGHT", ttl.right)]);
    format!("{name}(joinType=[{kind}], where=[{on}], select=[{}]{hint})", select.join(", "))
}

/// What a STATE_TTL hint says, where there is one.
fn ttl_text(hints: &[(&str, HintedTtl)]) -> String {
    let given: Vec<String> = hints.iter().filter_map(|(k, ms)| ms.map(|ms| format!("{k}={ms} ms"))).collect();
    match given.is_empty() {
        true => String::new(),
        false => format!(", stateTtlHints=[[[STATE_TTL options:{{{}}}]]]", given.join(", ")),
    }
}

fn window_aggregate_text(rel: &Rel, input: &[RelColumn]) -> String {
    let RelNode::WindowAggregate { window, group, aggregates, properties, .. } = &rel.node else {
        return String::new();
    };
    let groups = names(group, input);
    let by = if groups.is_empty() { String::new() } else { format!("groupBy=[{groups}], ") };
    let properties = properties.iter().map(|p| property_name(*p).to_owned());
    let select = aggregated(group, aggregates, input, properties);
    format!("WindowAggregate({by}window=[{}], select=[{select}])", window_text(window, input))
}

fn lookup_text(rel: &Rel, input: &[RelColumn]) -> String {
    let RelNode::LookupJoin { table, kind, keys, condition, options, .. } = &rel.node else { return String::new() };
    let kind = kind.name();
    let on: Vec<String> =
        keys.iter().map(|(i, field)| format!("{}={}", table.columns[*field].name, input[*i].name)).collect();
    let mut text = format!("LookupJoin(table=[{}], joinType=[{kind}], lookup=[{}]", table.path, on.join(", "));
    if let Some(c) = condition {
        let _ = write!(text, ", joinCondition=[{}]", expr(c, &rel.columns));
    }
    if options.parallel {
        text.push_str(", async=[true]");
    }
    if let Some(retry) = options.retry_miss {
        let (delay, attempts) = (duration(retry.delay_ms), retry.max_attempts);
        let _ = write!(text, ", retry=[lookup_miss, FIXED_DELAY, {delay}, {attempts}]");
    }
    let select: Vec<&str> = rel.columns.iter().map(|c| c.name.as_str()).collect();
    let _ = write!(text, ", select=[{}])", select.join(", "));
    text
}

fn rank_text(rel: &Rel, input: &[RelColumn]) -> String {
    let RelNode::Rank { partition, order, limit, with_rank, .. } = &rel.node else { return String::new() };
    let range = limit.map_or("?".to_owned(), |n| format!("rankStart=1, rankEnd={n}"));
    let order: Vec<String> = order.iter().map(|k| order_text(k, input)).collect();
    let mut select: Vec<&str> = input.iter().map(|c| c.name.as_str()).collect();
    if *with_rank {
        select.push("w0$o0");
    }
    format!(
        "Rank(strategy=[?], rankType=[ROW_NUMBER], rankRange=[{range}], partitionBy=[{}], orderBy=[{}], select=[{}])",
        names(partition, input),
        order.join(", "),
        select.join(", ")
    )
}

pub(crate) fn sort_text(keys: &[SortKey], offset: u64, limit: Option<u64>, input: &[RelColumn]) -> String {
    let order: Vec<String> = keys.iter().map(|k| order_text(k, input)).collect();
    let mut parts = Vec::new();
    if !order.is_empty() {
        parts.push(format!("orderBy=[{}]", order.join(", ")));
    }
    if offset > 0 {
        parts.push(format!("offset=[{offset}]"));
    }
    if let Some(limit) = limit {
        parts.push(format!("fetch=[{limit}]"));
    }
    let name = match (keys.is_empty(), limit) {
        (true, _) => "Limit",
        (false, None) => "Sort",
        (false, Some(_)) => "SortLimit",
    };
    format!("{name}({})", parts.join(", "))
}

pub(crate) fn order_text(k: &SortKey, input: &[RelColumn]) -> String {
    let direction = if k.descending { "DESC" } else { "ASC" };
    let nulls = match (k.nulls_first, k.descending) {
        (true, true) => " NULLS FIRST",
        (false, false) => " NULLS LAST",
        _ => "",
    };
    format!("{} {direction}{nulls}", input[k.column].name)
}

fn selected(projection: &[Expr], columns: &[RelColumn], input: &[RelColumn]) -> String {
    let parts = projection.iter().zip(columns).map(|(e, c)| {
        let text = expr(e, input);
        if text == c.name { text } else { format!("{text} AS {}", c.name) }
    });
    parts.collect::<Vec<_>>().join(", ")
}

pub(crate) fn names(columns: &[usize], input: &[RelColumn]) -> String {
    columns.iter().map(|&i| input[i].name.as_str()).collect::<Vec<_>>().join(", ")
}

fn aggregated(
    group: &[usize],
    aggregates: &[RelAggregate],
    input: &[RelColumn],
    properties: impl Iterator<Item = String>,
) -> String {
    let mut parts: Vec<String> = group.iter().map(|&i| input[i].name.clone()).collect();
    for (i, a) in aggregates.iter().enumerate() {
        let name = a.user.as_ref().map_or(a.function.name(), |u| u.name.as_str());
        let more = a.more.iter().map(|c| input[*c].name.as_str());
        let args: Vec<&str> = a.arg.iter().map(|c| input[*c].name.as_str()).chain(more).collect();
        let arg = if args.is_empty() { "*".to_owned() } else { args.join(", ") };
        let distinct = if a.distinct { "DISTINCT " } else { "" };
        let filter = a.filter.map(|f| format!(" FILTER {}", input[f].name)).unwrap_or_default();
        parts.push(format!("{name}({distinct}{arg}){filter} AS EXPR${i}"));
    }
    parts.extend(properties);
    parts.join(", ")
}

fn property_name(p: WindowProperty) -> &'static str {
    match p {
        WindowProperty::Start => "window_start",
        WindowProperty::End => "window_end",
        WindowProperty::Time => "window_time",
    }
}

fn window_text(window: &Window, input: &[RelColumn]) -> String {
    let time = match window.time_attribute {
        super::rel::TimeAttribute::Rowtime => input[window.time].name.clone(),
        super::rel::TimeAttribute::Proctime => "PROCTIME()".to_owned(),
    };
    let offset = |ms: i64| if ms == 0 { String::new() } else { format!(", offset=[{}]", duration(ms)) };
    match window.kind {
        WindowKind::Tumble { size_ms, offset_ms } => {
            format!("TUMBLE(time_col=[{time}], size=[{}]{})", duration(size_ms), offset(offset_ms))
        }
        WindowKind::Hop { size_ms, slide_ms, offset_ms } => format!(
            "HOP(time_col=[{time}], size=[{}], slide=[{}]{})",
            duration(size_ms),
            duration(slide_ms),
            offset(offset_ms)
        ),
        WindowKind::Cumulate { size_ms, step_ms, offset_ms } => format!(
            "CUMULATE(time_col=[{time}], max_size=[{}], step=[{}]{})",
            duration(size_ms),
            duration(step_ms),
            offset(offset_ms)
        ),
        WindowKind::Attached => format!("ATTACHED(win_end=[{time}])"),
        WindowKind::Session { gap_ms } => {
            let by = if window.partition.is_empty() {
                String::new()
            } else {
                format!(", partition keys=[{}]", names(&window.partition, input))
            };
            format!("SESSION(time_col=[{time}], gap=[{}]{by})", duration(gap_ms))
        }
    }
}

pub(crate) fn duration(ms: i64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    match units.into_iter().find(|(u, _)| ms != 0 && ms % u == 0) {
        Some((u, name)) => format!("{} {name}", ms / u),
        None => format!("{ms} ms"),
    }
}

/// An expression with the names of its columns.
pub(crate) fn expr(e: &Expr, columns: &[RelColumn]) -> String {
    let text = |e: &Expr| expr(e, columns);
    match &e.kind {
        ExprKind::Column(i) => columns.get(*i).map_or(format!("${i}"), |c| c.name.clone()),
        ExprKind::Literal(l) => literal(l, &e.data_type.kind),
        ExprKind::Field(inner, i) => match &inner.data_type.kind {
            TypeKind::Row(fields) => format!("{}.{}", text(inner), fields[*i].0),
            _ => format!("{}.{i}", text(inner)),
        },
        ExprKind::Cast { input, safe } => {
            format!("{}({} AS {})", if *safe { "TRY_CAST" } else { "CAST" }, text(input), e.data_type.kind)
        }
        ExprKind::Call { function, args } => match args.as_slice() {
            [a, b]
                if !function.contains(char::is_alphabetic)
                    || matches!(function.as_str(), "AND" | "OR" | "LIKE" | "NOT LIKE") =>
            {
                format!("({} {function} {})", text(a), text(b))
            }
            [a] if function.starts_with("IS ") => format!("{} {function}", text(a)),
            [a, b] if function.starts_with("IS ") => format!("({} {function} {})", text(a), text(b)),
            args => format!("{function}({})", args.iter().map(text).collect::<Vec<_>>().join(", ")),
        },
        ExprKind::User { function, args } => {
            format!("{}({})", function.name, args.iter().map(text).collect::<Vec<_>>().join(", "))
        }
        ExprKind::Case { branches, otherwise } => {
            let mut out = "CASE".to_owned();
            for (c, v) in branches {
                let _ = write!(out, " WHEN {} THEN {}", text(c), text(v));
            }
            if let Some(o) = otherwise {
                let _ = write!(out, " ELSE {}", text(o));
            }
            out + " END"
        }
    }
}

fn literal(l: &Literal, kind: &TypeKind) -> String {
    match (l, kind) {
        (Literal::Int(ms), TypeKind::IntervalDayTime) => format!("{ms}:INTERVAL MILLISECOND"),
        (Literal::Int(months), TypeKind::IntervalYearMonth) => format!("{months}:INTERVAL MONTH"),
        (Literal::Decimal(d), TypeKind::Decimal(_, scale)) => {
            let mut out = String::new();
            flott_core::text::format_decimal(*d, *scale, &mut out);
            out
        }
        (Literal::Int(days), TypeKind::Date) => {
            let mut out = String::new();
            flott_core::text::format_date(*days, &mut out);
            out
        }
        (Literal::Int(value), TypeKind::Timestamp(p)) => {
            let mut out = String::new();
            flott_core::text::format_timestamp(*value, *p, &mut out);
            out
        }
        (l, _) => l.to_string(),
    }
}

/// The tree below a sink, or a query's own.
pub(crate) fn tree(roots: &[(String, Phys, Partitioner)], changelog: bool) -> String {
    let mut out = String::from("== Optimized Execution Plan ==\n");
    for (i, (sink, phys, partitioner)) in roots.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let mode = if changelog { ", changelogMode=[NONE]" } else { "" };
        out.push_str(&with_mode(sink, mode));
        out.push('\n');
        node(&mut out, phys, partitioner, ("", true), changelog);
    }
    out.truncate(out.trim_end().len());
    out
}

/// The mode inside the last parenthesis.
fn with_mode(text: &str, mode: &str) -> String {
    match text.strip_suffix(')') {
        Some(head) => format!("{head}{mode})"),
        None if mode.is_empty() => text.to_owned(),
        None => format!("{text}({})", mode.trim_start_matches(", ")),
    }
}

fn node(out: &mut String, phys: &Phys, partitioner: &Partitioner, place: (&str, bool), changelog: bool) {
    let mode = if changelog { format!(", changelogMode={}", phys.changes.text()) } else { String::new() };
    let exchange = match partitioner {
        Partitioner::Hash(keys) => Some(format!("hash[{}]", names(keys, &phys.columns))),
        Partitioner::Global => Some("single".to_owned()),
        Partitioner::Rebalance => Some("rebalance".to_owned()),
        Partitioner::Broadcast => Some("broadcast".to_owned()),
        Partitioner::Forward => None,
    };
    let (prefix, last) = place;
    let corner = if last { "+- " } else { ":- " };
    let mut below = format!("{prefix}{}", if last { "   " } else { ":  " });
    match exchange {
        Some(e) => {
            let _ = writeln!(out, "{prefix}{corner}Exchange(distribution=[{e}]{mode})");
            let _ = writeln!(out, "{below}+- {}", with_mode(&phys.text, &mode));
            below.push_str("   ");
        }
        None => {
            let _ = writeln!(out, "{prefix}{corner}{}", with_mode(&phys.text, &mode));
        }
    }
    let count = phys.inputs.len();
    for (i, (input, p)) in phys.inputs.iter().enumerate() {
        node(out, input, p, (&below, i + 1 == count), changelog);
    }
}
