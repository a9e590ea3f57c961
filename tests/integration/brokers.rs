//! The pipeline on three brokers that die, hang, and lose what they answer; and itself stopped.
//!
//! Each case ends with what independent readers find: nothing twice, nothing lost. What is withheld at
//! the proxies says when a fault strikes: an answer to Produce, in mid-transaction; an answer to EndTxn,
//! when the commit is decided and we do not know it. `DELTAPOLL_TORTURE=N` repeats each fault N times.

#[cfg(feature = "fail-points")]
use std::os::unix::process::ExitStatusExt;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::case::Case;
use crate::support::cluster::{Cluster, end};
use crate::support::fault_table::repetitions;
use crate::support::memory::Memory;
use crate::support::process::Program;
use crate::support::proxy::{Api, Deed, Proxy};
use crate::support::publisher;
use crate::support::wait::{PATIENCE, wait_until};
use deltapoll::change::Seq;
use deltapoll::follower::Follower;

/// A broker that does not answer is given up after so long.
const SOCKET: &str = "\"socket.timeout.ms\" = \"2000\"";
/// A transaction lives for so long, and an outage takes longer.
const SHORT: &str = "\"transaction.timeout.ms\" = \"1500\"";
const LONGER: Duration = Duration::from_millis(3_500);

/// A program at work on the cluster, which this test has for itself.
struct Pipeline {
    cluster: MutexGuard<'static, Cluster>,
    case: Case,
    program: Program,
}

impl Pipeline {
    fn start(name: &str, properties: &str) -> Pipeline {
        let cluster = Cluster::alone();
        let case = case(&cluster, name, properties);
        let program = case.start(&["--workers", "2"]);
        let mut pipeline = Pipeline {
            cluster,
            case,
            program,
        };
        pipeline.goes_on();
        pipeline
    }

    fn goes_on(&mut self) {
        self.case.goes_on(&mut self.program);
    }

    /// Nothing reaches Kafka for long; polling and sealing go on.
    fn stays_away(&mut self) {
        self.cluster.proxies().for_each(Proxy::refuse);
        let served = self.case.sim.served();
        pass("kafka is away", LONGER);
        wait_until("further polls", PATIENCE, || {
            assert!(self.program.is_running(), "{}", self.program.err());
            (self.case.sim.served() > served + 40).then_some(())
        });
    }

    fn proves(self, fault: &str) {
        self.case.proves(fault, self.program);
    }
}

fn case(cluster: &Cluster, name: &str, properties: &str) -> Case {
    let kafka = format!(
        "bootstrap = \"{}\"\ncreate = {{ partitions = 3, replication = 3 }}\n\
         properties = {{ {properties} }}",
        cluster.proxied()
    );
    let sim = ["--churn", "0.05", "--leave", "0.01"];
    let case = Case::on(cluster.bootstrap(), name, &sim).kafka(kafka);
    case.source("every = \"100ms\"\nremoved_after = 1")
}

/// An outage of this length.
fn pass(what: &str, length: Duration) {
    let since = Instant::now();
    wait_until(what, PATIENCE, || (since.elapsed() > length).then_some(()));
}

#[test]
fn kafka_a_broker_killed_in_mid_transaction_or_during_commit() {
    let mut pipeline = Pipeline::start("killed", SOCKET);
    for _ in 0..repetitions() {
        let cluster = &mut pipeline.cluster;
        cluster.withhold(Api::Produce, Deed::Hold);
        let leader = cluster.leader(&pipeline.case.name, 0);
        cluster.kill9(leader);
        cluster.let_pass();
        pipeline.goes_on();
        let cluster = &mut pipeline.cluster;
        cluster.start_all();
        cluster.wait_until_whole();
        pipeline.goes_on();
        let cluster = &mut pipeline.cluster;
        cluster.withhold(Api::EndTxn, Deed::Swallow);
        let coordinator = cluster.coordinator();
        cluster.kill9(coordinator);
        cluster.let_pass();
        pipeline.goes_on();
        let cluster = &mut pipeline.cluster;
        cluster.start_all();
        cluster.wait_until_whole();
    }
    pipeline.proves("a broker killed in mid-transaction, the coordinator's during a commit");
}

#[test]
fn kafka_the_coordinators_broker_killed_in_mid_transaction() {
    let mut pipeline = Pipeline::start("coordinator", SOCKET);
    for _ in 0..repetitions() {
        let cluster = &mut pipeline.cluster;
        cluster.wait_until_whole();
        cluster.withhold(Api::Produce, Deed::Hold);
        let coordinator = cluster.coordinator();
        cluster.kill9(coordinator);
        cluster.let_pass();
        pipeline.goes_on();
        pipeline.cluster.start_all();
    }
    pipeline.proves("the coordinator's broker killed in mid-transaction");
}

#[test]
fn kafka_all_brokers_down_for_longer_than_a_transaction_lives() {
    let mut pipeline = Pipeline::start("down", SHORT);
    for _ in 0..repetitions() {
        let cluster = &mut pipeline.cluster;
        cluster.wait_until_whole();
        cluster.withhold(Api::Produce, Deed::Hold);
        cluster.kill9_all();
        cluster.let_pass();
        pass("all brokers are down", LONGER);
        pipeline.cluster.start_all();
        pipeline.goes_on();
    }
    pipeline.proves("all brokers down for longer than transaction.timeout.ms");
}

#[test]
fn kafka_a_paused_broker() {
    let mut pipeline = Pipeline::start("paused", SOCKET);
    for _ in 0..repetitions() {
        pipeline.cluster.wait_until_whole();
        let coordinator = pipeline.cluster.coordinator();
        pipeline.cluster.signal(coordinator, "-STOP");
        pass("a short pause", Duration::from_secs(1));
        pipeline.cluster.signal(coordinator, "-CONT");
        pipeline.goes_on();
        let coordinator = pipeline.cluster.coordinator();
        pipeline.cluster.signal(coordinator, "-STOP");
        // Without it: the others elect a leader, and we find them.
        pipeline.goes_on();
        pipeline.cluster.signal(coordinator, "-CONT");
        pipeline.goes_on();
    }
    pipeline.proves("the coordinator's broker paused, shortly and until it was given up");
}

#[test]
fn kafka_the_answer_to_a_commit_is_lost() {
    let mut pipeline = Pipeline::start("lost", SOCKET);
    for _ in 0..repetitions() {
        for deed in [Deed::Swallow, Deed::Cut] {
            pipeline.cluster.withhold(Api::EndTxn, deed);
            pipeline.goes_on();
        }
    }
    pipeline.proves("the answer to EndTxn lost, with and without its connection");
}

#[test]
fn kafka_connections_are_slow_and_break() {
    let mut pipeline = Pipeline::start("slow", SOCKET);
    for _ in 0..repetitions() {
        let slow = |proxy: &Proxy| proxy.delay(Duration::from_millis(50));
        pipeline.cluster.proxies().for_each(slow);
        pipeline.goes_on();
        for _ in 0..10 {
            pipeline.cluster.proxies().for_each(Proxy::cut);
            pass("a broken connection", Duration::from_millis(150));
        }
        pipeline.cluster.let_pass();
        pipeline.goes_on();
    }
    pipeline.proves("every answer delayed, every connection cut ten times");
}

#[test]
fn kafka_a_transaction_expires_while_the_program_is_stopped() {
    let mut pipeline = Pipeline::start("stopped", SHORT);
    for _ in 0..repetitions() {
        pipeline.cluster.withhold(Api::Produce, Deed::Hold);
        pipeline.program.signal("-STOP");
        let (bootstrap, topic) = (pipeline.cluster.bootstrap(), &pipeline.case.name);
        let ends = || {
            Some((
                end(&bootstrap, topic, true)?,
                end(&bootstrap, topic, false)?,
            ))
        };
        let open = wait_until("the ends", PATIENCE, ends);
        assert!(open.0 < open.1, "no transaction was open: {open:?}");
        wait_until("the end of the transaction", PATIENCE, || {
            ends().filter(|(committed, all)| committed == all)
        });
        pipeline.cluster.let_pass();
        pipeline.program.signal("-CONT");
        pipeline.goes_on();
    }
    pipeline.proves("the program stopped (SIGSTOP) until its transaction had expired");
}

#[test]
fn kafka_unreachable_at_the_start_and_for_long() {
    let cluster = Cluster::alone();
    cluster.proxies().for_each(Proxy::refuse);
    let case = case(&cluster, "away", SHORT);
    let program = case.start(&["--workers", "2"]);
    wait_until("it says that it waits", PATIENCE, || {
        program.err().contains("waiting for kafka").then_some(())
    });
    cluster.let_pass();
    let mut pipeline = Pipeline {
        cluster,
        case,
        program,
    };
    pipeline.goes_on();
    for _ in 0..repetitions() {
        pipeline.cluster.withhold(Api::Produce, Deed::Hold);
        pipeline.stays_away();
        pipeline.cluster.let_pass();
        pipeline.goes_on();
    }
    // A known directory starts, polls and seals without Kafka too.
    let Pipeline {
        cluster,
        case,
        program,
    } = pipeline;
    program.interrupt();
    program.wait().good();
    cluster.proxies().for_each(Proxy::refuse);
    let program = case.start(&["--workers", "1"]);
    let mut pipeline = Pipeline {
        cluster,
        case,
        program,
    };
    pipeline.stays_away();
    pipeline.cluster.let_pass();
    pipeline.goes_on();
    pipeline.proves("kafka unreachable at the start, and for longer than a transaction lives");
}

#[test]
fn r19_a_commit_whose_answer_was_lost_before_a_takeover_is_not_repeated() {
    let cluster = Cluster::alone();
    let case = publisher::Case::on(
        &cluster.proxied(),
        "takeover",
        &[("socket.timeout.ms", "2000")],
    );
    let journal = Memory::default();
    let upto = journal.seal(&case.topic, &[("a", Some("1"))]);
    let mut publisher = case.start(&journal, Seq(0));
    publisher.advance(upto).unwrap();
    cluster
        .proxies()
        .for_each(|proxy| proxy.order(Api::EndTxn, Deed::Swallow, u64::MAX));
    let upto = journal.seal(&case.topic, &[("b", Some("2"))]);
    let metrics = publisher.metrics();
    let publishing = thread::spawn(move || publisher.advance(upto));
    wait_until("the commit, which nobody told us of", PATIENCE, || {
        // Each record is followed by its commit marker.
        end(&cluster.bootstrap(), &case.topic, true).filter(|end| *end == 4)
    });
    let id = format!("deltapoll-{}-0", case.config.name);
    let rival = publisher::transactional(&cluster.bootstrap(), &id);
    cluster.let_pass();
    assert_eq!(publishing.join().unwrap(), Ok(upto));
    assert_eq!(case.pairs(), ["a=1", "b=2"]);
    assert_eq!(metrics.sessions.load(Ordering::Relaxed), 2);
    drop(rival);
}

/// The steps of a start and of its transactions; see `io::kafka`.
#[cfg(feature = "fail-points")]
const STEPS: [&str; 11] = [
    "kafka.topic.made",
    "kafka.progress.read",
    "kafka.fencing.marked",
    "kafka.init.before",
    "kafka.init.after",
    "kafka.begin",
    "kafka.produce",
    "kafka.progress",
    "kafka.commit.before",
    "kafka.commit.sent",
    "kafka.commit.after",
];

#[cfg(feature = "fail-points")]
#[test]
fn crash_at_every_step_of_publishing_to_kafka() {
    let sim = ["--churn", "0.05", "--leave", "0.01"];
    let case = Case::new("steps", &sim).source("every = \"50ms\"\nremoved_after = 1");
    let crash = |step: &str, nth: u32| {
        let order = format!("{step}:{nth}");
        let orders = [("DELTAPOLL_CRASH", order.as_str())];
        let ended = Program::start_with(case.dir.path(), &[], &orders).wait();
        assert_eq!(ended.status.signal(), Some(6), "{order}: {}", ended.err);
    };
    case.configure();
    for step in STEPS {
        crash(step, 1);
        let is_of_a_start = STEPS.iter().position(|s| *s == step) < Some(5);
        for n in 0..repetitions() {
            match is_of_a_start {
                true => crash("kafka.progress.read", 2),
                false => crash(step, 2 + n),
            }
        }
    }
    let mut program = case.start(&["--workers", "2"]);
    case.goes_on(&mut program);
    case.proves("the program aborted at each step of publishing", program);
}

/// What the name of the step says: the request has left, and its answer is not known.
#[cfg(feature = "fail-points")]
#[test]
fn crash_when_the_commit_is_sent_and_its_answer_is_not_known() {
    let cluster = Cluster::alone();
    let case = case(&cluster, "sent", SOCKET);
    for n in 1..=repetitions() {
        let asked = || cluster.proxies().map(|p| p.seen(Api::EndTxn)).sum::<u64>();
        let before = asked();
        case.configure();
        let nth = u64::from(n) + 2;
        let order = format!("kafka.commit.sent:{nth}");
        let orders = [("DELTAPOLL_CRASH", order.as_str())];
        let ended = Program::start_with(case.dir.path(), &[], &orders).wait();
        assert_eq!(ended.status.signal(), Some(6), "{}", ended.err);
        wait_until("the last request", PATIENCE, || {
            (asked() == before + nth).then_some(())
        });
    }
    let mut program = case.start(&["--workers", "2"]);
    case.goes_on(&mut program);
    case.proves("the program aborted between EndTxn and its answer", program);
}
