//! Builds batches of Nexmark events straight into Arrow buffers: run by run of one kind, no allocation per event.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, StructArray, TimestampMillisecondArray};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Fields, SchemaRef};
use flott_core::types::arrow_schema;
use flott_core::{Error, Result};

use super::model::{Draw, Epoch, EventKind, Prices, category};
use super::options::NexmarkOptions;
use super::text::{Strings, Texts};

/// Makes batches of consecutive events. Shared by all readers.
pub(super) struct Generator {
    pub(super) options: NexmarkOptions,
    schema: SchemaRef,
    texts: Texts,
    prices: Prices,
}

/// Columns of bids, one entry per row of the batch.
struct Bids {
    auction: Vec<i64>,
    bidder: Vec<i64>,
    price: Vec<i64>,
    time: Vec<i64>,
    channel: Strings,
    url: Strings,
    extra: Strings,
}

/// Columns of auctions.
struct Auctions {
    id: Vec<i64>,
    initial_bid: Vec<i64>,
    reserve: Vec<i64>,
    time: Vec<i64>,
    expires: Vec<i64>,
    seller: Vec<i64>,
    category: Vec<i64>,
    name: Strings,
    description: Strings,
    extra: Strings,
}

/// Columns of persons.
struct Persons {
    id: Vec<i64>,
    time: Vec<i64>,
    name: Strings,
    email: Strings,
    card: Strings,
    city: Strings,
    state: Strings,
    extra: Strings,
}

/// A run of events of one kind: rows `row..row + len` are events `first..first + len`.
#[derive(Clone, Copy)]
struct Run {
    row: usize,
    len: usize,
    first: i64,
    /// Offset of the first within its epoch.
    offset: i64,
}

impl Generator {
    pub(super) fn new(options: NexmarkOptions) -> Self {
        let texts = Texts::new(options.seed);
        Generator { options, schema: arrow_schema(&super::columns()), texts, prices: Prices::new() }
    }

    /// Events `first..first + rows`.
    pub(super) fn batch(&self, first: i64, rows: usize) -> Result<RecordBatch> {
        let o = &self.options;
        let share =
            |per_epoch: i64| rows * per_epoch as usize / o.epoch_len() as usize + per_epoch.min(rows as i64) as usize;
        let mut bids = Bids::new(rows, share(o.bids), o.bid_bytes);
        let mut auctions = Auctions::new(rows, share(o.auctions), o.auction_bytes);
        let mut persons = Persons::new(rows, share(o.persons), o.person_bytes);
        let mut types = vec![EventKind::Bid as i32; rows];
        let mut masks = [(); 3].map(|()| BooleanBufferBuilder::new(rows));
        let (mut number, mut offset) = (first / o.epoch_len(), first % o.epoch_len());
        let mut row = 0;
        while row < rows {
            let (kind, end) = o.kind_at(offset);
            let len = usize::try_from(end - offset).unwrap_or(rows).min(rows - row);
            let run = Run { row, len, first: first + row as i64, offset };
            if len > 0 {
                let epoch = o.epoch(number);
                match kind {
                    EventKind::Person => self.fill_persons(&mut persons, &epoch, run),
                    EventKind::Auction => self.fill_auctions(&mut auctions, &epoch, run),
                    EventKind::Bid => self.fill_bids(&mut bids, &epoch, run),
                }
                types[row..row + len].fill(kind as i32);
                for (i, mask) in masks.iter_mut().enumerate() {
                    mask.append_n(len, i == kind as usize);
                }
            }
            row += len;
            offset = end;
            if offset == o.epoch_len() {
                (number, offset) = (number + 1, 0);
            }
        }
        let [person_mask, auction_mask, bid_mask] = masks.map(|mut m| NullBuffer::new(m.finish()));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(types)),
            persons.finish(rows, person_mask, self.fields(1)?)?,
            auctions.finish(rows, auction_mask, self.fields(2)?)?,
            bids.finish(rows, bid_mask, self.fields(3)?)?,
        ];
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn fields(&self, column: usize) -> Result<Fields> {
        match self.schema.field(column).data_type() {
            DataType::Struct(fields) => Ok(fields.clone()),
            other => Err(Error::bug(format!("column {column} of nexmark is {other}, not a ROW"))),
        }
    }

    fn fill_bids(&self, bids: &mut Bids, epoch: &Epoch, run: Run) {
        let o = &self.options;
        bids.pad_to(run.row);
        for i in 0..run.len {
            let n = run.first + i as i64;
            let draw = &mut Draw::new(o.seed, n as u64);
            let row = run.row + i;
            bids.auction[row] = o.bid_auction(epoch, draw);
            bids.bidder[row] = o.bidder(epoch, draw);
            bids.price[row] = self.prices.draw(draw);
            bids.time[row] = o.time_ms(n);
            self.texts.push_channel(draw, &mut bids.channel, &mut bids.url);
            self.texts.push_extra(32, o.bid_bytes, draw, &mut bids.extra);
        }
    }

    fn fill_auctions(&self, auctions: &mut Auctions, epoch: &Epoch, run: Run) {
        let o = &self.options;
        auctions.pad_to(run.row);
        for i in 0..run.len {
            let n = run.first + i as i64;
            let draw = &mut Draw::new(o.seed, n as u64);
            let (row, time) = (run.row + i, o.time_ms(n));
            auctions.id[row] = o.auction_id(epoch, run.offset + i as i64);
            auctions.seller[row] = o.seller(epoch, draw);
            auctions.category[row] = category(draw);
            auctions.initial_bid[row] = self.prices.draw(draw);
            auctions.time[row] = time;
            auctions.expires[row] = time + o.auction_length_ms(n, draw);
            self.texts.push_words(20, draw, &mut auctions.name);
            self.texts.push_words(100, draw, &mut auctions.description);
            auctions.reserve[row] = auctions.initial_bid[row] + self.prices.draw(draw);
            let size = 48 + auctions.name.open_len() + auctions.description.open_len();
            auctions.name.finish();
            auctions.description.finish();
            self.texts.push_extra(size, o.auction_bytes, draw, &mut auctions.extra);
        }
    }

    fn fill_persons(&self, p: &mut Persons, epoch: &Epoch, run: Run) {
        let o = &self.options;
        p.pad_to(run.row);
        for i in 0..run.len {
            let n = run.first + i as i64;
            let draw = &mut Draw::new(o.seed, n as u64);
            let row = run.row + i;
            p.id[row] = o.person_id(epoch, run.offset + i as i64);
            p.time[row] = o.time_ms(n);
            let before = p.text_len();
            self.texts.push_person(draw, [&mut p.name, &mut p.email, &mut p.card, &mut p.city, &mut p.state]);
            let size = 8 + p.text_len() - before;
            self.texts.push_extra(size, o.person_bytes, draw, &mut p.extra);
        }
    }
}

impl Bids {
    fn new(rows: usize, filled: usize, bytes: usize) -> Self {
        Bids {
            auction: vec![0; rows],
            bidder: vec![0; rows],
            price: vec![0; rows],
            time: vec![0; rows],
            channel: Strings::new(rows, filled * 13),
            url: Strings::new(rows, filled * 80),
            extra: Strings::new(rows, filled * bytes),
        }
    }
    fn pad_to(&mut self, row: usize) {
        for strings in [&mut self.channel, &mut self.url, &mut self.extra] {
            strings.pad_to(row);
        }
    }
    fn finish(mut self, rows: usize, mask: NullBuffer, fields: Fields) -> Result<ArrayRef> {
        self.pad_to(rows);
        let columns = vec![
            longs(self.auction, &mask),
            longs(self.bidder, &mask),
            longs(self.price, &mask),
            strings(self.channel, &mask)?,
            strings(self.url, &mask)?,
            times(self.time, &mask),
            strings(self.extra, &mask)?,
        ];
        row(fields, columns, mask)
    }
}

impl Auctions {
    fn new(rows: usize, filled: usize, bytes: usize) -> Self {
        let zeros = || vec![0; rows];
        Auctions {
            id: zeros(),
            initial_bid: zeros(),
            reserve: zeros(),
            time: zeros(),
            expires: zeros(),
            seller: zeros(),
            category: zeros(),
            name: Strings::new(rows, filled * 20),
            description: Strings::new(rows, filled * 104),
            extra: Strings::new(rows, filled * bytes),
        }
    }
    fn pad_to(&mut self, row: usize) {
        for strings in [&mut self.name, &mut self.description, &mut self.extra] {
            strings.pad_to(row);
        }
    }
    fn finish(mut self, rows: usize, mask: NullBuffer, fields: Fields) -> Result<ArrayRef> {
        self.pad_to(rows);
        let columns = vec![
            longs(self.id, &mask),
            strings(self.name, &mask)?,
            strings(self.description, &mask)?,
            longs(self.initial_bid, &mask),
            longs(self.reserve, &mask),
            times(self.time, &mask),
            times(self.expires, &mask),
            longs(self.seller, &mask),
            longs(self.category, &mask),
            strings(self.extra, &mask)?,
        ];
        row(fields, columns, mask)
    }
}

impl Persons {
    fn new(rows: usize, filled: usize, bytes: usize) -> Self {
        let short = || Strings::new(rows, filled * 20);
        Persons {
            id: vec![0; rows],
            time: vec![0; rows],
            name: short(),
            email: short(),
            card: short(),
            city: short(),
            state: short(),
            extra: Strings::new(rows, filled * bytes),
        }
    }
    fn pad_to(&mut self, row: usize) {
        for strings in [&mut self.name, &mut self.email, &mut self.card] {
            strings.pad_to(row);
        }
        for strings in [&mut self.city, &mut self.state, &mut self.extra] {
            strings.pad_to(row);
        }
    }
    fn text_len(&self) -> usize {
        [&self.name, &self.email, &self.card, &self.city, &self.state].iter().map(|s| s.data.len()).sum()
    }
    fn finish(mut self, rows: usize, mask: NullBuffer, fields: Fields) -> Result<ArrayRef> {
        self.pad_to(rows);
        let columns = vec![
            longs(self.id, &mask),
            strings(self.name, &mask)?,
            strings(self.email, &mask)?,
            strings(self.card, &mask)?,
            strings(self.city, &mask)?,
            strings(self.state, &mask)?,
            times(self.time, &mask),
            strings(self.extra, &mask)?,
        ];
        row(fields, columns, mask)
    }
}

// Fields share the mask of their ROW, so that a field read without its ROW is NULL in the same places.

fn longs(values: Vec<i64>, mask: &NullBuffer) -> ArrayRef {
    Arc::new(Int64Array::new(ScalarBuffer::from(values), Some(mask.clone())))
}

fn times(values: Vec<i64>, mask: &NullBuffer) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::new(ScalarBuffer::from(values), Some(mask.clone())))
}

fn strings(values: Strings, mask: &NullBuffer) -> Result<ArrayRef> {
    let offsets = OffsetBuffer::new(ScalarBuffer::from(values.offsets));
    Ok(Arc::new(StringArray::try_new(offsets, Buffer::from_vec(values.data), Some(mask.clone()))?))
}

fn row(fields: Fields, columns: Vec<ArrayRef>, mask: NullBuffer) -> Result<ArrayRef> {
    Ok(Arc::new(StructArray::try_new(fields, columns, Some(mask))?))
}
