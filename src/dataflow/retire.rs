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

/// Builds the operator; `retiring` is there on worker 0 only.
pub fn retire<'scope>(positions: StreamVec<'scope, u64, Position>, retiring: Option<Retiring>) {
    let mut retiring = retiring;
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
            let least = self
                .positions
                .values()
                .copied()
                .min()
                .expect("there are followers");
            fail::step("retire.asked");
            self.ledger.retire(least);
        }
        (self.reached)(position);
    }
}
