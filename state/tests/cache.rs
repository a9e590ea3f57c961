//! What stays in memory of a store that is read: about its cache, however much there is.
//!
//! The counter counts the whole process, so this binary holds one test.

#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use deltapoll_state::store::{PageStore, SledStore};

struct Counting;

/// Bytes that are allocated now.
static LIVE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// Safety: every call goes to the system's allocator with the arguments it came with.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_add(size, Ordering::Relaxed);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Nodes of sled, of 16 pairs each.
const NODES: u32 = 8_000;
const PAIRS: u32 = 16 * NODES;
const VALUE_BYTES: usize = 500;

#[test]
fn reading_a_store_keeps_a_fraction_of_it_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let open = || SledStore::open(dir.path(), 1 << 20).unwrap();
    let store = open();
    let pairs: Vec<u32> = (0..PAIRS).collect();
    for batch in pairs.chunks(1_000) {
        let write = |key: &u32| (key.to_be_bytes().to_vec(), Some(vec![7; VALUE_BYTES]));
        store.apply(batch.iter().map(write).collect()).unwrap();
    }
    store.flush().unwrap();
    drop(store);
    let before = LIVE.load(Ordering::Relaxed);
    let store = open();
    assert_eq!(store.range(&[0; 4], &[0xff; 4]).count(), PAIRS as usize);
    let kept = LIVE.load(Ordering::Relaxed) - before;
    let held = PAIRS as usize * VALUE_BYTES;
    assert!(kept < held / 2, "{kept} bytes of {held}");
}
