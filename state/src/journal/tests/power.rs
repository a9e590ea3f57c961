//! A disk in memory that forgets: at a power cut, what was written or renamed since the last sync may
//! be there, or not, or in part, in any order. It also fails, at the call that it is told to.
//!
//! * Content that was not synced survives in pieces; between them are zeros, or bytes of other times.
//! * Creations, renames and removals since the last sync of the directory survive one by one.
//! * After a failed sync the cache still shows what the disk will never get: another sync succeeds and
//!   changes nothing. So does the operating system.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::dice::Dice;
use crate::journal::disk::{Content, Disk, How};

/// The disk; clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Power(Arc<Mutex<World>>);

/// What happens at a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    /// The process is gone, and the power if it is cut then: this call is half done, and all later
    /// ones fail until [`Power::restart`] or [`Power::cut`].
    End,
    /// This call fails with an error of this kind, perhaps half done; the next ones succeed.
    Error(ErrorKind),
    /// This call and all that write fail with an error of this kind.
    Lasting(ErrorKind),
}

#[derive(Debug)]
struct World {
    dice: Dice,
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    changes: Vec<Change>,
    calls: u64,
    trouble: Option<(u64, Trouble)>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Written since the last sync, and where.
    written: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum Change {
    Name(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: &Change) {
    match change {
        Change::Name(path, inode) => drop(names.insert(path.clone(), *inode)),
        Change::Rename(from, to, inode) => {
            names.remove(from);
            names.insert(to.clone(), *inode);
        }
        Change::Remove(path) => drop(names.remove(path)),
    }
}

impl Power {
    pub(super) fn new(dice: Dice) -> Power {
        Power(Arc::new(Mutex::new(World {
            dice,
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            calls: 0,
            trouble: None,
            ended: false,
        })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    pub(super) fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Calls so far.
    pub(super) fn calls(&self) -> u64 {
        self.world().calls
    }

    /// Lets there be trouble at the n-th call from now on, the next one being 1.
    pub(super) fn trouble_in(&self, calls: u64, trouble: Trouble) {
        let mut world = self.world();
        world.trouble = Some((world.calls + calls, trouble));
    }

    pub(super) fn no_trouble(&self) {
        self.world().trouble = None;
    }

    /// The process ended; what it wrote is in the cache.
    pub(super) fn restart(&self) {
        let mut world = self.world();
        (world.ended, world.trouble) = (false, None);
    }

    /// The power was cut: what was not synced is there or not.
    pub(super) fn cut(&self) {
        self.restart();
        let mut world = self.world();
        let World {
            dice,
            inodes,
            changes,
            durable_names,
            ..
        } = &mut *world;
        for change in survivors(dice, std::mem::take(changes)) {
            apply(durable_names, &change);
        }
        for inode in inodes {
            inode.forget(dice);
        }
        world.names = world.durable_names.clone();
    }

    /// What survives from now on depends on this.
    pub(super) fn luck(&self, seed: u64) {
        self.world().dice = Dice::from(seed);
    }

    /// The content of a file; for tests that change it.
    pub(super) fn content(&self, path: &Path) -> Vec<u8> {
        let world = self.world();
        world.inodes[world.names[path]].cached.clone()
    }

    /// Puts a file there, durably.
    pub(super) fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut world = self.world();
        let inode = world.inodes.len();
        world.inodes.push(Inode {
            durable: bytes.clone(),
            cached: bytes,
            written: Vec::new(),
        });
        world.names.insert(path.to_owned(), inode);
        world.durable_names.insert(path.to_owned(), inode);
    }
}

/// Nothing of `all`, or all, or what came first, or last, or any part of it.
fn survivors<T>(dice: &mut Dice, mut all: Vec<T>) -> Vec<T> {
    match dice.below(5) {
        0 => all.clear(),
        1 => {}
        2 => all.truncate(dice.below(all.len() as u64 + 1) as usize),
        3 => drop(all.drain(..dice.below(all.len() as u64 + 1) as usize)),
        _ => all.retain(|_| dice.once_in(2)),
    }
    all
}

impl Inode {
    /// The cache is lost.
    fn forget(&mut self, dice: &mut Dice) {
        self.settle(dice);
        if dice.once_in(3) {
            // The length got there without the content.
            let length = self.cached.len().max(self.durable.len());
            self.durable.resize(length, 0);
        }
        self.cached = self.durable.clone();
    }

    /// Of what was not synced some gets to the disk, and the rest never will.
    fn settle(&mut self, dice: &mut Dice) {
        let mut pieces = Vec::new();
        for (at, bytes) in std::mem::take(&mut self.written) {
            let size = 1 + dice.below(bytes.len().clamp(1, 97) as u64) as usize;
            let size = size.max(bytes.len() / 50);
            let cut = bytes.chunks(size).enumerate();
            pieces.extend(cut.map(|(index, piece)| (at + index * size, piece.to_vec())));
        }
        let stale = dice.once_in(4).then(|| dice.word() as u8);
        for (at, piece) in survivors(dice, pieces) {
            put(&mut self.durable, at, &piece, stale.unwrap_or(0));
        }
    }

    fn sync(&mut self) {
        for (at, bytes) in self.written.drain(..) {
            put(&mut self.durable, at, &bytes, 0);
        }
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        put(&mut self.cached, offset, bytes, 0);
        self.written.push((offset, bytes.to_vec()));
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8], filler: u8) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, filler);
    }
    content[offset..end].copy_from_slice(bytes);
}

/// How far a call goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    /// It returns an error, and has perhaps done a part of its work.
    Fails(ErrorKind, bool),
}

impl World {
    /// What becomes of the next call; `writes`: it changes something.
    fn fate(&mut self, writes: bool) -> Fate {
        if self.ended {
            return Fate::Fails(ErrorKind::Other, false);
        }
        self.calls += 1;
        let half = self.dice.once_in(2);
        match self.trouble {
            Some((at, Trouble::End)) if at == self.calls => {
                self.ended = true;
                Fate::Fails(ErrorKind::Other, half)
            }
            Some((at, Trouble::Error(kind))) if at == self.calls => Fate::Fails(kind, half),
            Some((at, Trouble::Lasting(kind))) if at <= self.calls && writes => {
                Fate::Fails(kind, false)
            }
            _ => Fate::Done,
        }
    }

    /// Does what changes a name, or fails.
    fn change(&mut self, change: Change) -> io::Result<()> {
        let fate = self.fate(true);
        if fate == Fate::Done || matches!(fate, Fate::Fails(_, true)) {
            apply(&mut self.names, &change);
            self.changes.push(change);
        }
        fate.result()
    }

    fn inode(&self, path: &Path) -> io::Result<usize> {
        let inode = self.names.get(path);
        inode.copied().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Fate {
    fn result(self) -> io::Result<()> {
        match self {
            Fate::Done => Ok(()),
            Fate::Fails(kind, _) => Err(kind.into()),
        }
    }
}

impl Disk for Power {
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn Content>> {
        let mut world = self.world();
        let inode = if how == How::New {
            // A new one also where there was a file: truncation is not undone by a later sync.
            let inode = world.inodes.len();
            world.inodes.push(Inode::default());
            world.change(Change::Name(path.to_owned(), inode))?;
            inode
        } else {
            world.fate(false).result()?;
            world.inode(path)?
        };
        drop(world);
        Ok(Box::new(Handle(self.clone(), inode)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        let inode = world.inode(from)?;
        world.change(Change::Rename(from.to_owned(), to.to_owned(), inode))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.inode(path)?;
        world.change(Change::Remove(path.to_owned()))
    }

    fn make_dir(&self, _: &Path) -> io::Result<()> {
        // It is always there.
        self.world().fate(false).result()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut world = self.world();
        let writes = !world.changes.is_empty();
        world.fate(writes).result()?;
        let world = &mut *world;
        for change in world.changes.drain(..) {
            apply(&mut world.durable_names, &change);
        }
        Ok(())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        let mut world = self.world();
        world.fate(false).result()?;
        let names = world.names.keys();
        Ok(names
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect())
    }
}

#[derive(Debug)]
struct Handle(Power, usize);

impl Content for Handle {
    fn bytes(&self) -> io::Result<u64> {
        let mut world = self.0.world();
        world.fate(false).result()?;
        Ok(world.inodes[self.1].cached.len() as u64)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut world = self.0.world();
        world.fate(false).result()?;
        let bytes = world.inodes[self.1].cached.get(offset as usize..);
        let bytes = bytes.and_then(|bytes| bytes.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let bytes = parts.concat();
        let mut world = self.0.world();
        let fate = world.fate(true);
        let length = match fate {
            Fate::Done => bytes.len(),
            Fate::Fails(_, true) => world.dice.below(bytes.len() as u64 + 1) as usize,
            Fate::Fails(_, false) => 0,
        };
        world.inodes[self.1].write(&bytes[..length], offset as usize);
        fate.result()
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        let mut world = self.0.world();
        let fate = world.fate(true);
        if fate == Fate::Done || matches!(fate, Fate::Fails(_, true)) {
            // What was written behind may get to the disk all the same.
            let durable = world.dice.once_in(2);
            let inode = &mut world.inodes[self.1];
            inode.cached.truncate(bytes as usize);
            if durable {
                inode.durable.truncate(bytes as usize);
            }
        }
        fate.result()
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.0.world();
        let fate = world.fate(true);
        if world.ended {
            return fate.result();
        }
        let World { dice, inodes, .. } = &mut *world;
        match fate {
            Fate::Done => inodes[self.1].sync(),
            Fate::Fails(..) => inodes[self.1].settle(dice),
        }
        fate.result()
    }
}

#[test]
fn both_disks_behave_alike() {
    let dir = tempfile::tempdir().unwrap();
    behaves(&crate::journal::disk::System, &dir.path().join("made"));
    behaves(&Power::new(Dice::from(1)), Path::new("made"));
}

fn behaves(disk: &dyn Disk, dir: &Path) {
    let name = |name: &str| dir.join(name);
    for _ in 0..2 {
        disk.make_dir(dir).unwrap();
    }
    let missing =
        |result: io::Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
    missing(disk.open(&name("a"), How::Read).map(drop));
    missing(disk.rename(&name("a"), &name("b")));
    missing(disk.remove(&name("a")));
    let file = disk.open(&name("a"), How::New).unwrap();
    file.write(&[b"hello"], 0).unwrap();
    file.write(&[b"p, ", b"", b"world"], 3).unwrap();
    file.sync().unwrap();
    disk.rename(&name("a"), &name("b")).unwrap();
    file.write(&[b"!"], 11).unwrap();
    disk.open(&name("a"), How::New).unwrap();
    disk.sync_dir(dir).unwrap();
    let mut names = disk.list(dir).unwrap();
    names.sort();
    assert_eq!(names, ["a", "b"]);
    let file = disk.open(&name("b"), How::Read).unwrap();
    let mut bytes = [0; 12];
    file.read(&mut bytes, 0).unwrap();
    assert_eq!((&bytes, file.bytes().unwrap()), (b"help, world!", 12));
    let end = file.read(&mut bytes, 1).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::UnexpectedEof);
    let over = disk.open(&name("b"), How::Over).unwrap();
    over.write(&[b"H"], 0).unwrap();
    file.read(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"Help, world!");
    missing(disk.open(&name("c"), How::Over).map(drop));
    over.write(&[b"and more"], 12).unwrap();
    over.cut(12).unwrap();
    // Another one in its place, and none: who has it open has it still.
    disk.rename(&name("a"), &name("b")).unwrap();
    assert_eq!(
        disk.open(&name("b"), How::Read).unwrap().bytes().unwrap(),
        0
    );
    disk.remove(&name("b")).unwrap();
    assert_eq!(disk.list(dir).unwrap(), [""; 0]);
    assert_eq!(file.bytes().unwrap(), 12);
}
