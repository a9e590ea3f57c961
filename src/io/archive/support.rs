//! Doubles for the archive's tests: a journal and facts in memory, a clock that stands still, and
//! what is in the objects, to compare with what should be.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use apache_avro::Reader;
use apache_avro::types::Value;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tokio::runtime::Runtime;

use super::fateful::{Fate, Fateful};
use super::*;
use crate::change::{Builder, CellId, Change, Fingerprint, Head, KeyHash, Kind};
use crate::config::quantity::Bytes;
use crate::config::{Codec, Roll};
use crate::io::avro::header::Header;

pub const LINEAGE: &str = "00112233445566778899aabbccddeeff";
pub const URL: &str = "memory://test";
pub const EPOCH_0: u64 = 1_700_000_000_000;

/// Partition, key, value, silent.
pub type Changes = Vec<(u32, String, Option<String>, bool)>;

/// A journal in memory.
#[derive(Default)]
pub struct Journal {
    pub batches: Mutex<Vec<SealedBatch>>,
    /// Batches up to here are retired.
    pub floor: AtomicU64,
}

impl Journal {
    /// Seals an epoch: one batch per item, of a topic and its changes.
    pub fn seal(&self, epoch: u64, batches: &[(&str, Changes)]) {
        let mut all = self.batches.lock().unwrap();
        for (i, (topic, changes)) in batches.iter().enumerate() {
            let head = Head {
                cell: CellId(1),
                polled_at: EPOCH_0 + epoch + 7,
                topic: (*topic).to_owned(),
                source: "source".into(),
                label: String::new(),
            };
            let mut builder = Builder::new(&head);
            for (partition, key, value, silent) in changes {
                builder.push(&change(*partition, key, value.as_deref(), *silent));
            }
            let batch = SealedBatch {
                seq: Seq(all.len() as u64 + 1),
                epoch: Epoch(EPOCH_0 + epoch),
                last: i + 1 == batches.len(),
                body: builder.take().unwrap(),
            };
            all.push(batch);
        }
    }

    /// Seals an epoch of one batch with `n` changes of 4 + 6 bytes each in partition 0.
    pub fn seal_plain(&self, epoch: u64, topic: &str, n: usize) {
        let changes = (0..n).map(|i| (0, format!("k{i:03}"), Some("\"abcd\"".into()), false));
        self.seal(epoch, &[(topic, changes.collect())]);
    }

    pub fn last(&self) -> Seq {
        Seq(self.batches.lock().unwrap().len() as u64)
    }

    /// Every change that belongs into an object, by topic-partition.
    pub fn expected(&self, upto: Seq) -> BTreeMap<(String, u32), Vec<Archived>> {
        let mut expected: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for batch in self
            .batches
            .lock()
            .unwrap()
            .iter()
            .filter(|b| b.seq <= upto)
        {
            let body = crate::change::Batch::read(&batch.body).unwrap();
            for change in body.changes().map(|c| c.unwrap()).filter(|c| !c.silent) {
                let lane = (body.head.topic.clone(), change.partition);
                expected.entry(lane).or_default().push(Archived {
                    key: change.key.to_owned(),
                    kind: change.kind.as_str().to_owned(),
                    epoch: batch.epoch.0,
                    seq: batch.seq.0,
                    value: change.value.map(|v| String::from_utf8(v.to_vec()).unwrap()),
                });
            }
        }
        expected
    }
}

fn change<'a>(partition: u32, key: &'a str, value: Option<&'a str>, silent: bool) -> Change<'a> {
    Change {
        kind: if value.is_some() {
            Kind::Changed
        } else {
            Kind::Removed
        },
        partition,
        hash: KeyHash(1),
        print: Fingerprint {
            raw: 1,
            canon: u64::MAX,
            rule: 1,
        },
        key,
        value: value.map(str::as_bytes),
        silent,
    }
}

struct Cursor {
    journal: Arc<Journal>,
    at: usize,
}

impl Log for Cursor {
    fn next(&mut self) -> Result<Option<SealedBatch>, Fault> {
        let next = self.journal.batches.lock().unwrap().get(self.at).cloned();
        self.at += usize::from(next.is_some());
        Ok(next)
    }
}

pub struct Cursors(pub Arc<Journal>);

impl Logs for Cursors {
    fn after(&self, position: Seq) -> Result<Box<dyn Log>, Fault> {
        let floor = self.0.floor.load(Ordering::Relaxed);
        if position.0 < floor {
            return Err(Fault::failed(format!(
                "{position} is below {floor}, which is retired"
            )));
        }
        let at = usize::try_from(position.0).unwrap();
        Ok(Box::new(Cursor {
            journal: Arc::clone(&self.0),
            at,
        }))
    }
}

type State = BTreeMap<String, String>;

/// Facts in memory, with every earlier state.
pub struct Memory {
    pub states: Mutex<Vec<State>>,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            states: Mutex::new(vec![State::new()]),
        }
    }
}

impl Facts for Memory {
    fn get(&self, name: &str) -> Option<String> {
        self.states
            .lock()
            .unwrap()
            .last()
            .unwrap()
            .get(name)
            .cloned()
    }

    fn under(&self, prefix: &str) -> Vec<(String, String)> {
        let states = self.states.lock().unwrap();
        let all = states.last().unwrap().iter();
        all.filter(|(k, _)| k.starts_with(prefix))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }

    fn set(&self, facts: Vec<(String, Option<String>)>, sync: bool) -> Result<(), Fault> {
        assert!(sync, "the position that is returned must be durable");
        let mut states = self.states.lock().unwrap();
        let mut state = states.last().unwrap().clone();
        for (name, value) in facts {
            match value {
                Some(value) => state.insert(name, value),
                None => state.remove(&name),
            };
        }
        states.push(state);
        Ok(())
    }
}

type Hook = Box<dyn FnMut() + Send>;

/// A clock that stands still; pauses move it.
pub struct Still {
    base: Instant,
    ms: AtomicU64,
    pub on_pause: Mutex<Option<Hook>>,
}

impl Still {
    pub fn pass(&self, duration: Duration) {
        let ms = u64::try_from(duration.as_millis()).unwrap();
        self.ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Time for Still {
    fn unix_ms(&self) -> u64 {
        EPOCH_0 + self.ms.load(Ordering::Relaxed)
    }

    fn now(&self) -> Instant {
        self.base + Duration::from_millis(self.ms.load(Ordering::Relaxed))
    }

    fn pause(&self, duration: Duration) {
        self.pass(duration);
        if let Some(hook) = &mut *self.on_pause.lock().unwrap() {
            hook();
        }
    }
}

/// A change as it was read back from an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    pub key: String,
    pub kind: String,
    pub epoch: u64,
    pub seq: u64,
    pub value: Option<String>,
}

/// Everything around an archive.
pub struct World {
    pub journal: Arc<Journal>,
    pub facts: Arc<Memory>,
    pub store: Arc<Fateful>,
    pub objects: Arc<Objects>,
    pub time: Arc<Still>,
    pub _runtime: Runtime,
}

impl World {
    pub fn new() -> World {
        World::over(Arc::new(InMemory::new()), URL, None)
    }

    pub fn over(inner: Arc<dyn ObjectStore>, url: &str, objects: Option<&str>) -> World {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
        let store = Arc::new(Fateful {
            inner,
            fates: Mutex::default(),
        });
        let handle = runtime.handle().clone();
        let objects = match objects {
            None => Objects::over(Arc::clone(&store) as _, url, handle),
            Some(url) => Objects::open(url, &BTreeMap::new(), handle).unwrap(),
        };
        World {
            journal: Arc::default(),
            facts: Arc::default(),
            store,
            objects: Arc::new(objects),
            time: Arc::new(Still {
                base: crate::clock::now(),
                ms: AtomicU64::new(0),
                on_pause: Mutex::default(),
            }),
            _runtime: runtime,
        }
    }

    pub fn archive(&self, roll: Roll) -> Archive {
        self.try_archive(Settings::new(roll, Codec::Zstandard, LINEAGE))
            .unwrap()
    }

    pub fn try_archive(&self, settings: Settings) -> Result<Archive, Fault> {
        let logs = Arc::new(Cursors(Arc::clone(&self.journal)));
        let facts = Arc::clone(&self.facts);
        let objects = Arc::clone(&self.objects);
        Archive::new(settings, logs, facts, objects, Arc::clone(&self.time) as _)
    }

    pub fn fates(&self, fates: impl IntoIterator<Item = Fate>) {
        self.store.fates.lock().unwrap().extend(fates);
    }

    /// First indexes of all objects, by topic-partition.
    pub fn firsts(&self) -> Vec<(String, u32, Vec<u64>)> {
        let inventory = inventory(&self.objects).unwrap();
        let lanes = inventory.into_iter();
        lanes
            .map(|((t, p), names)| (t, p, names.into_keys().collect()))
            .collect()
    }

    pub fn header(&self, name: &str) -> Header {
        let bytes = self.objects.get(name).unwrap().unwrap();
        Header::read(&bytes).unwrap()
    }

    /// What is in the objects; checks that ranges are contiguous and headers say what is there.
    pub fn archived(&self) -> BTreeMap<(String, u32), Vec<Archived>> {
        let mut all = BTreeMap::new();
        for (lane, names) in inventory(&self.objects).unwrap() {
            let mut records: Vec<Archived> = Vec::new();
            for (first, name) in names {
                let bytes = self.objects.get(&name).unwrap().unwrap();
                let header = Header::read(&bytes).unwrap();
                assert_eq!(first, records.len() as u64, "{name}: no gap, no overlap");
                assert_eq!(header.first, first, "{name}");
                let read: Vec<_> = Reader::new(&bytes[..]).unwrap().map(archived).collect();
                assert_eq!(header.records(), read.len() as u64, "{name}");
                assert_eq!(header.seq_first.0, read[0].seq, "{name}");
                assert_eq!(header.seq_last.0, read[read.len() - 1].seq, "{name}");
                records.extend(read);
            }
            all.insert(lane, records);
        }
        all
    }
}

fn archived(record: Result<Value, apache_avro::Error>) -> Archived {
    let Value::Record(fields) = record.unwrap() else {
        panic!("no record")
    };
    let fields: BTreeMap<String, Value> = fields.into_iter().collect();
    let long = |name: &str| match fields[name] {
        Value::Long(n) => n.cast_unsigned(),
        ref other => panic!("{other:?}"),
    };
    let text = |value: &Value| match value {
        Value::String(text) | Value::Enum(_, text) => text.clone(),
        other => panic!("{other:?}"),
    };
    let Value::Union(_, value) = &fields["value"] else {
        panic!("no union")
    };
    Archived {
        key: text(&fields["key"]),
        kind: text(&fields["change"]),
        epoch: long("epoch"),
        seq: long("seq"),
        value: (**value != Value::Null).then(|| text(value)),
    }
}

/// Rolls by nothing unless told.
pub fn never() -> Roll {
    Roll {
        records: u64::MAX,
        bytes: Bytes(u64::MAX),
        age: Duration::from_secs(1 << 30),
    }
}

pub fn by_records(records: u64) -> Roll {
    Roll { records, ..never() }
}
