//! Sources, sinks and formats, and the one function that makes them known; never plans and never runs a job.

mod base64;
pub mod collect;
pub mod columns;
pub mod contract;
pub mod datagen;
#[cfg(feature = "elasticsearch")]
pub mod elasticsearch;
pub mod filesystem;
#[cfg(any(feature = "jdbc", feature = "elasticsearch"))]
pub mod flusher;
pub mod formats;
#[cfg(any(feature = "elasticsearch", feature = "avro"))]
mod http;
#[cfg(feature = "jdbc")]
pub mod jdbc;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod nexmark;
pub mod options;
pub mod pace;
pub mod print;
#[cfg(test)]
mod testing;
pub mod text;
mod wire;

use std::fmt::Write;
use std::sync::Arc;

use flott_core::registry::Registry;

pub use collect::{CollectHandle, CollectSink, CollectionSource};
pub use print::{BlackholeSink, PrintSink};

/// Makes all connectors of this crate known.
pub fn register_all(registry: &mut Registry) {
    registry.register(Arc::new(filesystem::FilesystemFactory));
    registry.register(Arc::new(datagen::DatagenFactory));
    registry.register(Arc::new(nexmark::NexmarkFactory));
    nexmark::functions::register(registry);
    registry.register(Arc::new(print::PrintFactory));
    registry.register(Arc::new(print::BlackholeFactory));
    #[cfg(feature = "kafka")]
    kafka::register(registry);
    #[cfg(feature = "jdbc")]
    jdbc::register(registry);
    #[cfg(feature = "elasticsearch")]
    elasticsearch::register(registry);
}

/// The options of connectors and formats as a page of documentation, from the tables that check them.
pub fn options_markdown() -> String {
    let mut registry = Registry::default();
    register_all(&mut registry);
    let connectors = registry.names().into_iter().filter_map(|name| {
        let options = [("connector".to_owned(), name.to_owned())].into();
        let factory = registry.connector(name, &options).ok()?;
        Some((format!("Connector `{name}`"), factory.options()))
    });
    let formats = formats::TABLES.iter().map(|(name, options)| (format!("Format `{name}`"), *options));
    let of_files = formats::FILE_TABLES.iter().map(|(name, options)| (format!("Format `{name}` of files"), *options));
    let mut out = String::from("# Options of connectors and formats\n");
    for (title, options) in connectors.chain(formats).chain(of_files).filter(|(_, options)| !options.is_empty()) {
        write!(out, "\n## {title}\n\n| option | type | default | meaning |\n|---|---|---|---|\n")
            .expect("strings accept text");
        for o in options {
            let default = match (o.required, o.default) {
                (true, _) => "required".to_owned(),
                (false, "") => "none".to_owned(),
                (false, d) => format!("`{d}`"),
            };
            let kind = o.kind.replace('|', "\\|");
            writeln!(out, "| `{}` | {kind} | {default} | {} |", o.key, o.doc).expect("strings accept text");
        }
    }
    out.push_str("\nThe connector `blackhole` has no options.\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_lists_every_option_of_every_connector() {
        let mut registry = Registry::default();
        register_all(&mut registry);
        let page = options_markdown();
        for name in registry.names() {
            let options = [("connector".to_owned(), name.to_owned())].into();
            for option in registry.connector("t", &options).expect("it was registered").options() {
                assert!(page.contains(&format!("`{}`", option.key)), "{} of {name} is missing", option.key);
            }
        }
    }
}
