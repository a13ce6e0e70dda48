//! JSON and csv as messages: the decoders and encoders of files, a message at a time; never looks for line ends in JSON.

use flott_core::Result;
use flott_core::batch::{ChangeBatch, RowKind};
use flott_core::types::Column;

use super::dialect::{ChangelogOptions, Dialect};
use super::{Decoded, MessageDecoder, MessageEncoder, Messages};
use crate::formats::csv::CsvDecoder;
use crate::formats::csv_encode::CsvEncoder;
use crate::formats::json::JsonDecoder;
use crate::formats::json_encode::JsonEncoder;
use crate::formats::{BadRecord, CsvOptions, Decoder, JsonOptions};

/// JSON objects, or arrays of them.
pub struct JsonMessages {
    decoder: JsonDecoder,
    skip_option: &'static str,
}

impl JsonMessages {
    /// A decoder of `columns`; `skip_option` is named where a record is bad.
    pub fn new(options: JsonOptions, columns: &[Column], skip_option: &'static str) -> Result<Self> {
        Ok(JsonMessages { decoder: JsonDecoder::new(options, columns)?, skip_option })
    }
}

impl MessageDecoder for JsonMessages {
    #[inline]
    fn decode(&mut self, message: &[u8]) -> Result<(), BadRecord> {
        let skip_option = self.skip_option;
        self.decoder.message(message).map_err(|(field, problem)| BadRecord { line: 0, field, problem, skip_option })
    }
    fn rows(&self) -> usize {
        self.decoder.rows()
    }
    fn finish(&mut self) -> Result<Decoded> {
        Ok(Decoded { columns: self.decoder.finish()?, kinds: None })
    }
}

/// One csv record a message.
pub struct CsvMessages {
    decoder: CsvDecoder,
    skip_option: &'static str,
}

impl CsvMessages {
    /// A decoder of `columns`; `skip_option` is named where a record is bad.
    pub fn new(options: CsvOptions, columns: &[Column], skip_option: &'static str) -> Result<Self> {
        // Whoever reads the messages counts and skips bad ones, so none may be skipped here.
        let options = CsvOptions { ignore_parse_errors: false, ..options };
        Ok(CsvMessages { decoder: CsvDecoder::new(options, columns)?, skip_option })
    }
}

impl MessageDecoder for CsvMessages {
    fn decode(&mut self, message: &[u8]) -> Result<(), BadRecord> {
        let skip_option = self.skip_option;
        self.decoder.message(message).map_err(|bad| BadRecord { skip_option, ..bad })
    }
    fn rows(&self) -> usize {
        self.decoder.rows()
    }
    fn finish(&mut self) -> Result<Decoded> {
        Ok(Decoded { columns: self.decoder.finish()?, kinds: None })
    }
}

/// Writes each row as a text, whatever its kind: for formats that know inserts only.
pub struct TextEncoder<F> {
    row: F,
    text: String,
}

/// One JSON object a row.
pub fn json_encoder(options: JsonOptions, columns: &[Column]) -> Result<Box<dyn MessageEncoder>> {
    let encoder = JsonEncoder::new(options, columns)?;
    let row = move |batch: &ChangeBatch, row: usize, out: &mut String| encoder.row(batch.rows.columns(), row, out);
    Ok(Box::new(TextEncoder { row, text: String::new() }))
}

/// One csv record a row, without a line end.
pub fn csv_encoder(options: CsvOptions, columns: &[Column]) -> Result<Box<dyn MessageEncoder>> {
    let mut encoder = CsvEncoder::new(options, columns)?;
    let row = move |batch: &ChangeBatch, row: usize, out: &mut String| {
        encoder.row(batch.rows.columns(), row, out);
        Ok(())
    };
    Ok(Box::new(TextEncoder { row, text: String::new() }))
}

/// One change a row: an update is a delete and an insert, as in Flink.
pub fn changelog_encoder(options: ChangelogOptions, columns: &[Column]) -> Result<Box<dyn MessageEncoder>> {
    options.check_encoding()?;
    let (insert, delete) = match options.dialect {
        Dialect::Debezium => {
            ([r#"{"before":null,"after":"#, r#","op":"c"}"#], [r#"{"before":"#, r#","after":null,"op":"d"}"#])
        }
        Dialect::Canal => ([r#"{"data":["#, r#"],"type":"INSERT"}"#], [r#"{"data":["#, r#"],"type":"DELETE"}"#]),
        Dialect::Maxwell => ([r#"{"data":"#, r#","type":"insert"}"#], [r#"{"data":"#, r#","type":"delete"}"#]),
    };
    let encoder = JsonEncoder::new(options.json, columns)?;
    let row = move |batch: &ChangeBatch, row: usize, out: &mut String| {
        let [open, close] = match batch.kind(row) {
            RowKind::Insert | RowKind::UpdateAfter => insert,
            RowKind::UpdateBefore | RowKind::Delete => delete,
        };
        out.push_str(open);
        encoder.row(batch.rows.columns(), row, out)?;
        out.push_str(close);
        Ok(())
    };
    Ok(Box::new(TextEncoder { row, text: String::new() }))
}

impl<F> MessageEncoder for TextEncoder<F>
where
    F: FnMut(&ChangeBatch, usize, &mut String) -> Result<()> + Send,
{
    fn encode(&mut self, batch: &ChangeBatch, out: &mut Messages) -> Result<()> {
        let base = out.bytes.len();
        self.text.clear();
        out.entries.reserve(batch.num_rows());
        for row in 0..batch.num_rows() {
            (self.row)(batch, row, &mut self.text)?;
            out.entries.push(super::MessageEnd { end: base + self.text.len(), is_message: true });
        }
        out.bytes.extend_from_slice(self.text.as_bytes());
        Ok(())
    }
}
