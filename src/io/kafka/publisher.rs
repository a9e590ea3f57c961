//! `publish` to Kafka: brings sealed epochs into their topics, exactly once.
//!
//! Start (R18), lazily, so that polling and sealing go on while Kafka is unreachable: topics as the
//! directory knows them; progress read, not ours: exit 4 with nothing fenced; the fencing mark, synced;
//! `init_transactions`; progress read again to the log's end, not ours: exit 4 with nothing committed;
//! one transaction with our incarnation. From there on after the recorded seq.
//!
//! Safety:
//! * A transaction holds changes and, last, the progress record that says so: both or none.
//! * After any error that is not retriable (R19) the producer is dropped. `init_transactions` of the
//!   next one settles the transaction whose fate we do not know; then progress tells which it was.
//! * Only the holder of the transactional id commits. Whoever lost it finds the other's record, exit 3.
//!
//! A transaction gathers whole epochs until it holds half of `transaction_bytes`; an epoch is cut, at a
//! batch, only where it alone exceeds `transaction_bytes` (R21). What is sealed while its changes are
//! delivered comes along, for 10 ms at most: cells that are polled at the same moment are sealed some
//! milliseconds apart, and whatever missed a transaction would wait for all of it. Silent changes are
//! not produced. An epoch that holds nothing else still goes through a transaction, of a progress record
//! alone: that record is the only proof of position, and it costs a few milliseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deltapoll_state::fail;

use crate::change::{Batch, Epoch, Seq};
use crate::clock;
use crate::config::Config;
use crate::fault::Fault;
use crate::follower::{Facts, Follower, Logs, SealedBatch};
use crate::io::feed::{self, Feed};
use crate::io::kafka::error::Error;
use crate::io::kafka::incarnation::{self, Incarnation};
use crate::io::kafka::link::{Backoff, Link};
use crate::io::kafka::metrics::Metrics;
use crate::io::kafka::progress::{self, End, Progress};
use crate::io::kafka::session::{Session, TOGETHER};
use crate::io::kafka::settings::Settings;
use crate::io::kafka::topic_handle::{Outgoing, Shared};
use crate::io::kafka::topics;
use crate::io::lineage::Lineage;

/// Fenced this often before our first commit: somebody else is alive (R19).
const FENCED_MAX: u32 = 3;
/// What [`Setup::open_max`] is unless somebody tries something else.
pub const OPEN_MAX: Duration = Duration::from_millis(10);

/// What a publisher is made of.
pub struct Setup {
    /// The configuration; it has `[kafka]`.
    pub config: Arc<Config>,
    /// Every topic that is configured or still named in the journal.
    pub topics: Vec<String>,
    /// The journal.
    pub logs: Arc<dyn Logs>,
    /// Its facts.
    pub facts: Arc<dyn Facts>,
    /// The directory's identity.
    pub lineage: Lineage,
    /// This start's identity, opened before anything was sealed.
    pub incarnation: Incarnation,
    /// The position that the journal knows: Kafka may be ahead of it, never behind.
    pub position: Seq,
    /// A transaction takes no more epochs after so long, or what it holds would wait for ever.
    pub open_max: Duration,
    /// Set: `advance` no longer tries again, and returns the last position where Kafka does not answer.
    pub stop: Arc<AtomicBool>,
    /// Set: the transaction under way is given up too.
    pub late: Arc<AtomicBool>,
}

/// The Kafka publisher.
pub struct KafkaPublisher {
    setup: Setup,
    metrics: Arc<Metrics>,
    link: Link,
    session: Option<(Session, Feed)>,
    position: Seq,
    /// What `advance` was asked for, or more: the rest of an epoch that came along, since it returns where
    /// an epoch ends unless it is stopped.
    goal: Seq,
    /// Whether a transaction of this incarnation is known to be committed.
    committed: bool,
    /// Whether the log already says that the producer starts over.
    told: bool,
}

impl KafkaPublisher {
    /// A publisher that has not spoken to Kafka yet.
    #[must_use]
    pub fn new(setup: Setup) -> KafkaPublisher {
        let metrics = Arc::new(Metrics::default());
        KafkaPublisher {
            link: Link::new(metrics.clone()),
            metrics,
            session: None,
            position: setup.position,
            goal: setup.position,
            committed: false,
            told: false,
            setup,
        }
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Runs the start protocol now, for as long as it takes, and returns the position that Kafka
    /// shows; the last known one if the program stops meanwhile.
    ///
    /// # Errors
    /// A [`Fault`] ends the program.
    pub fn start(&mut self) -> Result<Seq, Fault> {
        self.advance(Seq(0))
    }

    fn work(&mut self, upto: Seq) -> Result<(), Error> {
        if self.session.is_none() {
            let begun = clock::now();
            self.open()?;
            let took = clock::now().duration_since(begun).as_secs_f64();
            if self.position < upto && self.metrics.transactions.load(Ordering::Relaxed) == 0 {
                tracing::info!(
                    "publishing goes on after batch {} of {upto}: asking Kafka took {took:.3} s",
                    self.position
                );
            }
        }
        self.goal = self.goal.max(upto);
        while self.position < self.goal {
            self.transact(upto)?;
        }
        Ok(())
    }

    /// The start protocol (R18), and the one way back (R19).
    fn open(&mut self) -> Result<(), Error> {
        let setup = &self.setup;
        let (config, facts, stop) = (&setup.config, &*setup.facts, &*setup.stop);
        // Read again each time: a rotated password takes effect. A file that is not there for a
        // moment is no reason to stop.
        let settings = Settings::read(config).map_err(|fault| Error::Retry(fault.message))?;
        let plan = topics::survey(&settings, config, &setup.topics, facts, stop)?.plan;
        if !self.committed {
            self.look_first(&settings)?;
            // IMPORTANT: synced before the producer exists; an incarnation without this mark is
            // dropped by the next start, which must not happen to one that is in Kafka.
            incarnation::mark_fencing(facts, &setup.incarnation)?;
            fail::step("kafka.fencing.marked");
        }
        let mut session = Session::open(&settings, plan, setup.late.clone(), &mut self.link)?;
        self.metrics.sessions.fetch_add(1, Ordering::Relaxed);
        let end = match fail::broken("r18") {
            true => End::Stable,
            false => End::High,
        };
        let record = progress::read(&settings, config, end, stop)?;
        fail::step("kafka.progress.read");
        // A predecessor's starts are counted apart from ours.
        let shown = record
            .as_ref()
            .filter(|record| record.lineage == setup.lineage.id)
            .map(|record| record.incarnation.clone());
        let end = match self.committed && fail::broken("r19") {
            true => (self.position, Epoch(0)),
            false => self.judge(record, "nothing was committed")?,
        };
        self.position = end.0;
        if let Some(shown) = shown {
            incarnation::prune(facts, &shown)?;
        }
        if !self.committed {
            session.begin()?;
            self.send_progress(&mut session, end)?;
            session.commit(&mut self.link)?;
            self.committed = true;
        }
        let feed = Feed::after(&self.setup.logs, self.position)?;
        self.session = Some((session, feed));
        Ok(())
    }

    /// Before anything is fenced: refuses where somebody else published last, or Kafka lost something.
    fn look_first(&self, settings: &Settings) -> Result<(), Error> {
        let (config, stop) = (&self.setup.config, &*self.setup.stop);
        let so_far = "nothing was fenced";
        let record = progress::read(settings, config, End::Stable, stop)?;
        fail::step("kafka.progress.read");
        let shown = self.whose(record, so_far)?;
        match self.complete(shown, so_far) {
            // What an open transaction hides is not lost; after the fence the whole log is read.
            Err(_) if !progress::is_settled(settings, config)? => Ok(()),
            end => end.map(drop),
        }
    }

    /// The position that `record` proves, if it is ours and shows all that we know of.
    fn judge(&self, record: Option<Progress>, so_far: &str) -> Result<(Seq, Epoch), Error> {
        let shown = self.whose(record, so_far)?;
        self.complete(shown, so_far)
    }

    /// What `record` shows, if it is ours; `None`: nothing was published yet.
    fn whose(&self, record: Option<Progress>, so_far: &str) -> Result<Option<(Seq, Epoch)>, Error> {
        let setup = &self.setup;
        let topic = setup.config.progress_topic();
        let Some(record) = record else {
            return Ok(None);
        };
        let replaced = setup.lineage.replaces(&record.lineage);
        if replaced && self.position == Seq(0) && !self.committed {
            return Ok(None);
        }
        // After a fence only this very start counts (R17): another one of the same directory is
        // somebody else.
        let current = record.incarnation == setup.incarnation || fail::broken("r17");
        let ours = record.lineage == setup.lineage.id
            && incarnation::is_ours(&*setup.facts, &record)?
            && (!self.committed || current);
        if ours || fail::broken("r18") {
            return Ok(Some((Seq(record.seq), Epoch(record.epoch))));
        }
        let name = &setup.config.name;
        let who = format!(
            "start {} ({}) of lineage {}, at seq {}",
            record.incarnation.n, record.incarnation.id, record.lineage, record.seq
        );
        let fault = if self.committed {
            Fault::fenced(format!(
                "another instance of '{name}' took over: the progress topic '{topic}' shows {who}; let \
                 only one of them run"
            ))
        } else {
            Fault::directory(format!(
                "this directory is not the one that published last as '{name}': the progress topic \
                 '{topic}' shows {who}, which it does not know; {so_far}; start the newest \
                 directory, or use another name"
            ))
        };
        Err(Error::Stop(fault))
    }

    /// Refuses where Kafka shows less than what is known to be committed.
    fn complete(&self, shown: Option<(Seq, Epoch)>, so_far: &str) -> Result<(Seq, Epoch), Error> {
        let (name, position) = (&self.setup.config.name, self.position);
        let topic = self.setup.config.progress_topic();
        match shown {
            None if position == Seq(0) && !self.committed => Ok((Seq(0), Epoch(0))),
            None => Err(Error::Stop(Fault::directory(format!(
                "the progress topic '{topic}' holds no record of '{name}', but this directory \
                 published up to seq {position}; {so_far}; restore the topic, or begin anew with \
                 `deltapoll state reset`"
            )))),
            Some((seq, _)) if seq < position => Err(Error::Stop(Fault::directory(format!(
                "the progress topic '{topic}' shows seq {seq}, but seq {position} was committed: \
                 kafka lost records; {so_far}; begin anew with `deltapoll state reset`"
            )))),
            Some(end) => Ok(end),
        }
    }

    /// One transaction.
    fn transact(&mut self, upto: Seq) -> Result<(), Error> {
        let limit = self.setup.config.limits.transaction_bytes.0;
        let (mut session, mut feed) = self.session.take().expect("work opens it");
        session.begin()?;
        let begun = clock::now();
        let mut sum = Sum::default();
        let mut epoch_bytes = 0;
        let epoch = loop {
            let batch = feed.next()?;
            if !batch.last {
                self.goal = self.goal.max(batch.seq.next());
            }
            let sent = self.send_batch(&mut session, &batch)?;
            sum.add(sent);
            epoch_bytes += sent.bytes;
            let full = if fail::broken("r21") {
                true
            } else if batch.last {
                sum.bytes >= limit / 2
            } else {
                epoch_bytes >= limit
            };
            if full {
                break batch.epoch;
            }
            if batch.seq >= self.goal {
                // The progress record waits for that, and so says all that came along. After an epoch
                // of several batches nothing more does: `advance` has to return some time.
                let open_max = self.setup.open_max;
                let along = self.goal <= upto;
                let open = || along && clock::now().duration_since(begun) < open_max;
                session.deliver_until(&mut self.link, || Ok(!open() || feed.has_more()?))?;
                if !open() || !feed.has_more()? {
                    break batch.epoch;
                }
            }
            if batch.last {
                epoch_bytes = 0;
            }
        };
        let end = (feed.position(), epoch);
        self.send_progress(&mut session, end)?;
        let took = session.commit(&mut self.link)?;
        // IMPORTANT: only now; until the commit is answered the old position is what is proven.
        self.position = end.0;
        if self.metrics.transactions.load(Ordering::Relaxed) == 0 {
            let took = took.as_secs_f64();
            tracing::info!(
                "first transaction of this run: {} changes in {took:.3} s",
                sum.records
            );
        }
        self.metrics.committed(sum.records, sum.bytes, took);
        self.told = false;
        self.session = Some((session, feed));
        Ok(())
    }

    /// Hands the changes of `batch` to the producer.
    fn send_batch(&mut self, session: &mut Session, sealed: &SealedBatch) -> Result<Sum, Error> {
        let damaged = |error| Error::Stop(feed::damaged(sealed, &error));
        let batch = Batch::read(&sealed.body).map_err(damaged)?;
        let head = &batch.head;
        if !session.plan().topics.contains_key(&head.topic) {
            return Err(Error::Stop(Fault::directory(format!(
                "the journal's batch {} is for the topic '{}', which is neither configured nor \
                 known; configure it until it is published",
                sealed.seq, head.topic
            ))));
        }
        let headers = self
            .setup
            .config
            .kafka
            .as_ref()
            .is_none_or(|kafka| kafka.headers);
        let numbers = [sealed.epoch.0, sealed.seq.0, head.polled_at].map(|n| n.to_string());
        let [epoch, seq, polled_at] = &numbers;
        let headers = headers.then_some(Shared {
            epoch,
            seq,
            polled_at,
            source: &head.source,
            cell: &head.label,
        });
        let mut sum = Sum::default();
        let mut records = Vec::with_capacity(TOGETHER);
        for change in batch.changes() {
            let change = change.map_err(damaged)?;
            if change.silent {
                continue;
            }
            let record = Outgoing {
                partition: change.partition,
                key: change.key,
                value: change.value,
                change: change.kind.as_str(),
            };
            sum.records += 1;
            sum.bytes += record.bytes() as u64;
            records.push(record);
            if records.len() == TOGETHER {
                session.send(&head.topic, &mut records, headers, &mut self.link)?;
                records.clear();
            }
        }
        session.send(&head.topic, &mut records, headers, &mut self.link)?;
        Ok(sum)
    }

    /// Sends the record that proves everything up to `end`; the transaction's last.
    fn send_progress(&mut self, session: &mut Session, end: (Seq, Epoch)) -> Result<(), Error> {
        let setup = &self.setup;
        let topics = session.plan().topics.iter();
        let progress = Progress {
            version: 1,
            lineage: setup.lineage.id.clone(),
            predecessor: setup.lineage.predecessor.clone(),
            hash_seed: setup.lineage.hash_seed,
            incarnation: setup.incarnation.clone(),
            seq: end.0.0,
            epoch: end.1.0,
            partitions: topics
                .map(|(name, topic)| (name.clone(), topic.partitions))
                .collect(),
        };
        let value = serde_json::to_vec(&progress).expect("plain data");
        let record = Outgoing {
            partition: 0,
            key: &progress::key(&setup.config.name),
            value: Some(&value),
            change: "",
        };
        let topic = setup.config.progress_topic();
        session.send(&topic, &mut [record], None, &mut self.link)?;
        fail::step("kafka.progress");
        Ok(())
    }
}

impl Follower for KafkaPublisher {
    fn advance(&mut self, upto: Seq) -> Result<Seq, Fault> {
        let stop = self.setup.stop.clone();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut fenced_before_commit = 0;
        loop {
            let before = self.position;
            match self.work(upto) {
                Ok(()) => {
                    self.link.up();
                    return Ok(self.position);
                }
                Err(Error::Stopped) => return Ok(self.position),
                Err(Error::Stop(fault)) => return Err(fault),
                Err(Error::Retry(why)) => self.link.down(&why),
                Err(Error::Redo { why, fenced }) => {
                    // IMPORTANT: never abort_transaction: what was sent without an answer may still
                    // arrive, and only the bumped epoch of the next init keeps it out (R19).
                    self.session = None;
                    if fenced && !self.committed {
                        fenced_before_commit += 1;
                    }
                    if fenced_before_commit >= FENCED_MAX {
                        return Err(Fault::fenced(format!(
                            "another instance of '{}' keeps taking over ({why}); let only one of \
                             them run",
                            self.setup.config.name
                        )));
                    }
                    if !self.told {
                        self.told = true;
                        tracing::warn!("the kafka producer starts over: {why}");
                    }
                }
            }
            if self.position > before {
                backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
            }
            backoff.pause(|| stop.load(Ordering::Relaxed));
            if stop.load(Ordering::Relaxed) {
                return Ok(self.position);
            }
        }
    }
}

/// What a transaction holds.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    records: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, other: Sum) {
        self.records += other.records;
        self.bytes += other.bytes;
    }
}
