//! What EXPLAIN shows beside the plan: advice, costs, the job as JSON. Plans nothing.

use std::fmt::Write;

use flott_plan::{Partitioner, StreamGraph};

/// The plan's text with the remarks of PLAN_ADVICE.
pub(crate) fn with_advice(mut text: String, warnings: &[String]) -> String {
    if warnings.is_empty() {
        text.push_str("\n\nNo available advice...");
        return text;
    }
    text.push('\n');
    for (i, warning) in warnings.iter().enumerate() {
        let _ = write!(text, "\nadvice[{}]: [WARNING] {warning}", i + 1);
    }
    text
}

/// The job as JSON, in the form of Flink's JSON_EXECUTION_PLAN.
pub(crate) fn json(graph: &StreamGraph) -> String {
    let mut out = String::from("{\n  \"nodes\" : [ ");
    for (i, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<_> = graph.edges.iter().filter(|e| e.to.0 == i).collect();
        let pact = if inputs.is_empty() { "Data Source" } else { "Operator" };
        let name = quoted(&node.name);
        let _ = write!(out, "{}{{\n    \"id\" : {},\n    \"type\" : {name},\n", if i > 0 { ", " } else { "" }, i + 1);
        let parallelism = node.parallelism.map_or("null".to_owned(), |p| p.to_string());
        let _ =
            write!(out, "    \"pact\" : \"{pact}\",\n    \"contents\" : {name},\n    \"parallelism\" : {parallelism}");
        if !inputs.is_empty() {
            let side = if inputs.len() == 1 { "\"second\"" } else { "\"first\"" };
            let input = |e: &&flott_plan::StreamEdge| {
                let strategy = match &e.partitioner {
                    Partitioner::Forward => "FORWARD",
                    Partitioner::Hash(_) => "HASH",
                    Partitioner::Rebalance => "REBALANCE",
                    Partitioner::Broadcast => "BROADCAST",
                    Partitioner::Global => "GLOBAL",
                };
                let id = e.from.0 + 1;
                format!(
                    "{{\n      \"id\" : {id},\n      \"ship_strategy\" : \"{strategy}\",\n      \"side\" : {side}\n    }}"
                )
            };
            let inputs: Vec<String> = inputs.iter().map(input).collect();
            let _ = write!(out, ",\n    \"predecessors\" : [ {} ]", inputs.join(", "));
        }
        out.push_str("\n  }");
    }
    out.push_str(" ]\n}");
    out
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
