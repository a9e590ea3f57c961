//! A poll, from the body's chunks to encoded batches: cut, scan and dedup on one worker.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use deltapoll::change::Epoch;
use deltapoll::dataflow::dedup::misses::Misses;
use deltapoll::dataflow::dedup::{SharedState, dedup};
use deltapoll::dataflow::message::{Decided, Polled, PolledItem};
use deltapoll::dataflow::poll::parts;
use deltapoll::io::json::cutter::{Cutter, PIECE_BYTES};
use deltapoll::io::json::pointer::Pointer;
use deltapoll::ledger::Ledger;
use deltapoll::snapshot::{Piece, Snapshot, Tally};
use deltapoll_state::journal::{Journal, Options};
use deltapoll_state::pages::Pages;
use deltapoll_state::range::Range;
use deltapoll_state::range_state::RangeState;
use deltapoll_state::store::MemoryStore;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use timely::dataflow::operators::{Inspect, Probe};
use timely::dataflow::{InputHandleVec, ProbeHandle};
use timely::worker::Worker;

use crate::graph::body::{player_of, scan};
use crate::graph::{SEED, Shape, chunks, plan};
use crate::{ENTRIES, measured};

pub fn unchanged() {
    poll(0);
}

pub fn one_percent() {
    poll(ENTRIES / 100);
}

pub fn all_changed() {
    poll(ENTRIES);
}

/// Counts a poll that changes so many players, after one that loads and one that changes nothing.
fn poll(changed: usize) {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut body = |changed: usize| {
        let plays = |number| changed > 0 && number % (ENTRIES / changed) == 0;
        let player = |number| player_of(number, usize::from(plays(number)));
        let mut players: Vec<String> = (0..ENTRIES).map(player).collect();
        players.shuffle(&mut random);
        chunks(&players)
    };
    let bodies = [body(0), body(0), body(changed)];
    timely::execute_directly(move |worker| {
        let mut deciding = Deciding::build(worker);
        let loaded = deciding.decide(worker, 1, &bodies[0]);
        assert_eq!(loaded.added, ENTRIES as u64);
        let written = deciding.state.borrow_mut().write(Epoch(1));
        assert!(written.expect("a store in memory").pages > 0);
        let warm = deciding.decide(worker, 2, &bodies[1]);
        assert_eq!(warm.changes(), 0);
        let mut tally = Tally::default();
        measured(&mut || tally = deciding.decide(worker, 3, &bodies[2]));
        assert_eq!(
            (tally.entries, tally.changed),
            (ENTRIES as u64, changed as u64)
        );
    });
}

/// Dedup on this thread.
struct Deciding {
    input: InputHandleVec<u64, Polled>,
    probe: ProbeHandle<u64>,
    state: SharedState,
    tally: Rc<RefCell<Tally>>,
}

impl Deciding {
    fn build(worker: &mut Worker) -> Deciding {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(dir.path(), Options::default()).expect("opens");
        let plan = Arc::new(plan(&Ledger::start(journal), &Shape::default()));
        let pages = Pages::new(Arc::new(MemoryStore::default()));
        let state = RangeState::new(pages.clone(), Range::ALL);
        let state: SharedState = Rc::new(RefCell::new(state));
        let unwritten = Arc::new(AtomicUsize::new(0));
        let mut input = InputHandleVec::new();
        let tally: Rc<RefCell<Tally>> = Rc::default();
        let (kept, told) = (state.clone(), tally.clone());
        let probe = worker.dataflow::<u64, _, _>(|scope| {
            let polled = input.to_stream(scope);
            let misses = Misses::default();
            let decided = dedup(polled, plan, kept, misses, pages, unwritten.clone());
            let seen = decided.inspect(move |decided| match decided {
                // As the journal does.
                Decided::Batch(body) => drop(unwritten.fetch_sub(body.len(), Ordering::AcqRel)),
                Decided::Share(share) => {
                    *told.borrow_mut() = share.tally;
                }
                Decided::Closed => {}
            });
            seen.probe().0
        });
        Deciding {
            input,
            probe,
            state,
            tally,
        }
    }

    /// From the chunks to the last encoded batch.
    fn decide(&mut self, worker: &mut Worker, epoch: u64, body: &[Bytes]) -> Tally {
        let snapshot = Snapshot {
            index: 0,
            poll: epoch,
            complete: true,
            polled_at: epoch,
            pieces: pieces(body),
            validators: None,
            stored: None,
        };
        self.input.advance_to(epoch);
        for part in parts(snapshot, 1) {
            let item = PolledItem::Part(part);
            self.input.send(Polled { to: 0, item });
        }
        self.input.advance_to(epoch + 1);
        while self.probe.less_equal(&epoch) {
            worker.step();
        }
        *self.tally.borrow()
    }
}

fn pieces(body: &[Bytes]) -> Vec<Piece> {
    let scan = scan(1);
    let records = Pointer::parse("/entries").expect("a pointer");
    let mut cutter = Cutter::new(&records, PIECE_BYTES, &scan.keys);
    let mut scanner = scan.begin();
    for chunk in body {
        cutter.push(chunk, &mut scanner).expect("sound");
    }
    cutter.finish().expect("whole");
    scanner.finish()
}
