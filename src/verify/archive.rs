//! The archive's side: objects, whose ranges follow each other without gap or overlap, and the changes
//! in them (R24, R25).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::runtime::Runtime;

use crate::change::Seq;
use crate::clock;
use crate::config::Config;
use crate::dataflow::message::Who;
use crate::fault::Fault;
use crate::follower::Facts;
use crate::io::archive::{Inventory, inventory};
use crate::io::avro::header::{HEADER_BYTES_MAX, Header};
use crate::io::avro::read;
use crate::io::avro::schema::Record;
use crate::io::committed::Stamp;
use crate::io::json::hash;
use crate::io::lineage::Lineage;
use crate::io::object::{Kind as TroubleKind, Objects, Trouble};

use super::report::{Finding, Kind, Report};
use super::scope::{Scope, Sight, Watch};
use super::standing::{Position, Standing};

/// How often a request is tried.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
const PREFIX: &str = "archive/prefix";
const START: &str = "archive/start";

/// See the module.
pub struct Archive {
    objects: Objects,
    /// By topic and partition, the names of objects by the index of their first change.
    inventory: Inventory,
    /// What the directory knows to be in objects.
    known: BTreeMap<(String, u32), Known>,
    /// Where it began.
    pub start: Seq,
    /// No object is beyond this.
    published: Seq,
    lineage: Lineage,
    /// Changes, about.
    pub changes: u64,
    _runtime: Runtime,
}

/// What the directory knows of a lane.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Known {
    next: u64,
    seq: u64,
}

impl Archive {
    /// Lists the archive of `config`, if it has one.
    pub fn open(config: &Config, standing: &Standing) -> Result<Option<Archive>, Fault> {
        let Some(archive) = &config.archive else {
            return Ok(None);
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("io")
            .enable_all()
            .build()
            .map_err(|error| Fault::failed(format!("cannot start the I/O thread: {error}")))?;
        let objects = Objects::open(&archive.url, &archive.options, runtime.handle().clone())?;
        check_prefix(&standing.facts, objects.url())?;
        let started = standing.facts.seq(START)?;
        let started = started.or(standing.facts.seq(Who::Archive.fact())?);
        let inventory = insist(&objects, "topics", || inventory(&objects))?;
        // After the listing: an object is put behind the commit of what it holds.
        let published = match standing.is_stopped() {
            true => standing.published,
            false => Position::read(config)?.map_or(standing.published, |position| position.seq),
        };
        Ok(Some(Archive {
            known: known(&standing.facts)?,
            start: started.unwrap_or(standing.published),
            inventory,
            objects,
            published,
            lineage: standing.lineage.clone(),
            changes: 0,
            _runtime: runtime,
        }))
    }

    /// The topics that have objects, or should.
    pub fn topics(&self) -> impl Iterator<Item = &String> {
        let lanes = self.inventory.keys().chain(self.known.keys());
        lanes.map(|(topic, _)| topic)
    }

    /// Finds out how far each lane is archived.
    pub fn survey(&mut self, scope: &mut Scope) -> Result<(), Fault> {
        let mut ends: BTreeMap<(String, u32), (u64, Seq)> = BTreeMap::new();
        for (lane, names) in &self.inventory {
            let end = ends.entry(lane.clone()).or_default();
            let Some(name) = names.values().next_back() else {
                continue;
            };
            let read = || self.objects.head_header(name, HEADER_BYTES_MAX as u64);
            let bytes = insist(&self.objects, name, read)?.unwrap_or_default();
            // One that cannot be read is told when all of it is.
            if let Ok(header) = Header::read(&bytes)
                && header.lineage == self.lineage.id
            {
                *end = (header.last + 1, header.seq_last);
            }
        }
        for (lane, known) in &self.known {
            let end = ends.entry(lane.clone()).or_default();
            *end = (end.0.max(known.next), end.1.max(Seq(known.seq)));
        }
        for ((topic, partition), (next, seq)) in ends {
            self.changes += next;
            if let Some(topic) = scope.topic(&topic) {
                let lane = scope.lane(topic, partition);
                scope.lanes[lane].archived = seq;
            }
        }
        Ok(())
    }

    /// Shows every change of this lineage, with its object; checks ranges and objects for `report`.
    pub fn each(
        &self,
        scope: &Scope,
        watch: &Watch,
        mut report: Option<&mut Report>,
        visit: &mut dyn FnMut(&Sight<'_>, &str),
    ) -> Result<(), Fault> {
        watch.say(self.objects.url());
        let mut lanes: Vec<_> = self.inventory.keys().chain(self.known.keys()).collect();
        lanes.sort_unstable();
        lanes.dedup();
        let mut total = Total::default();
        for lane in lanes {
            let Some(at) = scope
                .topic(&lane.0)
                .and_then(|t| scope.known_lane(t, lane.1))
            else {
                continue;
            };
            let mut ends = Ends::default();
            for (first, name) in self.inventory.get(lane).into_iter().flatten() {
                let got = insist(&self.objects, name, || self.objects.get(name))?;
                let bytes = got.as_ref().map_or(0, Bytes::len);
                let header = self.object(at, *first, name, got, scope, watch, visit);
                let Some(report) = report.as_deref_mut() else {
                    let _ = header?;
                    continue;
                };
                match header? {
                    Err(what) => report.add(Kind::Object, || Finding {
                        object: Some(name.clone()),
                        what,
                        ..scope.at(at)
                    }),
                    Ok(header) if header.lineage == self.lineage.id => {
                        total.objects += 1;
                        total.changes += header.records();
                        total.bytes += bytes as u64;
                        self.range(at, &header, name, &mut ends, scope, report);
                    }
                    Ok(_) => report.note("{} objects are of the history before a state reset", 1),
                }
            }
            if let (Some(report), Some(known)) = (report.as_deref_mut(), self.known.get(lane))
                && ends.next < known.next
            {
                let what = "the directory knows them to be archived";
                gap(report, scope, at, ends.next, known.next, what);
            }
        }
        if let Some(report) = report {
            report.read(format!(
                "archive {}: {} objects, {} changes, {} bytes",
                self.objects.url(),
                total.objects,
                total.changes,
                total.bytes
            ));
        }
        Ok(())
    }

    /// Shows the changes of one object; what is wrong with it is the inner error.
    #[expect(clippy::too_many_arguments, reason = "what it is, and who wants it")]
    fn object(
        &self,
        lane: usize,
        first: u64,
        name: &str,
        bytes: Option<Bytes>,
        scope: &Scope,
        watch: &Watch,
        visit: &mut dyn FnMut(&Sight<'_>, &str),
    ) -> Result<Result<Header, String>, Fault> {
        let Some(bytes) = bytes else {
            return Ok(Err("it is gone".into()));
        };
        let header = match Header::read(&bytes) {
            Ok(header) if header.lineage == self.lineage.id => header,
            Ok(header) if self.lineage.replaces(&header.lineage) => return Ok(Ok(header)),
            Ok(header) => {
                let other = header.lineage;
                return Ok(Err(format!(
                    "it belongs to another directory (lineage {other})"
                )));
            }
            Err(what) => return Ok(Err(what)),
        };
        if header.first != first {
            let what = format!("it says that it begins with change {}", header.first);
            return Ok(Err(what));
        }
        let mut stopped = Ok(());
        let read = read::each(&bytes, &mut |record| {
            if stopped.is_ok() {
                stopped = watch.seen();
            }
            visit(&sight(scope, lane, record), name);
        });
        stopped.map(|()| read)
    }

    /// Whether the object follows the one before it, and nothing else is in between.
    fn range(
        &self,
        lane: usize,
        header: &Header,
        name: &str,
        ends: &mut Ends,
        scope: &Scope,
        report: &mut Report,
    ) {
        let finding = |what: String| Finding {
            object: Some(name.to_owned()),
            what,
            ..scope.at(lane)
        };
        if header.first > ends.next {
            let what = format!("the next object is {name}");
            gap(report, scope, lane, ends.next, header.first, &what);
        } else if header.first < ends.next {
            let last = header.last.min(ends.next - 1);
            report.add_many(Kind::Overlap, last + 1 - header.first, || {
                finding(format!("changes {} to {last}", header.first))
            });
        } else if header.seq_first <= ends.seq {
            report.add(Kind::Overlap, || {
                finding(format!(
                    "it begins with batch {}, the one before ended with {}",
                    header.seq_first, ends.seq
                ))
            });
        }
        if header.seq_last > self.published {
            report.add(Kind::Ahead, || {
                finding(format!(
                    "it ends with batch {}, committed are batches up to {}",
                    header.seq_last, self.published
                ))
            });
        }
        ends.next = ends.next.max(header.last + 1);
        ends.seq = ends.seq.max(header.seq_last);
    }
}

/// Where a lane's objects end so far.
#[derive(Default)]
struct Ends {
    next: u64,
    seq: Seq,
}

#[derive(Default)]
struct Total {
    objects: u64,
    changes: u64,
    bytes: u64,
}

fn gap(report: &mut Report, scope: &Scope, lane: usize, from: u64, to: u64, what: &str) {
    report.add_many(Kind::Gap, to - from, || Finding {
        what: format!("changes {from} to {}: {what}", to - 1),
        ..scope.at(lane)
    });
}

fn sight<'a>(scope: &Scope, lane: usize, record: &Record<'a>) -> Sight<'a> {
    Sight {
        lane,
        key: record.key.as_bytes(),
        hash: hash::key(scope.seed, record.key.as_bytes()),
        stamp: Some(Stamp {
            kind: record.kind,
            epoch: record.epoch,
            seq: record.seq,
            polled_at: record.polled_at,
        }),
        value: record.value.map(str::as_bytes),
    }
}

fn check_prefix(facts: &dyn Facts, url: &str) -> Result<(), Fault> {
    let recorded: Option<String> = facts
        .get(PREFIX)
        .and_then(|text| serde_json::from_str(&text).ok());
    match recorded {
        Some(recorded) if recorded != url => Err(Fault::directory(format!(
            "this directory archives to {recorded}, but archive.url is {url}; set archive.url back"
        ))),
        _ => Ok(()),
    }
}

fn known(facts: &dyn Facts) -> Result<BTreeMap<(String, u32), Known>, Fault> {
    let mut known = BTreeMap::new();
    for (name, text) in facts.under("archive/") {
        let Some((topic, partition)) = name["archive/".len()..].split_once('/') else {
            continue;
        };
        let parsed = partition.parse().ok().zip(serde_json::from_str(&text).ok());
        let (partition, lane) = parsed.ok_or_else(|| {
            Fault::directory(format!("the journal's fact {name} is damaged: {text}"))
        })?;
        known.insert((topic.to_owned(), partition), lane);
    }
    Ok(known)
}

/// Tries a request a few times.
fn insist<T>(
    objects: &Objects,
    what: &str,
    request: impl Fn() -> Result<T, Trouble>,
) -> Result<T, Fault> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        match request() {
            Ok(answer) => return Ok(answer),
            Err(trouble) if tries > 0 && trouble.kind == TroubleKind::Transient => {
                clock::pause(PAUSE);
            }
            Err(trouble) => {
                let url = objects.url();
                return Err(Fault::failed(format!(
                    "cannot read {url}/{what}: {trouble}"
                )));
            }
        }
    }
}
