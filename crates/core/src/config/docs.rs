//! The options page, rendered from the option table.

use std::fmt::Write;

use super::known::Table;
use super::options::{OPTIONS, OptionDef, Status, ValueRule};
use super::value::OptionKind;

/// The options page as Markdown.
pub fn docs_markdown() -> String {
    let mut page = String::with_capacity(64 * 1024);
    page.push_str("# Options\n\nGenerated from the option table; do not edit.\n\n");
    page.push_str(
        "Keys, types and defaults are Flink's; keys that begin with `flott.` are Flott's own. \
         Durations: `10 s`, `1min`, `500 ms`; a bare number is milliseconds. ",
    );
    page.push_str("Sizes: `64 mb`, `1728m`; a bare number is bytes. An unknown key is an error.\n\n");
    page.push_str("## Options that work\n\n| key | type | default | meaning |\n|---|---|---|---|\n");
    for option in OPTIONS.iter().filter(|o| o.status == Status::Works) {
        row(&mut page, option);
    }
    page.push_str("\n## Options that Flink knows and that have no effect here\n\nThey are accepted with a notice.\n\n");
    page.push_str("| key | why |\n|---|---|\n");
    for option in Table::get().without_meaning() {
        let why = match option.status {
            Status::Works => continue,
            Status::Notice(why) => why.to_owned(),
            Status::Refused(why) => format!("**refused**: {why}"),
        };
        cells(&mut page, &[&format!("`{}`", option.key), &why]);
    }
    page
}

fn row(page: &mut String, option: &OptionDef) {
    let kind = match option.kind {
        OptionKind::Enum(names) => names.join(" \\| "),
        other => other.name().to_owned(),
    };
    let mut doc = option.doc.to_owned();
    for rule in option.values {
        let _ = match rule {
            ValueRule::Refuse(value, why) => write!(doc, " `{value}` is refused: {why}."),
            ValueRule::Former(value, now) => write!(doc, " `{value}` is a former name of `{now}`."),
            ValueRule::Note(value, what) => write!(doc, " With `{value}`: {what}."),
        };
    }
    if !option.deprecated.is_empty() {
        let _ = write!(doc, " Former names: `{}`.", option.deprecated.join("`, `"));
    }
    cells(page, &[&format!("`{}`", option.key), &kind, option.default.unwrap_or("(none)"), &doc]);
}

fn cells(page: &mut String, cells: &[&str]) {
    let _ = writeln!(page, "| {} |", cells.join(" | "));
}
