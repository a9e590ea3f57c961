//! A store in memory: the same five verbs, and nothing lasts.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::store::{Bytes, PageStore, Pairs, Write};

/// A store in memory, for tests and for what need not last.
#[derive(Debug, Default)]
pub struct MemoryStore {
    pairs: Mutex<Map>,
}

type Map = BTreeMap<Arc<[u8]>, Arc<[u8]>>;

impl MemoryStore {
    fn pairs(&self) -> MutexGuard<'_, Map> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PageStore for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = self.pairs().get(key).cloned();
        Ok(value.map(Bytes::from))
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
        Box::new(MemoryRange {
            store: self,
            from: Bound::Included(from.into()),
            to: Bound::Included(to.into()),
        })
    }

    fn apply(&self, batch: Vec<Write>) -> Result<(), Error> {
        let mut pairs = self.pairs();
        for (key, value) in batch {
            match value {
                Some(value) => pairs.insert(key.into(), value.into()),
                None => pairs.remove(&key[..]),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn bytes(&self) -> Result<u64, Error> {
        let pairs = self.pairs();
        Ok(pairs.iter().map(|(k, v)| (k.len() + v.len()) as u64).sum())
    }
}

/// Looks at the store anew for each pair.
struct MemoryRange<'a> {
    store: &'a MemoryStore,
    from: Bound<Arc<[u8]>>,
    to: Bound<Arc<[u8]>>,
}

impl MemoryRange<'_> {
    fn end(
        &self,
        pick: fn(&mut dyn DoubleEndedIterator<Item = Pair>) -> Option<Pair>,
    ) -> Option<Pair> {
        let (from, to) = (&self.from, &self.to);
        if let (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) =
            (from, to)
            && (a > b
                || (a == b && !matches!((from, to), (Bound::Included(_), Bound::Included(_)))))
        {
            return None;
        }
        let pairs = self.store.pairs();
        let mut range = pairs.range::<Arc<[u8]>, _>((from.clone(), to.clone()));
        pick(
            &mut range
                .by_ref()
                .map(|(key, value)| (key.clone(), value.clone())),
        )
    }
}

type Pair = (Arc<[u8]>, Arc<[u8]>);

fn own((key, value): Pair) -> Result<(Bytes, Bytes), Error> {
    Ok((Bytes::from(key), Bytes::from(value)))
}

impl Iterator for MemoryRange<'_> {
    type Item = Result<(Bytes, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let pair = self.end(|range| range.next())?;
        self.from = Bound::Excluded(pair.0.clone());
        Some(own(pair))
    }
}

impl DoubleEndedIterator for MemoryRange<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let pair = self.end(|range| range.next_back())?;
        self.to = Bound::Excluded(pair.0.clone());
        Some(own(pair))
    }
}
