//! Reading ahead: stored snapshots in their order, read on other threads, no more of them than the memory
//! that is allowed and the journal's disk take (R29).

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::change::KeyHash;
use crate::fault::Fault;
use crate::io::http::budget::{Budget, Reservation};
use crate::io::http::schedule::GATE_PAUSE;
use crate::io::json::scan::Scan;
use crate::snapshot::Place;

use super::archive::epochs::{Epochs, Found};
use super::inputs::Input;
use super::places::open;
use super::read::{self, Cut, Form, Reading};

/// What a compressed file is expected to grow to.
const EXPANSION: u64 = 8;

/// What is read.
pub enum Stock {
    /// Files, in order.
    Files(Vec<Input>),
    /// What an archive of changes holds.
    Archive(Box<Epochs>),
}

/// What is known of a stored snapshot before it is cut.
pub struct Item {
    /// The cell's place among all cells.
    pub index: usize,
    /// When it was polled.
    pub polled_at: u64,
    /// How far its cell has come with it.
    pub place: Place,
    /// Bytes that were read for it, as they are stored.
    pub size: u64,
    /// Whether it is never the whole cell.
    pub partial: bool,
    /// Hashes of keys that it says are gone.
    pub gone: Vec<KeyHash>,
    /// What it is, for people.
    pub shown: String,
}

/// A stored snapshot that is being read: what there is of it, or why it cannot be used.
pub struct Begun {
    /// What it is.
    pub item: Item,
    /// Done when it is read.
    pub reading: JoinHandle<(Result<Cut, String>, Reservation)>,
}

/// Admits stored snapshots and has them read.
pub struct Admission {
    /// How files are read.
    pub reading: Arc<Reading>,
    /// What entries are known by, by the cell's place among all.
    pub scans: Vec<Arc<Scan>>,
    /// Snapshots that are read at a time.
    pub readers: Arc<Semaphore>,
    /// Memory.
    pub budget: Budget,
    /// Whether the journal has room.
    pub room: Box<dyn Fn() -> bool + Send + Sync>,
    /// Becomes true when it is to stop.
    pub stop: watch::Receiver<bool>,
}

impl Stock {
    /// How many snapshots there are, if that is known.
    pub fn snapshots(&self) -> Option<u64> {
        match self {
            Stock::Files(files) => Some(files.len() as u64),
            Stock::Archive(_) => None,
        }
    }

    /// Bytes as they are stored.
    pub fn bytes(&self) -> u64 {
        match self {
            Stock::Files(files) => files.iter().map(|file| file.size).sum(),
            Stock::Archive(epochs) => epochs.size(),
        }
    }
}

impl Admission {
    /// Reads `stock` to its end, or until it is to stop. A fault is the last that comes.
    pub async fn admit(self, stock: Stock, begin: Sender<Result<Begun, Fault>>) {
        match stock {
            Stock::Files(files) => self.files(files, begin).await,
            Stock::Archive(epochs) => self.archive(epochs, begin).await,
        }
    }

    async fn files(self, files: Vec<Input>, begin: Sender<Result<Begun, Fault>>) {
        for input in files {
            if !self.may_go_on().await {
                return;
            }
            let name = input.place.name.as_deref().unwrap_or_default();
            let expected = match read::without_compression(name).is_some() {
                true => input.size.saturating_mul(EXPANSION),
                false => input.size,
            };
            let expected = expected.min(self.reading.body_max);
            // In order: the oldest that is not sealed is always admitted.
            let reservation = self.budget.reserve(expected).await;
            let turn = self.readers.clone().acquire_owned().await;
            let turn = turn.expect("it is never closed");
            let (location, form) = (input.location.clone(), input.form);
            let (reading, scan) = (self.reading.clone(), self.scans[input.index].clone());
            let reading = spawn_blocking(move || {
                let _turn = turn;
                let mut reservation = reservation;
                let runtime = Handle::current();
                let cut = open(&location).and_then(|file| {
                    let grow = |bytes| runtime.block_on(reservation.grow_to(bytes));
                    read::read(file, form, &reading, &scan, grow)
                });
                (cut, reservation)
            });
            let item = input.into();
            if begin.send(Ok(Begun { item, reading })).await.is_err() {
                return;
            }
        }
    }

    async fn archive(self, mut epochs: Box<Epochs>, begin: Sender<Result<Begun, Fault>>) {
        while self.may_go_on().await {
            let read = spawn_blocking(move || {
                let next = epochs.read_next();
                (epochs, next)
            });
            let next;
            (epochs, next) = read.await.expect("a panic ends the process");
            let begun = match next {
                Ok(None) => return,
                Ok(Some(found)) => {
                    let mut reservation = self.budget.reserve(found.bytes).await;
                    let scan = self.scans[found.index].clone();
                    let (item, pieces, bytes) = found.into();
                    let turn = self.readers.clone().acquire_owned().await;
                    let turn = turn.expect("it is never closed");
                    let reading = spawn_blocking(move || {
                        let _turn = turn;
                        let runtime = Handle::current();
                        let grow = |bytes| runtime.block_on(reservation.grow_to(bytes));
                        (Cut::scan(pieces, bytes, &scan, grow), reservation)
                    });
                    Ok(Begun { item, reading })
                }
                Err(reason) => Err(Fault::failed(reason)),
            };
            let last = begun.is_err();
            if begin.send(begun).await.is_err() || last {
                return;
            }
        }
    }

    /// Waits for the journal to have room; false: it is to stop.
    async fn may_go_on(&self) -> bool {
        while !*self.stop.borrow() && !(self.room)() {
            tokio::time::sleep(GATE_PAUSE).await;
        }
        !*self.stop.borrow()
    }
}

impl From<Input> for Item {
    fn from(input: Input) -> Item {
        Item {
            index: input.index,
            polled_at: input.place.polled_at,
            place: input.place,
            size: input.size,
            partial: input.form == Form::Avro,
            gone: Vec::new(),
            shown: input.location.to_string(),
        }
    }
}

impl From<Found> for (Item, Vec<Bytes>, u64) {
    fn from(found: Found) -> (Item, Vec<Bytes>, u64) {
        let item = Item {
            index: found.index,
            polled_at: found.polled_at,
            place: found.place,
            size: found.read,
            partial: true,
            gone: found.gone,
            shown: found.shown,
        };
        (item, found.pieces, found.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::fs;
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::super::places::Location;
    use super::*;
    use crate::io::json::pointer::Pointer;

    const FILES: u64 = 12;
    const FILE_BYTES: usize = 100_000;
    /// Two of them, and not three.
    const MEMORY: u64 = 250_000;

    fn files(dir: &std::path::Path) -> Vec<Input> {
        let write = |at: u64| {
            let path = dir.join(format!("{at}.json"));
            let value = "x".repeat(FILE_BYTES);
            fs::write(&path, format!("[{{\"id\":\"a\",\"v\":\"{value}\"}}]")).unwrap();
            Input {
                index: 0,
                place: Place {
                    polled_at: at,
                    name: Some(format!("{at}.json")),
                },
                size: fs::metadata(&path).unwrap().len(),
                form: Form::Json,
                location: Location::File(path),
            }
        };
        (0..FILES).map(write).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn r29_no_more_is_read_ahead_than_memory_allows_and_all_of_it_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let budget = Budget::new(MEMORY);
        let (_go_on, stop) = watch::channel(false);
        let admission = Admission {
            reading: Arc::new(Reading {
                records: Pointer::parse("").unwrap(),
                body_max: 1 << 20,
            }),
            scans: vec![Arc::new(Scan::of_keys(vec![
                Pointer::parse("/id").unwrap(),
            ]))],
            readers: Arc::new(Semaphore::new(4)),
            budget: budget.clone(),
            room: Box::new(|| true),
            stop,
        };
        let (begin, mut begun) = mpsc::channel(FILES as usize);
        tokio::spawn(admission.admit(Stock::Files(files(dir.path())), begin));
        let (mut held, mut most, mut polled) = (VecDeque::new(), 0, Vec::new());
        loop {
            // The clock is paused: this second passes when nothing else can go on.
            match timeout(Duration::from_secs(1), begun.recv()).await {
                Ok(Some(next)) => {
                    let Begun { item, reading } = next.unwrap();
                    let (cut, reservation) = reading.await.unwrap();
                    cut.unwrap();
                    polled.push(item.polled_at);
                    held.push_back(reservation);
                    most = most.max(held.len());
                    assert!(budget.used() <= MEMORY, "{}", budget.used());
                }
                Ok(None) => break,
                Err(_) => drop(held.pop_front().expect("it waits for memory")),
            }
        }
        assert_eq!(most, 2);
        assert!(polled.into_iter().eq(0..FILES));
    }
}
