//! What a journal allocates whose length fields say anything: no more than its files justify.
//!
//! The counter counts the whole process, so this binary holds one test.

#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use deltapoll_state::journal::{Journal, Options};
use deltapoll_state::word::Seq;

/// The largest allocation; buffers of readers and writers are below it.
const BYTES_MAX: usize = 512 << 10;
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/journal");

struct Counting;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// Safety: every call goes to the system's allocator with the arguments it came with.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Opens and reads what it can.
fn read(dir: &Path) -> Result<u64, deltapoll_state::error::Error> {
    let journal = Journal::open(dir, Options::default())?;
    let mut reader = journal.readers().after(Seq(journal.oldest().0 - 1))?;
    let mut frames = 0;
    while reader.next()?.is_some() {
        frames += 1;
    }
    Ok(frames)
}

#[test]
fn no_length_field_makes_a_journal_allocate_more_than_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["0000000001.seg", "0000000002.seg"];
    let whole = names.map(|name| fs::read(Path::new(CORPUS).join(name)).unwrap());
    let (mut opened, mut refused) = (0, 0);
    for changed in 0..names.len() {
        for at in (0..whole[changed].len() - 4).step_by(4) {
            for value in [u32::MAX, 1 << 30] {
                fs::remove_dir_all(dir.path()).unwrap();
                fs::create_dir(dir.path()).unwrap();
                for (name, bytes) in names.iter().zip(&whole) {
                    fs::write(dir.path().join(name), bytes).unwrap();
                }
                let mut bytes = whole[changed].clone();
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                fs::write(dir.path().join(names[changed]), bytes).unwrap();
                match read(dir.path()) {
                    Ok(_) => opened += 1,
                    Err(_) => refused += 1,
                }
                let largest = LARGEST.load(Ordering::Relaxed);
                assert!(
                    largest < BYTES_MAX,
                    "{largest} bytes: {} at {at}",
                    names[changed]
                );
            }
        }
    }
    assert!(
        opened > 10 && refused > 10,
        "{opened} opened, {refused} refused"
    );
}
