//! The staging budget (R29): memory of whole bodies, from request to seal.
//!
//! It is asked before a request is sent and while a body grows, never before a seal. The oldest
//! unfinished poll is always admitted: with every other one waiting for memory, it is the one that
//! gives memory back.
//!
//! Polls of which nobody knows how much they will take leave most of it alone: together with the oldest,
//! which may come to take all of it, they would hold twice as much.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Where other polls than the oldest do not know what they will take, they stop when so little of the budget
/// is used: one part in so many.
const UNKNOWN_PART: u64 = 4;

/// Bytes that all polls together may hold.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: u64,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    next: u64,
    unfinished: BTreeSet<u64>,
}

/// What one poll holds; given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    shared: Arc<Shared>,
    number: u64,
    bytes: u64,
    /// What may be used when it grows, unless it is the oldest.
    limit: u64,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Budget {
        Budget(Arc::new(Shared {
            limit,
            state: Mutex::default(),
            freed: Notify::new(),
        }))
    }

    /// Waits until a poll that expects `bytes` may start.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        self.reserve_within(bytes, self.0.limit).await
    }

    /// Waits until a poll may start that takes `bytes` at first, and nobody knows how much more.
    pub async fn reserve_unknown(&self, bytes: u64) -> Reservation {
        self.reserve_within(bytes, self.0.limit / UNKNOWN_PART)
            .await
    }

    async fn reserve_within(&self, bytes: u64, limit: u64) -> Reservation {
        let number = {
            let mut state = self.0.lock();
            state.next += 1;
            let number = state.next;
            state.unfinished.insert(number);
            number
        };
        let mut reservation = Reservation {
            shared: self.0.clone(),
            number,
            bytes: 0,
            limit,
        };
        reservation.grow_to(bytes).await;
        reservation
    }

    /// Bytes that are held.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.lock().used
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// Waits until the poll may hold `bytes` in all.
    pub async fn grow_to(&mut self, bytes: u64) {
        loop {
            let shared = self.shared.clone();
            let freed = shared.freed.notified();
            tokio::pin!(freed);
            // Before the check: what is freed between check and wait must wake us.
            freed.as_mut().enable();
            if self.try_grow(bytes) {
                return;
            }
            freed.await;
        }
    }

    /// Whether the poll may hold `bytes` in all, now. It mostly may, and to prepare a wait for each chunk would
    /// cost a tenth of hashing it.
    pub fn try_grow(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let mut state = self.shared.lock();
        let oldest = state.unfinished.first() == Some(&self.number);
        if !oldest && state.used + more > self.limit {
            return false;
        }
        state.used += more;
        self.bytes = bytes;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.used -= self.bytes;
        state.unfinished.remove(&self.number);
        drop(state);
        self.shared.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn r29_a_poll_waits_until_the_budget_has_room_for_it() {
        let budget = Budget::new(100);
        let first = ready(budget.reserve(60)).expect("there is room");
        let second = ready(budget.reserve(40)).expect("there is just room");
        assert!(ready(budget.reserve(1)).is_none(), "the budget is used up");
        drop(second);
        assert!(ready(budget.reserve(40)).is_some());
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn r29_polls_of_unknown_size_leave_room_for_the_oldest() {
        let budget = Budget::new(100);
        let mut oldest = ready(budget.reserve_unknown(5)).expect("the oldest is admitted");
        let mut second = ready(budget.reserve_unknown(5)).expect("there is room");
        assert!(ready(second.grow_to(20)).is_some(), "a quarter is used");
        assert!(ready(second.grow_to(21)).is_none(), "no more than that");
        assert!(ready(oldest.grow_to(80)).is_some());
        assert!(ready(budget.reserve_unknown(1)).is_none());
        assert_eq!(budget.used(), 100);
        drop(oldest);
        assert!(ready(second.grow_to(100)).is_some(), "now the oldest");
        drop(second);
        let _known = ready(budget.reserve(60)).expect("there is room");
        assert!(ready(budget.reserve(40)).is_some(), "a known size has all");
    }

    #[test]
    fn r29_the_oldest_unfinished_poll_is_always_admitted() {
        let budget = Budget::new(100);
        let mut oldest = ready(budget.reserve(1000)).expect("the oldest is admitted");
        assert!(ready(budget.reserve(1)).is_none());
        assert!(ready(oldest.grow_to(2000)).is_some(), "and may grow");
        drop(oldest);
        let mut second = ready(budget.reserve(50)).expect("there is room");
        let mut third = ready(budget.reserve(50)).expect("there is room");
        assert!(ready(third.grow_to(60)).is_none(), "not the oldest");
        assert!(ready(second.grow_to(60)).is_some(), "now the oldest");
    }
}
