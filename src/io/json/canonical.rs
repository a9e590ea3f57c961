//! The canonical fingerprint of an entry (R10): equal for equal content, whatever its spelling; made
//! in one streaming scan of the strict grammar (RFC 8259), without a tree.
//!
//! * Objects: the sum of seeded hashes of (name, value), so that order does not count; of fields with
//!   one name the last counts.
//! * Arrays: a chain over their elements, so that order counts.
//! * Numbers: by their normalised decimal text; see `number` for zero and huge exponents.
//! * Strings: by their text after unescaping. A lone surrogate equals only the same one.
//! * Types never meet: `"1"`, `1`, `[1]`, `{}`, `[]`, `null`, `false` and an absent field all differ.
//! * Fields and elements that `ignore` names are checked like all others, and left out: with `/a`
//!   ignored, an entry with `a` equals one without. Elements after an ignored one keep their index.
//!
//! Every rule that may change a fingerprint is part of [`VERSION`], which directories remember.

#[cfg(test)]
mod tests;

use deltapoll_state::fail;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::pointer::Step;
use super::{DEPTH_MAX, Malformed, Pointer, TOO_DEEP, escape, find, number, shown};

/// Number of this canonical form. Another one makes every stored fingerprint one of an older rule.
pub const VERSION: u8 = 1;

/// Members and text bytes that are kept between entries; more was one odd entry's need.
const KEPT_MAX: usize = 64 * 1024;
/// Names that are remembered from one entry to the next, and how long each may be, quotes included.
const NAMES_MAX: usize = 64;
const NAME_MAX: usize = 64;

/// Makes fingerprints under one seed and one ignore list; reuses its memory.
#[derive(Debug)]
pub struct Canonical {
    seeds: Seeds,
    ignore: Ignore,
    scratch: Scratch,
}

impl Canonical {
    /// Fingerprints that leave out what `ignore` names, seeded by the lineage.
    #[must_use]
    pub fn new(ignore: &[Pointer], lineage_seed: u64) -> Canonical {
        Canonical {
            seeds: Seeds::new(lineage_seed),
            ignore: Ignore::new(ignore),
            scratch: Scratch::default(),
        }
    }

    /// The fingerprint of one JSON text.
    ///
    /// # Errors
    /// When it is not JSON, or nests deeper than [`DEPTH_MAX`].
    pub fn fingerprint(&mut self, entry: &[u8]) -> Result<u64, Malformed> {
        if let Err(fault) = simdutf8::compat::from_utf8(entry) {
            return Err(Malformed::new(fault.valid_up_to(), "not UTF-8"));
        }
        self.fingerprint_of_utf8(entry)
    }

    /// The same for what is known to be UTF-8, as every piece is; if it
    /// is not, it may have a fingerprint all the same.
    ///
    /// # Errors
    /// When it is not JSON, or nests deeper than [`DEPTH_MAX`].
    pub fn fingerprint_of_utf8(&mut self, entry: &[u8]) -> Result<u64, Malformed> {
        self.scratch.clear();
        let mut scan = Scan {
            bytes: entry,
            at: 0,
            depth: 0,
            seeds: &self.seeds,
            ignore: &self.ignore,
            scratch: &mut self.scratch,
        };
        let print = scan.value(self.ignore.root())?;
        match scan.solid() {
            // By spelling, not by content.
            None if fail::broken("r10") => Ok(xxh3_64_with_seed(entry, self.seeds.text)),
            None if self.ignore.leaves_out(Some(Ignore::ROOT)) => Ok(0),
            None => Ok(print),
            Some(_) => Err(scan.fault("bytes after the value")),
        }
    }
}

/// One seed for each kind of thing that is hashed, so that kinds never meet.
#[derive(Debug)]
struct Seeds {
    name: u64,
    text: u64,
    number: u64,
    member: u64,
    object: u64,
    element: u64,
    array: u64,
    literals: [u64; 3],
}

impl Seeds {
    fn new(seed: u64) -> Seeds {
        let of = |kind: &str| xxh3_64_with_seed(kind.as_bytes(), seed);
        Seeds {
            name: of("canonical name"),
            text: of("canonical text"),
            number: of("canonical number"),
            member: of("canonical member"),
            object: of("canonical object"),
            element: of("canonical element"),
            array: of("canonical array"),
            literals: [
                of("canonical null"),
                of("canonical false"),
                of("canonical true"),
            ],
        }
    }
}

fn pair(a: u64, b: u64, seed: u64) -> u64 {
    let mut both = [0; 16];
    both[..8].copy_from_slice(&a.to_le_bytes());
    both[8..].copy_from_slice(&b.to_le_bytes());
    xxh3_64_with_seed(&both, seed)
}

/// The ignore list as a tree of steps; a node is an index into `nodes`.
#[derive(Debug)]
struct Ignore {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    left_out: bool,
    steps: Vec<(Step, usize)>,
}

impl Ignore {
    const ROOT: usize = 0;

    fn new(pointers: &[Pointer]) -> Ignore {
        let mut nodes = vec![Node::default()];
        for pointer in pointers {
            let mut at = Ignore::ROOT;
            for step in pointer.steps() {
                let known = nodes[at].steps.iter().find(|(known, _)| known == step);
                at = if let Some((_, next)) = known {
                    *next
                } else {
                    let next = nodes.len();
                    nodes.push(Node::default());
                    nodes[at].steps.push((step.clone(), next));
                    next
                };
            }
            nodes[at].left_out = true;
        }
        Ignore { nodes }
    }

    /// Where a scan starts; `None`: no name has to be looked at.
    fn root(&self) -> Option<usize> {
        (self.nodes.len() > 1).then_some(Ignore::ROOT)
    }

    fn step(&self, node: Option<usize>, is: impl Fn(&Step) -> bool) -> Option<usize> {
        let steps = &self.nodes[node?].steps;
        steps
            .iter()
            .find(|(step, _)| is(step))
            .map(|(_, next)| *next)
    }

    fn leaves_out(&self, node: Option<usize>) -> bool {
        node.is_some_and(|node| self.nodes[node].left_out)
    }
}

#[derive(Debug, Default)]
struct Scratch {
    /// Members of all open objects, innermost last.
    members: Vec<Member>,
    text: Vec<u8>,
    /// Names of the entry before, in their order, and what each came to. Most entries have the same. Of a
    /// name that is too long nothing is kept.
    names: Vec<(Vec<u8>, u64)>,
    /// The names of the last entry where they differ from each other.
    distinct: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    name: u64,
    /// Place among all members so far: of one name the highest counts.
    order: usize,
    value: u64,
    left_out: bool,
}

impl Scratch {
    fn clear(&mut self) {
        self.members.clear();
        self.members.shrink_to(KEPT_MAX);
        self.text.clear();
        self.text.shrink_to(KEPT_MAX);
        if self.distinct.len() > NAMES_MAX {
            self.distinct.clear();
        }
        self.distinct.shrink_to(NAMES_MAX);
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
    seeds: &'a Seeds,
    ignore: &'a Ignore,
    scratch: &'a mut Scratch,
}

impl Scan<'_> {
    fn fault(&self, what: &'static str) -> Malformed {
        Malformed::new(self.at, what)
    }

    fn unexpected(&self, wanted: &str) -> Malformed {
        match self.bytes.get(self.at) {
            None => self.fault("the entry is cut short"),
            Some(byte) => Malformed::new(
                self.at,
                format!("{} where {wanted} should be", shown(*byte)),
            ),
        }
    }

    /// Skips white space; the byte after it.
    fn solid(&mut self) -> Option<u8> {
        self.at = find::solid(self.bytes, self.at);
        self.bytes.get(self.at).copied()
    }

    fn value(&mut self, node: Option<usize>) -> Result<u64, Malformed> {
        match self.solid() {
            Some(b'{') => self.nested(node, Scan::object),
            Some(b'[') => self.nested(node, Scan::array),
            Some(b'"') => self.text(self.seeds.text),
            Some(b'n') => self.literal(b"null", 0),
            Some(b'f') => self.literal(b"false", 1),
            Some(b't') => self.literal(b"true", 2),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn nested(
        &mut self,
        node: Option<usize>,
        read: impl Fn(&mut Self, Option<usize>) -> Result<u64, Malformed>,
    ) -> Result<u64, Malformed> {
        if self.depth == DEPTH_MAX {
            return Err(self.fault(TOO_DEEP));
        }
        self.depth += 1;
        self.at += 1;
        let print = read(self, node)?;
        self.at += 1;
        self.depth -= 1;
        Ok(print)
    }

    /// Reads from after the opening bracket up to the closing one.
    fn object(&mut self, node: Option<usize>) -> Result<u64, Malformed> {
        let first = self.scratch.members.len();
        if self.solid() == Some(b'}') {
            return Ok(self.members_print(first));
        }
        loop {
            if self.solid() != Some(b'"') {
                return Err(self.unexpected("a name"));
            }
            let member = self.member(node)?;
            self.scratch.members.push(member);
            match self.solid() {
                Some(b',') => self.at += 1,
                Some(b'}') => return Ok(self.members_print(first)),
                _ => return Err(self.unexpected("',' or '}'")),
            }
        }
    }

    fn member(&mut self, node: Option<usize>) -> Result<Member, Malformed> {
        let start = self.at;
        let name = self.name()?;
        let node = match node {
            Some(_) => self.ignored_name(node, start),
            None => None,
        };
        if self.solid() != Some(b':') {
            return Err(self.unexpected("':'"));
        }
        self.at += 1;
        let value = self.value(node)?;
        Ok(Member {
            name,
            order: self.scratch.members.len(),
            value,
            left_out: self.ignore.leaves_out(node),
        })
    }

    /// Reads a name; one that stands where it stood in the entry before need not be scanned.
    fn name(&mut self) -> Result<u64, Malformed> {
        let (start, place) = (self.at, self.scratch.members.len());
        if self.depth > 1 {
            return self.text(self.seeds.name);
        }
        if let Some((quoted, print)) = self.scratch.names.get(place)
            && !quoted.is_empty()
            && self.bytes[start..].starts_with(quoted)
        {
            self.at += quoted.len();
            return Ok(*print);
        }
        let print = self.text(self.seeds.name)?;
        let quoted = &self.bytes[start..self.at];
        let names = &mut self.scratch.names;
        if place == names.len() && place < NAMES_MAX {
            names.push((Vec::new(), 0));
        }
        if let Some(known) = names.get_mut(place)
            && quoted.len() <= NAME_MAX
        {
            known.0.clear();
            known.0.extend_from_slice(quoted);
            known.1 = print;
        }
        Ok(print)
    }

    /// The ignore list's node of the name between the quote at `start` and the one before `self.at`.
    fn ignored_name(&mut self, node: Option<usize>, start: usize) -> Option<usize> {
        let raw = &self.bytes[start + 1..self.at - 1];
        self.scratch.text.clear();
        escape::unescape(raw, &mut self.scratch.text).ok()?;
        let name = &self.scratch.text;
        self.ignore.step(node, |step| step.name.as_bytes() == name)
    }

    /// Takes the members from `first` on, and makes the object's fingerprint of them.
    fn members_print(&mut self, first: usize) -> u64 {
        let Scratch {
            members, distinct, ..
        } = &mut *self.scratch;
        let own = &mut members[first..];
        let names = own.iter().map(|member| member.name);
        if self.depth > 1 {
            keep_last(own);
        } else if !names.clone().eq(distinct.iter().copied()) {
            distinct.clear();
            distinct.extend(names);
            if !keep_last(own) {
                distinct.clear();
            }
        }
        let (mut sum, mut count) = (0_u64, 0);
        for member in own.iter().filter(|member| !member.left_out) {
            sum = sum.wrapping_add(pair(member.name, member.value, self.seeds.member));
            count += 1;
        }
        members.truncate(first);
        pair(sum, count, self.seeds.object)
    }

    /// Reads from after the opening bracket up to the closing one.
    fn array(&mut self, node: Option<usize>) -> Result<u64, Malformed> {
        let (mut chain, mut count, mut index) = (0, 0, 0);
        if self.solid() == Some(b']') {
            return Ok(pair(chain, count, self.seeds.array));
        }
        loop {
            let node = self.ignore.step(node, |step| step.index == Some(index));
            let value = self.value(node)?;
            if !self.ignore.leaves_out(node) {
                chain = pair(chain, value, self.seeds.element);
                count += 1;
            }
            index += 1;
            match self.solid() {
                Some(b',') => self.at += 1,
                Some(b']') => return Ok(pair(chain, count, self.seeds.array)),
                _ => return Err(self.unexpected("',' or ']'")),
            }
        }
    }

    /// Reads a string from its opening quote to after its closing one.
    fn text(&mut self, seed: u64) -> Result<u64, Malformed> {
        let start = self.at + 1;
        let mut escaped = false;
        let mut stop = find::strict_text_stop(self.bytes, start);
        while self.bytes.get(stop) == Some(&b'\\') {
            escaped = true;
            // The byte after the backslash is judged with all escapes, below.
            stop = find::strict_text_stop(self.bytes, (stop + 2).min(self.bytes.len()));
        }
        self.at = stop;
        match self.bytes.get(stop) {
            None => return Err(self.fault("the entry is cut short, within a string")),
            Some(b'"') => self.at += 1,
            Some(_) => return Err(self.fault("a control character in a string")),
        }
        let raw = &self.bytes[start..stop];
        if !escaped {
            return Ok(xxh3_64_with_seed(raw, seed));
        }
        let text = &mut self.scratch.text;
        text.clear();
        escape::unescape(raw, text)
            .map_err(|at| Malformed::new(start + at, "an escape that does not exist"))?;
        Ok(xxh3_64_with_seed(text, seed))
    }

    fn literal(&mut self, word: &[u8], which: usize) -> Result<u64, Malformed> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(self.fault("neither true, false nor null"));
        }
        self.at += word.len();
        Ok(self.seeds.literals[which])
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let rest = &self.bytes[self.at..];
        let (len, _) = number::read(rest).map_err(|at| {
            self.at += at;
            self.unexpected("a digit")
        })?;
        self.at += len;
        let text = &mut self.scratch.text;
        text.clear();
        number::normalise(&rest[..len], text);
        Ok(xxh3_64_with_seed(text, self.seeds.number))
    }
}

/// Leaves all but the last member of each name out; whether there is only one of each.
fn keep_last(members: &mut [Member]) -> bool {
    members.sort_unstable_by_key(|member| (member.name, member.order));
    let mut distinct = true;
    for at in 1..members.len() {
        if members[at - 1].name == members[at].name {
            members[at - 1].left_out = true;
            distinct = false;
        }
    }
    distinct
}
