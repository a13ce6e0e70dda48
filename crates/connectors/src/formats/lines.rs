//! Formats of messages in files, one message a line. Never opens a file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use arrow_array::{ArrayRef, RecordBatch};
use flott_core::Result;
use flott_core::batch::{ChangeBatch, RowKinds};
use flott_core::types::Column;

use super::bulk::{BulkWriter, unwritten};
use super::message::{MessageDecoder, MessageEncoder, MessageFormat, Messages};
use super::{BadRecord, Block, Decoder, Progress};

/// Gives each line to the decoder of a message; empty lines are no messages.
pub(super) struct LineDecoder {
    messages: Box<dyn MessageDecoder>,
    ignores_errors: bool,
    /// A line may be empty and still a value.
    raw: bool,
    kinds: Option<RowKinds>,
}

impl LineDecoder {
    pub(super) fn new(format: &MessageFormat, columns: &[Column]) -> Result<Self> {
        let (messages, ignores_errors) = (format.decoder(columns)?, format.ignores_parse_errors());
        Ok(LineDecoder { messages, ignores_errors, raw: format.name() == "raw", kinds: None })
    }
}

impl Decoder for LineDecoder {
    fn decode(&mut self, block: Block<'_>) -> Result<Progress, BadRecord> {
        let Block { data, stop, rows_max, .. } = block;
        let mut done = Progress::default();
        let before = self.messages.rows();
        while done.rows < rows_max && done.consumed < stop && done.consumed < data.len() {
            let Some((line, next)) = block.line(done.consumed) else { break };
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if self.raw || !line.iter().all(u8::is_ascii_whitespace) {
                match self.messages.decode(line) {
                    Ok(()) => {}
                    Err(_) if self.ignores_errors => done.skipped += 1,
                    Err(bad) => return Err(BadRecord { line: done.lines, ..bad }),
                }
            }
            done.rows = self.messages.rows() - before;
            done.consumed += next;
            done.lines += 1;
        }
        Ok(done)
    }

    fn rows(&self) -> usize {
        self.messages.rows()
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        let decoded = self.messages.finish()?;
        self.kinds = decoded.kinds;
        Ok(decoded.columns)
    }

    fn kinds(&mut self) -> Option<RowKinds> {
        self.kinds.take()
    }
}

/// Writes a message a line.
struct LineWriter {
    encoder: Box<dyn MessageEncoder>,
    messages: Messages,
    path: String,
    file: BufWriter<File>,
    bytes: u64,
}

/// A writer of a file; its bytes need not be text.
pub(super) fn writer(
    format: &MessageFormat,
    file: File,
    path: &Path,
    columns: &[Column],
) -> Result<Box<dyn BulkWriter>> {
    Ok(Box::new(LineWriter {
        encoder: format.encoder(columns)?,
        messages: Messages::default(),
        path: path.display().to_string(),
        file: BufWriter::new(file),
        bytes: 0,
    }))
}

impl BulkWriter for LineWriter {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.messages.clear();
        self.encoder.encode(&ChangeBatch::append(rows.clone()), &mut self.messages)?;
        for row in 0..rows.num_rows() {
            // NULL has no bytes; its line is empty, as in Flink.
            let message = self.messages.get(row).unwrap_or_default();
            let written = self.file.write_all(message).and_then(|()| self.file.write_all(b"\n"));
            written.map_err(|e| unwritten(&self.path, e))?;
            self.bytes += message.len() as u64 + 1;
        }
        Ok(())
    }
    fn bytes(&self) -> u64 {
        self.bytes
    }
    fn finish(self: Box<Self>) -> Result<File> {
        let LineWriter { path, file, .. } = *self;
        file.into_inner().map_err(|e| unwritten(&path, e.error()))
    }
}

#[cfg(test)]
mod tests {
    use flott_core::types::TypeKind;

    use crate::testing::{decode, refused, sink, source, table};

    const COLUMNS: [(&str, TypeKind); 2] = [("a", TypeKind::Int), ("s", TypeKind::STRING)];

    fn of(format: &str) -> flott_core::registry::TableSpec {
        table(&COLUMNS, &[("connector", "filesystem"), ("path", "-"), ("format", format)])
    }

    #[test]
    fn each_line_is_a_message_in_blocks_of_any_size() {
        let text = br#"{"before":null,"after":{"a":1,"s":"x"},"op":"c"}

{"before":{"a":1,"s":"x"},"after":{"a":1,"s":"y"},"op":"u"}
{"before":{"a":1,"s":"y"},"after":null,"op":"d"}"#;
        let expected = ["+I[1, x]", "-U[1, x]", "+U[1, y]", "-D[1, y]"].map(str::to_owned).to_vec();
        for block in [1, 7, 60, 1000] {
            assert_eq!(decode(&of("debezium-json"), text, block).expect("a good text"), (expected.clone(), 0));
        }
        let raw = table(&COLUMNS[1..], &[("connector", "filesystem"), ("path", "-"), ("format", "raw")]);
        let lines = decode(&raw, b"one\r\n\ntwo", 2).expect("lines");
        assert_eq!(lines.0, ["+I[one]", "+I[]", "+I[two]"]);
    }

    #[test]
    fn a_bad_line_is_named_or_skipped() {
        let text = b"{\"after\":{\"a\":1},\"op\":\"c\"}\nnonsense\n";
        let bad = decode(&of("debezium-json"), text, 9).expect_err("bad");
        assert_eq!((bad.line, bad.skip_option), (1, "debezium-json.ignore-parse-errors"));
        let mut lenient = of("debezium-json");
        lenient.options.insert("debezium-json.ignore-parse-errors".into(), "true".into());
        assert_eq!(decode(&lenient, text, 9).expect("skipped"), (vec!["+I[1, null]".to_owned()], 1));
    }

    #[test]
    fn changes_are_read_and_not_written() {
        let mode = crate::testing::registry()
            .connector("t", &of("canal-json").options)
            .expect("there")
            .source_mode(&of("canal-json"));
        assert_eq!(mode.expect("a mode"), flott_core::sink::ChangelogMode::Retract);
        assert!(source(&of("maxwell-json")).is_ok());
        assert!(refused(sink(&of("debezium-json"))).to_string().contains("not written in the format 'debezium-json'"));
    }
}
