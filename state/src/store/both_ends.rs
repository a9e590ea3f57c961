//! All pairs of a store, read by two threads: one from the first on, the other from the last back,
//! until they meet. Reading takes longer than anything that is done with a pair, and nobody need know where
//! the middle is.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::Bytes;
use crate::error::Error;

#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

/// The last key that each of the two took.
#[derive(Default)]
struct Taken {
    first: Option<Bytes>,
    last: Option<Bytes>,
    /// One of them could not read on: the other need not either.
    failed: bool,
}

impl Taken {
    /// Takes a pair, unless it was taken from the other end.
    ///
    /// IMPORTANT: asked of each pair: one would be visited twice or not at all where both go on beyond the
    /// place where they meet, or stop before.
    fn take(&mut self, end: End, key: &Bytes) -> bool {
        let (own, free) = match end {
            End::First => {
                let free = self.last.as_ref().is_none_or(|last| **key < **last);
                (&mut self.first, free)
            }
            End::Last => {
                let free = self.first.as_ref().is_none_or(|first| **key > **first);
                (&mut self.last, free)
            }
        };
        if free && !self.failed {
            *own = Some(key.clone());
        }
        free && !self.failed
    }
}

/// Visits every pair once, of which each call of `all` gives all, in order; returns what the two found.
pub(super) fn visit<T, P>(
    all: impl Fn() -> P + Sync,
    visit: impl Fn(&mut T, &[u8], &[u8]) + Sync,
) -> Result<[T; 2], Error>
where
    T: Default + Send,
    P: DoubleEndedIterator<Item = Result<(Bytes, Bytes), Error>>,
{
    let taken = Mutex::new(Taken::default());
    let taken = || taken.lock().unwrap_or_else(PoisonError::into_inner);
    let from = |end| {
        let mut found = T::default();
        let mut pairs = all();
        let mut next = || match end {
            End::First => pairs.next(),
            End::Last => pairs.next_back(),
        };
        loop {
            match next().transpose() {
                Ok(Some((key, value))) if taken().take(end, &key) => {
                    visit(&mut found, &key, &value)
                }
                Ok(_) => return Ok(found),
                Err(error) => {
                    taken().failed = true;
                    return Err(error);
                }
            }
        }
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("state-open".into());
        let last = thread.spawn_scoped(scope, || from(End::Last));
        let first = from(End::First);
        // Where there was no thread, the first has read everything.
        let last = last.map_or_else(
            |_| Ok(T::default()),
            |last| last.join().unwrap_or_else(|panic| resume_unwind(panic)),
        );
        Ok([first?, last?])
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    fn held(bytes: &[u8]) -> Bytes {
        Arc::<[u8]>::from(bytes).into()
    }

    fn visited(pairs: &Pairs, fail_at: Option<usize>) -> Result<Pairs, Error> {
        let all = || {
            pairs.iter().enumerate().map(|(at, (key, value))| {
                if fail_at == Some(at) {
                    let what = "is broken".to_owned();
                    return Err(Error::Store {
                        path: "p".into(),
                        what,
                    });
                }
                Ok((held(key), held(value)))
            })
        };
        let found = visit(all, |found: &mut Pairs, key, value| {
            found.push((key.to_vec(), value.to_vec()));
        });
        found.map(|found| found.concat())
    }

    #[test]
    fn every_pair_is_visited_once_however_many_there_are() {
        for count in [0_u32, 1, 2, 3, 17, 1_000, 100_000] {
            let pair = |n: u32| (n.to_be_bytes().to_vec(), vec![n as u8; 3]);
            let pairs: Pairs = (0..count).map(pair).collect();
            let found = visited(&pairs, None).unwrap();
            assert_eq!(found.len(), pairs.len());
            let [found, pairs] = [found, pairs].map(BTreeSet::from_iter);
            assert_eq!(found, pairs);
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_wherever_it_is() {
        let pairs: Pairs = (0..9_u8).map(|n| (vec![n], vec![])).collect();
        for at in 0..9 {
            assert!(visited(&pairs, Some(at)).is_err(), "{at}");
        }
    }
}
