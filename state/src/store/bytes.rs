//! Bytes of a store, where they lie.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A key or a value as the store holds it; cheap to clone.
#[derive(Clone)]
pub struct Bytes(Held);

#[derive(Clone)]
enum Held {
    Sled(sled::IVec),
    Own(Arc<[u8]>),
}

impl Deref for Bytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Held::Sled(bytes) => bytes,
            Held::Own(bytes) => bytes,
        }
    }
}

impl From<Arc<[u8]>> for Bytes {
    fn from(bytes: Arc<[u8]>) -> Bytes {
        Bytes(Held::Own(bytes))
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}

impl From<sled::IVec> for Bytes {
    fn from(bytes: sled::IVec) -> Bytes {
        Bytes(Held::Sled(bytes))
    }
}
