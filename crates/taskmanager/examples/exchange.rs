//! The benchmark behind `cargo xtask bench exchange`: a hash exchange over loopback, its parts, and a plain copy of the same bytes.
#![allow(missing_docs, reason = "an example")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use flott_core::batch::ChangeBatch;
use flott_core::element::Element;
use flott_core::ids::{JobId, OperatorId};
use flott_core::snapshot::ChannelAddress;
use flott_core::time::SystemClock;
use flott_runtime::{HashRoute, TaskWaker, TrySendError, channel_at};
use flott_taskmanager::network::{
    ClusterId, Compression, DataServer, IncomingChannel, IncomingLink, LinkId, NetworkOptions, OutgoingLink,
};

const ROWS: usize = 4096;
const CHANNELS: usize = 8;
/// Bytes of a row: three numbers and a string with its offset.
const ROW_BYTES: usize = 100;
const TEXT_BYTES: usize = ROW_BYTES - 3 * 8 - 4;

type Failure = Box<dyn std::error::Error>;

/// CPU seconds of this process, and wall seconds, that `f` takes.
fn measure<T>(f: impl FnOnce() -> Result<T, Failure>) -> Result<(f64, f64, T), Failure> {
    let cpu = || -> Result<f64, Failure> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
        // User and system time in ticks of 10 ms: fields 14 and 15 of proc(5).
        Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
    };
    let (from, start) = (cpu()?, Instant::now());
    let result = f()?;
    Ok((cpu()? - from, start.elapsed().as_secs_f64(), result))
}

fn batches() -> Result<Vec<ChangeBatch>, Failure> {
    let numbers = |salt: i64| {
        let n = (0..ROWS as i64).map(move |i| (i + salt).wrapping_mul(0x5851_f42d_4c95_7f2d) >> 20);
        Arc::new(Int64Array::from_iter_values(n)) as ArrayRef
    };
    let one = |salt: i64| {
        let text = |i: usize| format!("{:0width$}", i * 7919 + salt as usize, width = TEXT_BYTES);
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS).map(text)));
        let columns = [("k", numbers(salt)), ("a", numbers(salt + 1)), ("b", numbers(salt + 2)), ("t", texts)];
        Ok(ChangeBatch::append(RecordBatch::try_from_iter(columns)?))
    };
    (0..16).map(|i| one(i * 100_003)).collect()
}

fn route(batch: &ChangeBatch) -> Result<HashRoute, Failure> {
    Ok(HashRoute::new(vec![0], vec![Arc::new(batch.schema().field(0).clone())], 128, CHANNELS)?)
}

/// Partitions only.
fn partition(all: &[ChangeBatch], count: usize) -> Result<usize, Failure> {
    let (mut route, mut rows) = (route(&all[0])?, 0);
    for i in 0..count {
        route.split(all[i % all.len()].clone(), |_, part| rows += part.num_rows())?;
    }
    Ok(rows)
}

fn address(to: usize) -> ChannelAddress {
    ChannelAddress { operator: OperatorId(2), subtask: to as u32, edge: 0, port: 0, producer: OperatorId(1), from: 0 }
}

/// Partitions, sends over loopback and takes what comes; rows that came.
fn exchange(all: &[ChangeBatch], count: usize, compression: Compression) -> Result<usize, Failure> {
    let options = NetworkOptions { compression, ..NetworkOptions::default() };
    let cluster = ClusterId(1);
    let server = DataServer::start("127.0.0.1:0", cluster, options, SystemClock::shared())?;
    let (writer, out, back, reader) = (TaskWaker::new(), TaskWaker::new(), TaskWaker::new(), TaskWaker::new());
    let (mut senders, mut outgoing) = (Vec::new(), Vec::new());
    let (mut incoming, mut receivers) = (Vec::new(), Vec::new());
    for i in 0..CHANNELS {
        let (s, r) = channel_at(address(i), OutgoingLink::channel_options(), writer.clone(), out.clone());
        senders.push(s);
        outgoing.push(r);
        let (s, r) = channel_at(address(i), IncomingLink::channel_options(), back.clone(), reader.clone());
        incoming.push(IncomingChannel { sender: s, schema: all[0].schema() });
        receivers.push(r);
    }
    let id = LinkId { job: JobId(1), generation: 1, attempt: 0, producer: 0, consumer: 1 };
    let broken = || Box::new(|e| panic!("{e}"));
    server.register(OutgoingLink { id, channels: outgoing, waker: out, on_broken: broken() })?;
    let at = server.address().to_string();
    let mut link = IncomingLink::connect(&at, cluster, id, incoming, back, &options, broken())?;
    link.start()?;
    let consumer = std::thread::spawn(move || {
        let mut rows = 0;
        loop {
            let closed = receivers.iter().all(|r| r.is_closed());
            let mut any = false;
            for r in &receivers {
                while let Some(Element::Batch(b)) = r.try_recv() {
                    (rows, any) = (rows + b.num_rows(), true);
                }
            }
            match (any, closed) {
                (false, true) => return rows,
                (false, false) => reader.park(Duration::from_secs(1)),
                _ => {}
            }
        }
    });
    let mut route = route(&all[0])?;
    for i in 0..count {
        route.split(all[i % all.len()].clone(), |to, part| {
            let mut next = Element::Batch(part);
            while let Err(TrySendError::Full(e) | TrySendError::Closed(e)) = senders[to].try_send(next) {
                next = e;
                writer.park(Duration::from_secs(1));
            }
        })?;
    }
    drop(senders);
    consumer.join().map_err(|_| "the consumer panicked".into())
}

/// Copies so many pieces over loopback.
fn copy(pieces: usize, bytes: usize) -> Result<usize, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    let writer = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(at)?;
        stream.set_nodelay(true)?;
        let piece = vec![7; bytes];
        (0..pieces).try_for_each(|_| stream.write_all(&piece))
    });
    let (mut stream, _) = listener.accept()?;
    let mut piece = vec![0; bytes];
    for _ in 0..pieces {
        stream.read_exact(&mut piece)?;
    }
    writer.join().map_err(|_| "the writer panicked")??;
    Ok(pieces * bytes)
}

fn main() -> Result<(), Failure> {
    let count: usize = std::env::args().nth(1).map_or(Ok(20_000), |n| n.parse())?;
    let all = batches()?;
    // For a profile.
    if std::env::args().nth(2).as_deref() == Some("alone") {
        exchange(&all, count, Compression::None)?;
        return Ok(());
    }
    let (rows, bytes) = (count * ROWS, count * ROWS * ROW_BYTES);
    println!("{count} batches of {ROWS} rows of {ROW_BYTES} bytes, {CHANNELS} hash channels, loopback");
    println!("| | CPU s | M rows per CPU s | MB per CPU s | MB/s |");
    println!("|---|---|---|---|---|");
    let line = |name: &str, (cpu, wall): (f64, f64)| {
        let per = |n: usize, by: f64| n as f64 / 1e6 / by.max(0.01);
        println!("| {name} | {cpu:.2} | {:.2} | {:.0} | {:.0} |", per(rows, cpu), per(bytes, cpu), per(bytes, wall));
    };
    partition(&all, count / 20)?;
    let mut ratios = Vec::new();
    for round in 0..3 {
        let (cpu, wall, n) = measure(|| partition(&all, count))?;
        assert_eq!(n, rows, "every row has one owner");
        line("partitioning alone", (cpu, wall));
        let (plain, wall, n) = measure(|| copy(count * CHANNELS, ROWS * ROW_BYTES / CHANNELS))?;
        assert_eq!(n, bytes, "every byte was copied");
        line("plain TCP copy, pieces as long as frames", (plain, wall));
        let (cpu, wall, n) = measure(|| exchange(&all, count, Compression::None))?;
        assert_eq!(n, rows, "every row has come");
        line("exchange", (cpu, wall));
        ratios.push(cpu / plain);
        if round == 2 {
            for compression in [Compression::Lz4, Compression::Zstd] {
                let (cpu, wall, n) = measure(|| exchange(&all, count / 4, compression))?;
                assert_eq!(n, rows / 4, "every row has come");
                line(
                    &format!("exchange, {compression:?} (all figures of a quarter of the rows)"),
                    (cpu * 4.0, wall * 4.0),
                );
            }
        }
    }
    ratios.sort_by(f64::total_cmp);
    println!("\nthe exchange costs {:.2} times the CPU of the plain copy (median of {})", ratios[1], ratios.len());
    Ok(())
}
