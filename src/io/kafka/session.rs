//! One producer's life: transactions, until the first error that it cannot take.
//!
//! Waiting is `poll(0)` and short pauses or flushes: the `flush` of rdkafka waits in steps of 100 ms,
//! which would be the latency of every commit. Retries that may pass are made here, for as long as it takes;
//! everything else ends the session.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use deltapoll_state::fail;
use rdkafka::bindings::rd_kafka_flush;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};

use crate::clock;
use crate::fault::Fault;
use crate::io::kafka::context::{Context, Failure};
use crate::io::kafka::error::{Error, of_failure, of_transaction};
use crate::io::kafka::link::{Link, PATIENCE};
use crate::io::kafka::settings::Settings;
use crate::io::kafka::topic_handle::{Outgoing, Refused, Shared, TopicHandle};
use crate::io::kafka::topics::TopicPlan;

/// One call into librdkafka may block for so long before we look at the stop flag again.
const STEP: Duration = Duration::from_secs(1);
/// Time for a request to leave, not for its answer to come.
const AT_ONCE: Duration = Duration::from_millis(1);
/// Records that are handed over together: delivery reports are served at least once in so many.
pub(crate) const TOGETHER: usize = 512;
/// After the answer to a commit the coordinator still writes its marks. A transaction that begins before
/// they are there is refused as concurrent, and librdkafka tries again after 20 ms.
const SETTLE: Duration = Duration::from_millis(3);
/// librdkafka sends at once, without `linger.ms`, only while somebody flushes; this long at a time.
const FLUSH_MS: i32 = 1;

/// A transactional producer that was initialised.
pub(crate) struct Session {
    producer: Arc<BaseProducer<Context>>,
    /// Those that something was sent to.
    handles: BTreeMap<String, TopicHandle>,
    plan: TopicPlan,
    sent: u64,
    /// `sent` when the transaction began.
    sent_before: u64,
    began: Instant,
    /// When the last commit was answered.
    committed: Option<Instant>,
    late: Arc<AtomicBool>,
}

impl Session {
    /// Makes a producer and initialises transactions, which fences every earlier one with our
    /// transactional id and aborts what it left open.
    pub(crate) fn open(
        settings: &Settings,
        plan: TopicPlan,
        late: Arc<AtomicBool>,
        link: &mut Link,
    ) -> Result<Session, Error> {
        let producer: BaseProducer<Context> = settings
            .producer(plan.sizes())
            .create_with_context(Context::default())
            .map_err(|error| settings.fault(&error))?;
        let session = Session {
            producer: Arc::new(producer),
            handles: BTreeMap::new(),
            plan,
            sent: 0,
            sent_before: 0,
            began: clock::now(),
            committed: None,
            late,
        };
        fail::step("kafka.init.before");
        session.persist("initialising transactions", link, |producer| {
            producer.init_transactions(STEP)
        })?;
        fail::step("kafka.init.after");
        Ok(session)
    }

    /// The topics as they were when the session began.
    pub(crate) fn plan(&self) -> &TopicPlan {
        &self.plan
    }

    /// Begins a transaction; a local step, when the last one has settled.
    pub(crate) fn begin(&mut self) -> Result<(), Error> {
        if let Some(at) = self.committed {
            clock::pause(SETTLE.saturating_sub(clock::now().duration_since(at)));
        }
        self.began = clock::now();
        self.sent_before = self.sent;
        self.producer
            .begin_transaction()
            .map_err(|error| of_transaction("beginning a transaction", &error))?;
        fail::step("kafka.begin");
        Ok(())
    }

    /// Hands records for `topic` to librdkafka, with these headers or none, and sorts them by partition;
    /// where its queue is full, waits until half of it is delivered. (Whoever fills every gap at once sends
    /// many small batches, and few requests may be in flight.)
    ///
    /// Their time is that of the call. IMPORTANT: not when it was polled, which may be months ago: a
    /// compacted topic would drop old values before anybody has read them (G1).
    pub(crate) fn send(
        &mut self,
        topic: &str,
        records: &mut [Outgoing<'_>],
        headers: Option<Shared<'_>>,
        link: &mut Link,
    ) -> Result<(), Error> {
        // Stable: in a partition nothing passes anything else.
        records.sort_by_key(|record| record.partition);
        for of_one in records.chunk_by(|one, next| one.partition == next.partition) {
            let mut rest = of_one;
            loop {
                let answer = self.hand_over(topic, rest, headers);
                let taken = answer.map_or_else(|refused| refused.taken, |()| rest.len());
                if self.sent == self.sent_before && taken > 0 {
                    fail::step("kafka.produce");
                }
                self.sent += taken as u64;
                let Err(Refused { code, .. }) = answer else {
                    break;
                };
                rest = &rest[taken..];
                let in_flight = self.producer.in_flight_count();
                match code {
                    RDKafkaErrorCode::QueueFull if in_flight == 0 => {
                        return Err(never_fits(topic, &rest[0]));
                    }
                    RDKafkaErrorCode::QueueFull => self.deliver_down_to(in_flight / 2, link)?,
                    code => return Err(self.refused(topic, &rest[0], code)),
                }
            }
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Hands over what librdkafka takes of `records`, which are of one partition.
    fn hand_over(
        &mut self,
        topic: &str,
        records: &[Outgoing<'_>],
        headers: Option<Shared<'_>>,
    ) -> Result<(), Refused> {
        if !self.handles.contains_key(topic) {
            let handle = TopicHandle::open(&self.producer, topic)
                .map_err(|code| Refused { taken: 0, code })?;
            self.handles.insert(topic.to_owned(), handle);
        }
        let handle = &self.handles[topic];
        match headers {
            Some(headers) => handle.produce_each(records, headers, clock::unix_ms()),
            None => handle.produce_batch(records),
        }
    }

    /// Awaits every delivery, then commits, and says how long the transaction took.
    pub(crate) fn commit(&mut self, link: &mut Link) -> Result<Duration, Error> {
        self.drain(link)?;
        fail::step("kafka.commit.before");
        let asked = Cell::new(false);
        self.persist("committing a transaction", link, |producer| {
            if asked.replace(true) || !fail::wanted("kafka.commit.sent") {
                return producer.commit_transaction(STEP);
            }
            // For who wants to end here: the request is on its way, nobody has seen the answer. Not in
            // every test: librdkafka may lose the answer to a commit that was given up and asked again.
            let answer = producer.commit_transaction(AT_ONCE);
            fail::step("kafka.commit.sent");
            answer
        })?;
        fail::step("kafka.commit.after");
        self.committed = Some(clock::now());
        Ok(clock::now().duration_since(self.began))
    }

    /// IMPORTANT: `commit_transaction` would wait for deliveries too, but in steps of 100 ms, and a
    /// record that was refused after a fence shows in its delivery report alone.
    fn drain(&mut self, link: &mut Link) -> Result<(), Error> {
        self.deliver_until(link, || Ok(false))?;
        self.check_failure()?;
        let delivered = self.producer.client().context().delivered();
        if delivered != self.sent {
            return Err(Error::Redo {
                why: format!("{delivered} of {} records were delivered", self.sent),
                fenced: false,
            });
        }
        Ok(())
    }

    /// Has everything sent at once and waits until it is delivered, or until `enough` says so.
    pub(crate) fn deliver_until(
        &self,
        link: &mut Link,
        mut enough: impl FnMut() -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mut wait = Wait::new();
        while self.producer.in_flight_count() > 0 && !enough()? {
            // In an outage nothing lingers; to flush wakes every thread of librdkafka.
            match wait.is_slow() {
                true => wait.pause(),
                false => self.flush(),
            }
            self.serve(&mut wait);
            self.look(&wait, link)?;
        }
        Ok(())
    }

    /// Waits until no more than `most` records are in flight.
    fn deliver_down_to(&self, most: i32, link: &mut Link) -> Result<(), Error> {
        let mut wait = Wait::new();
        while self.producer.in_flight_count() > most {
            self.serve(&mut wait);
            self.look(&wait, link)?;
            wait.pause();
        }
        Ok(())
    }

    /// Lets librdkafka send what it holds, for a moment.
    #[expect(
        unsafe_code,
        reason = "rdkafka's own flush ends before it has an effect"
    )]
    fn flush(&self) {
        // SAFETY: the client lives as long as `self`, and the call takes nothing else. Its answer says no
        // more than `in_flight_count` does.
        unsafe { rd_kafka_flush(self.producer.client().native_ptr(), FLUSH_MS) };
    }

    /// Serves all events that wait: a call of `poll` serves one, and each partition has its own.
    fn serve(&self, wait: &mut Wait) {
        let context = self.producer.client().context();
        let delivered = context.delivered();
        loop {
            let before = self.producer.in_flight_count();
            self.producer.poll(Duration::ZERO);
            if self.producer.in_flight_count() >= before {
                break;
            }
        }
        // Events of other kinds count as in flight too, until they are served: only deliveries are
        // progress.
        if context.delivered() != delivered {
            wait.moved();
        }
    }

    /// Between two looks at something that is not done yet.
    fn look(&self, wait: &Wait, link: &mut Link) -> Result<(), Error> {
        self.check_failure()?;
        if self.late.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        if wait.is_slow() {
            self.check_transaction()?;
        }
        if wait.is_long() {
            link.down(&self.because("records wait to be delivered"));
        }
        Ok(())
    }

    /// Repeats a step of the transaction protocol for as long as it takes.
    fn persist(
        &self,
        doing: &str,
        link: &mut Link,
        step: impl Fn(&BaseProducer<Context>) -> Result<(), KafkaError>,
    ) -> Result<(), Error> {
        let wait = Wait::new();
        loop {
            self.producer.poll(Duration::ZERO);
            let Err(error) = step(&self.producer) else {
                link.up();
                return Ok(());
            };
            match of_transaction(doing, &error) {
                Error::Retry(why) if wait.is_long() => link.down(&self.because(&why)),
                Error::Retry(_) => {}
                other => return Err(other),
            }
            if self.late.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            wait.pause();
        }
    }

    /// Whether a record was refused, or the transaction failed for a reason of its own.
    fn check_failure(&self) -> Result<(), Error> {
        let Some(failure) = self.producer.client().context().failure() else {
            return Ok(());
        };
        match of_failure(&failure, self.limit(&failure.topic)) {
            Error::Stop(fault) => Err(Error::Stop(fault)),
            // What was only swept away says nothing of the cause; the transaction does.
            other => self.check_transaction().and(Err(other)),
        }
    }

    /// Asks how the transaction that is under way fares: to begin another one is refused in any case,
    /// and librdkafka's answer is the reason for which the present one failed, if it did.
    fn check_transaction(&self) -> Result<(), Error> {
        match self.producer.begin_transaction() {
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::State) => Ok(()),
            Err(error) => Err(of_transaction("sending records", &error)),
            Ok(()) => Err(Error::Redo {
                why: "no transaction was under way".into(),
                fenced: false,
            }),
        }
    }

    /// A record that librdkafka did not even queue.
    fn refused(&self, topic: &str, record: &Outgoing<'_>, code: RDKafkaErrorCode) -> Error {
        // The transaction may have failed before, for a reason that an earlier record's report holds, or
        // that only the transaction knows (R20).
        self.serve(&mut Wait::new());
        if let Err(earlier) = self.check_failure().and_then(|()| self.check_transaction()) {
            return earlier;
        }
        let failure = Failure {
            code,
            topic: topic.to_owned(),
            partition: record.number(),
            key: record.key.to_owned(),
            bytes: record.bytes(),
        };
        of_failure(&failure, self.limit(topic))
    }

    fn limit(&self, topic: &str) -> Option<u64> {
        let topic = self.plan.topics.get(topic)?;
        Some(topic.max_message_bytes)
    }

    /// `why`, with what librdkafka said of the connection.
    fn because(&self, why: &str) -> String {
        match self.producer.client().context().trouble() {
            Some(trouble) => format!("{why} ({trouble})"),
            None => why.to_owned(),
        }
    }
}

/// A record for which even an empty queue is too small.
fn never_fits(topic: &str, record: &Outgoing<'_>) -> Error {
    Error::Stop(Fault::failed(format!(
        "the record with key '{}' for topic '{topic}' ({} bytes) is larger than the producer's whole queue: raise \
         queue.buffering.max.kbytes in [kafka].properties",
        record.key,
        record.bytes()
    )))
}

/// Pauses of an eighth of the time waited so far: an answer takes milliseconds, an outage hours.
struct Wait {
    began: Instant,
    moved: Instant,
}

impl Wait {
    fn new() -> Wait {
        let now = clock::now();
        Wait {
            began: now,
            moved: now,
        }
    }

    /// What is waited for goes on.
    fn moved(&mut self) {
        self.moved = clock::now();
    }

    fn is_long(&self) -> bool {
        clock::now().duration_since(self.moved) > PATIENCE
    }

    fn is_slow(&self) -> bool {
        clock::now().duration_since(self.moved) > Duration::from_millis(100)
    }

    fn pause(&self) {
        const MIN: Duration = Duration::from_micros(200);
        let waited = clock::now().duration_since(self.began);
        let max = if self.is_slow() { 20 } else { 4 };
        clock::pause((waited / 8).clamp(MIN, Duration::from_millis(max)));
    }
}
