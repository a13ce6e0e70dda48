//! Orders and clicks from Kafka into MySQL and Kafka, exactly once, while the job is killed and the servers are restarted.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::feeder::Feeder;
use super::job::Job;
use super::{Options, Stage, check, tools, workload};
use crate::child::{Random, Running, Wait, end, signal, wait_for};
use crate::tidy::root;

/// Named points in the order in which a checkpoint reaches them: triggered, flushed, pre-committed, durable, committed sink by sink.
const POINTS: &[&str] = &[
    "before-checkpoint",
    "kafka.sink.flushed",
    "kafka.sink.prepared",
    "before-publish",
    "before-commit",
    "kafka.sink.commit",
    "kafka.sink.committed",
    "jdbc.commit.before",
    "jdbc.commit.applied",
];
/// How long the events that belong to one kill are spread over.
const SPAN_PER_KILL: Duration = Duration::from_secs(4);
/// How long a job may take to reach a point: its start, its restore, a few checkpoints on a busy machine. It gets more events
/// every so often.
const POINT_PATIENCE: Duration = Duration::from_secs(15);
const POINT_TRIES: u32 = 6;

/// What happens to one run of the job.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Point(&'static str),
    Random,
    Broker,
    Database,
    Zombie,
}

#[derive(Default)]
struct Tally {
    kills: BTreeMap<String, u64>,
    broker_restarts: u64,
    database_restarts: u64,
}

struct Campaign<'a> {
    stage: &'a Stage,
    job: Job,
    feeder: &'a Feeder,
    /// Events that belong to one kill.
    share: u64,
    /// How long a job runs at least before it is killed: one checkpoint must fit in now and then.
    least_ms: u64,
    random: Random,
    tally: Tally,
}

/// Runs the scenario.
#[allow(clippy::disallowed_methods, reason = "a harness of real processes reads the clock")]
pub fn run(options: &Options, binary: &Path, stage: &Stage) -> Result<(), String> {
    let start = Instant::now();
    for topic in ["orders", "clicks", "express-orders"] {
        tools::create_topic(&stage.kafka, topic, 4)?;
    }
    tools::mysql_script(&stage.mariadb, &root().join("examples/kafka-to-mysql/schema.sql"))?;
    let expected = workload::expected(options.seed, options.events);
    // One share is left for the run that nobody kills.
    let share = options.events / (options.kills + 1);
    let per_event = SPAN_PER_KILL / u32::try_from(share).unwrap_or(u32::MAX).max(1);
    let feeder = Feeder::start(&stage.kafka, &stage.dir, options.seed, options.events, per_event)?;
    let job = Job::new(options, binary, stage)?;
    let least_ms = if options.rust { 5_000 } else { 1_500 };
    let (random, tally) = (Random::new(options.seed), Tally::default());
    let mut campaign = Campaign { stage, job, feeder: &feeder, share, least_ms, random, tally };
    for kill in 0..options.kills {
        let fate = match fate(kill) {
            // Without commits there are no points within them; the DataStream program is not built to stop at points.
            Fate::Point(point) if options.switch_off.is_some() && point.contains('.') => Fate::Random,
            Fate::Point(_) if options.rust => Fate::Random,
            fate => fate,
        };
        feeder.allow(share);
        campaign.once(fate)?;
        println!("kill {:>2} of {}: {fate:?}; {} records fed", kill + 1, options.kills, feeder.fed());
    }
    let Campaign { job, tally, .. } = campaign;
    feeder.hurry();
    let fed = feeder.finish()?;
    let there = tools::end_offsets(&stage.kafka, "orders")? + tools::end_offsets(&stage.kafka, "clicks")?;
    if fed != there || fed != expected.orders + expected.clicks {
        return Err(format!("the harness fed {fed} records and Kafka has {there}: this run shows nothing"));
    }
    let mut job = job.start(None)?;
    if !check::wait_complete(stage, &expected, &mut job)? {
        println!("nothing changes any more, and rows are missing; the job said:\n{}", tail(&job.text));
    }
    let difference = check::compare(stage, &expected)?;
    job.kill()?;
    for example in &difference.examples {
        println!("{example}");
    }
    for (point, kills) in &tally.kills {
        println!("{point:<30} {kills} kills");
    }
    let rows: usize = expected.tables.values().map(BTreeMap::len).sum();
    println!(
        "{} events, {} kills, {} broker restarts, {} database restarts, {:.0} s; {rows} rows in MySQL, {} in Kafka: {} lost, {} duplicated",
        options.events,
        tally.kills.values().sum::<u64>(),
        tally.broker_restarts,
        tally.database_restarts,
        start.elapsed().as_secs_f64(),
        expected.express.len(),
        difference.lost,
        difference.duplicated
    );
    if difference.lost + difference.duplicated > 0 {
        return Err(format!("not exactly once (seed {})", options.seed));
    }
    Ok(())
}

/// Every kind of end in turn, half of them named points.
fn fate(kill: u64) -> Fate {
    match kill % 10 {
        1 | 7 => Fate::Broker,
        3 => Fate::Database,
        5 => Fate::Random,
        8 => Fate::Zombie,
        n => Fate::Point(POINTS[usize::try_from(kill / 10 * 5 + n / 2).unwrap_or(0) % POINTS.len()]),
    }
}

impl Campaign<'_> {
    fn once(&mut self, fate: Fate) -> Result<(), String> {
        match fate {
            Fate::Point(point) => self.at_point(point),
            Fate::Zombie => self.zombie(),
            Fate::Random => {
                let mut job = self.job.start(None)?;
                self.run_for(&mut job, self.least_ms, 3000)?;
                self.kill(&mut job, "a random moment")
            }
            Fate::Broker | Fate::Database => {
                let mut job = self.job.start(None)?;
                self.run_for(&mut job, self.least_ms, 1500)?;
                // Both a crash and a planned restart.
                let crash = self.random.below(2) == 0;
                let broker = matches!(fate, Fate::Broker);
                let server = if broker { &self.stage.kafka } else { &self.stage.mariadb };
                server.restart(crash)?;
                *(if broker { &mut self.tally.broker_restarts } else { &mut self.tally.database_restarts }) += 1;
                self.run_for(&mut job, 500, 4000)?;
                self.kill(&mut job, if broker { "after a broker restart" } else { "after a database restart" })
            }
        }
    }

    fn kill(&mut self, job: &mut Running, what: &str) -> Result<(), String> {
        *self.tally.kills.entry(what.to_owned()).or_default() += 1;
        job.kill()
    }

    /// Lets it run; that it ends by itself is a failure.
    fn run_for(&mut self, job: &mut Running, least_ms: u64, spread_ms: u64) -> Result<(), String> {
        let span = Duration::from_millis(least_ms + self.random.below(spread_ms));
        match wait_for(job, |_| false, span)? {
            Wait::Ended(_) => Err(format!("the job ended by itself:\n{}", tail(&job.text))),
            Wait::Seen | Wait::TimedOut => Ok(()),
        }
    }

    /// Stops it where a checkpoint is half done, and kills it there.
    fn at_point(&mut self, point: &'static str) -> Result<(), String> {
        let nth = 1 + self.random.below(3);
        let mut job = self.job.start(Some(&format!("{point}@{nth}")))?;
        for _ in 0..POINT_TRIES {
            match wait_for(&mut job, |line| line.starts_with("PAUSED"), POINT_PATIENCE)? {
                Wait::Seen => return self.kill(&mut job, point),
                // Points within a commit are reached when there is something to commit.
                Wait::TimedOut => self.feeder.allow(self.share / 10),
                Wait::Ended(_) => return Err(format!("the job ended by itself:\n{}", tail(&job.text))),
            }
        }
        Err(format!("the job did not reach {point}@{nth}:\n{}", tail(&job.text)))
    }

    /// Stops a process, lets another one take over, wakes the first: it must find itself fenced off.
    fn zombie(&mut self) -> Result<(), String> {
        let mut old = self.job.start(None)?;
        self.run_for(&mut old, self.least_ms, 2000)?;
        signal(old.child.id(), "STOP")?;
        let mut new = self.job.start(None)?;
        self.run_for(&mut new, 2500, 1500)?;
        signal(old.child.id(), "CONT")?;
        let (ended_well, text) = end(&mut old, Duration::from_secs(30))?;
        if ended_well {
            return Err(format!("the replaced process ended as if it were alone:\n{}", tail(&text)));
        }
        self.kill(&mut new, "beside a process that was replaced")
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_kills_reach_every_point() {
        let fates: Vec<String> = (0..20).map(|k| format!("{:?}", fate(k))).collect();
        for point in POINTS {
            assert!(fates.contains(&format!("Point({point:?})")), "{point} is missing");
        }
    }
}
