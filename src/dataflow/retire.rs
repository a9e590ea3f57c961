//! Retire: drops from the journal what all followers are past (R30), on worker 0.

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;

use deltapoll_state::fail;

use crate::change::Seq;
use crate::ledger::Ledger;

use super::message::{Position, Who};

/// What `retire` needs on worker 0.
pub struct Retiring {
    /// The journal.
    pub ledger: Ledger,
    /// Where the followers were when the process started.
    pub positions: BTreeMap<Who, Seq>,
    /// Told every position.
    pub reached: Arc<dyn Fn(Position) + Send + Sync>,
}

/// Builds the operator; `retiring` is there on worker 0 only. What all are past already is dropped now: while
/// the journal is too long for polls to start, no position moves that would ask for it.
pub fn retire<'scope>(positions: StreamVec<'scope, u64, Position>, retiring: Option<Retiring>) {
    let mut retiring = retiring;
    if let Some(retiring) = &retiring {
        retiring.drop_past();
    }
    positions.sink(
        Exchange::new(|_: &Position| 0),
        "Retire",
        move |(input, _)| {
            let Some(retiring) = &mut retiring else {
                return;
            };
            input.for_each(|_, data| {
                for position in data.drain(..) {
                    retiring.take(position);
                }
            });
        },
    );
}

impl Retiring {
    fn take(&mut self, position: Position) {
        let known = self
            .positions
            .get_mut(&position.who)
            .expect("every follower has a position");
        assert!(
            known.0 <= position.seq,
            "{:?} went back: {known} to {}",
            position.who,
            position.seq
        );
        if known.0 < position.seq {
            *known = Seq(position.seq);
            if position.who != Who::Archive {
                // The archive records its own, together with its objects.
                let fact = position.who.fact().to_owned();
                let text = position.seq.to_string();
                self.ledger.set_lazily(vec![(fact, Some(text))]);
            }
            self.drop_past();
        }
        (self.reached)(position);
    }

    fn drop_past(&self) {
        let least = self.positions.values().copied().min();
        fail::step("retire.asked");
        self.ledger.retire(least.expect("there are followers"));
    }
}

#[cfg(test)]
mod tests {
    use deltapoll_state::journal::{Journal, Options};
    use timely::dataflow::operators::generic::operator::empty;

    use super::*;
    use crate::change::Epoch;
    use crate::follower::{Facts, Logs};

    #[test]
    fn r30_what_all_are_past_at_a_start_is_dropped_without_a_move() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), Options::default()).unwrap();
        for epoch in 1..=3 {
            journal.append(Epoch(epoch), b"", Some(&[])).unwrap();
            journal.roll().unwrap();
        }
        let ledger = Ledger::start(journal);
        let retiring = Retiring {
            ledger: ledger.clone(),
            positions: BTreeMap::from([(Who::Publish, Seq(3)), (Who::Remember, Seq(2))]),
            reached: Arc::new(|_| panic!("nobody moved")),
        };
        timely::execute_directly(move |worker| {
            worker.dataflow(|scope| retire(empty(scope), Some(retiring)));
        });
        ledger.set(Vec::new(), true).unwrap();
        assert!(ledger.after(Seq(1)).is_err() && ledger.after(Seq(2)).is_ok());
    }
}
