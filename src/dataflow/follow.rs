//! Follow: work off the worker thread, for whatever learns of marks.
//!
//! A follower has a thread of its own and reads the journal itself; this operator tells it how far it
//! has to come (and for `archive`, may) and passes on how far it has. Marks that come while it works are taken together: only
//! the newest counts. The operator holds one capability, its oldest.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::Duration;

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::scheduling::SyncActivator;

use crate::change::Seq;
use crate::clock;
use crate::fault::Fault;
use crate::follower::Follower;
use crate::stop;

use super::message::{Mark, Position, Who};

/// A follower may want to be called for a reason that comes from elsewhere (R29).
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How far a follower has to go.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    upto: Seq,
    last: bool,
}

/// Builds the operator; `follower` is there on worker 0 only.
pub fn follow<'scope>(
    marks: StreamVec<'scope, u64, Mark>,
    who: Who,
    name: &str,
    follower: Option<Box<dyn Follower>>,
) -> StreamVec<'scope, u64, Position> {
    let scope = marks.scope();
    marks.unary(Exchange::new(|_: &Mark| 0), name, move |_, info| {
        let waker = scope.worker().sync_activator_for(info.address.to_vec());
        let desk = follower.map(|follower| Desk::open(who, follower, waker));
        let mut oldest: Option<Capability<u64>> = None;
        let mut upto = Ticket {
            upto: Seq(0),
            last: false,
        };
        move |input, output| {
            let Some(desk) = &desk else { return };
            input.for_each(|time, data| {
                let capability = time.retain_least(0).expect("a message has a time");
                oldest.get_or_insert(capability);
                for mark in data.drain(..) {
                    upto = Ticket {
                        upto: mark.seq(),
                        last: mark.last,
                    };
                }
                desk.hand_in(upto);
            });
            for (reached, last) in desk.reached.try_iter() {
                let Some(capability) = &oldest else { continue };
                output.session(capability).give(Position {
                    who,
                    seq: reached.0,
                    last,
                });
                if reached >= upto.upto && last == upto.last {
                    oldest = None;
                }
            }
        }
    })
}

/// Where tickets go out and positions come back.
struct Desk {
    tickets: Sender<Ticket>,
    reached: Receiver<(Seq, bool)>,
}

impl Desk {
    fn open(who: Who, follower: Box<dyn Follower>, waker: SyncActivator) -> Desk {
        let (tickets, ticket_receiver) = channel();
        let (reached_sender, reached) = channel();
        let run = move || {
            let mut follower = follower;
            if let Err(fault) = work(follower.as_mut(), &ticket_receiver, &reached_sender, &waker) {
                stop::fatal(&fault);
            }
        };
        std::thread::Builder::new()
            .name(format!("{who:?}").to_lowercase())
            .spawn(run)
            .expect("a process that cannot start a thread cannot work");
        Desk { tickets, reached }
    }

    fn hand_in(&self, ticket: Ticket) {
        // The thread ends only with the process.
        let _ = self.tickets.send(ticket);
    }
}

fn work(
    follower: &mut dyn Follower,
    tickets: &Receiver<Ticket>,
    reached: &Sender<(Seq, bool)>,
    waker: &SyncActivator,
) -> Result<(), Fault> {
    let mut ticket = Ticket {
        upto: Seq(0),
        last: false,
    };
    loop {
        match wait(follower, tickets) {
            Ok(first) => ticket = tickets.try_iter().last().unwrap_or(first),
            // It is time for something that nothing new would start.
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        let position = match ticket.last {
            true => follower.close(ticket.upto)?,
            false => follower.advance(ticket.upto)?,
        };
        // IMPORTANT: send, then wake: the other way round the operator may look too early. A worker
        // that is gone takes the process with it.
        let _ = reached.send((position, ticket.last));
        let _ = waker.activate();
    }
}

/// The next ticket, or a time-out when the follower wants to be called without one.
fn wait(follower: &dyn Follower, tickets: &Receiver<Ticket>) -> Result<Ticket, RecvTimeoutError> {
    loop {
        let due = follower
            .due()
            .map(|due| due.saturating_duration_since(clock::now()));
        if due.is_some_and(|due| due.is_zero()) {
            return tickets.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            });
        }
        match tickets.recv_timeout(due.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN)) {
            Err(RecvTimeoutError::Timeout) => {}
            answer => return answer,
        }
    }
}
