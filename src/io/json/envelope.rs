//! The envelope: everything of a document outside its list. Bytes arrive in parts; each is checked
//! against the grammar of RFC 8259 and UTF-8, and the list is found on the way.
//!
//! Memory does not grow with the input: names are kept only where the pointer could go on, and only
//! as long as they could still be the wanted one.

use crate::config::secret;

use super::number::Progress;
use super::{Bracket, Nest, Pointer, WRONG_BRACKET, What, escape, is_space, kind_of, shown};

const HEAD_BYTES_MAX: usize = 40;
const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];
/// The longest spelling of one byte of a name: `\u0041`.
const ESCAPE_BYTES_MAX: usize = 6;

/// The strict reader of an envelope.
#[derive(Debug)]
pub(super) struct Envelope {
    pointer: Pointer,
    nest: Nest,
    state: State,
    utf8: Utf8,
    /// The first bytes of the document, for messages.
    head: Vec<u8>,
    in_name: bool,
    /// The raw name that is being read, where it could be the pointer's next step.
    name: Vec<u8>,
    /// The outermost brackets that lie on the pointer's path.
    on_path: u32,
    /// Whether the value that comes next lies on the path.
    here: bool,
    /// One bit per step: found.
    found: u128,
    /// Elements so far of the innermost array on the path.
    elements: u64,
    /// Steps to the deepest value on the path, and what it is.
    deepest: (usize, &'static str),
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before the document; so many bytes of a byte order mark were there.
    Start(usize),
    Value,
    ElementOrClose,
    NameOrClose,
    Name,
    Colon,
    CommaOrClose,
    End,
    Text,
    Escape,
    Hex(u8),
    Literal(&'static [u8]),
    Number(Progress),
}

impl Envelope {
    pub(super) fn new(pointer: &Pointer) -> Envelope {
        Envelope {
            pointer: pointer.clone(),
            nest: Nest::default(),
            state: State::Start(0),
            utf8: Utf8::default(),
            head: Vec::new(),
            in_name: false,
            name: Vec::new(),
            on_path: 0,
            here: true,
            found: 0,
            elements: 0,
            deepest: (0, "empty"),
        }
    }

    /// Open brackets, the list's own included while it is open.
    pub(super) fn depth(&self) -> u32 {
        self.nest.depth
    }

    /// Reads on from `at`: up to the byte after the list's bracket (true), or to the end (false).
    pub(super) fn run(&mut self, chunk: &[u8], at: usize) -> Result<(usize, bool), (usize, What)> {
        let room = HEAD_BYTES_MAX - self.head.len();
        self.head.extend(chunk[at..].iter().take(room));
        for (offset, byte) in chunk[at..].iter().enumerate() {
            if self.byte(*byte).map_err(|what| (at + offset, what))? {
                return Ok((at + offset + 1, true));
            }
        }
        Ok((chunk.len(), false))
    }

    /// The list's closing bracket was read.
    pub(super) fn list_closed(&mut self) {
        self.close(Bracket::Array).expect("the list was open");
    }

    /// Judges the end of the document. `list`: it was found.
    pub(super) fn finish(&self, list: bool) -> Result<(), What> {
        let ended = match self.state {
            State::Start(_) => return Err("empty answer".into()),
            State::Value if self.nest.depth == 0 => return Err("empty answer".into()),
            State::Number(number) => self.nest.depth == 0 && number.is_whole(),
            State::End => true,
            _ => false,
        };
        match (ended, list) {
            (true, true) => Ok(()),
            (true, false) => Err(self.no_list()),
            (false, _) if matches!(self.state, State::Text | State::Escape | State::Hex(_)) => {
                Err("the answer is cut short, within a string".into())
            }
            (false, _) => Err("the answer is cut short".into()),
        }
    }

    fn byte(&mut self, byte: u8) -> Result<bool, What> {
        match self.state {
            State::Start(read) if read < BOM.len() && byte == BOM[read] => {
                self.state = State::Start(read + 1);
                return Ok(false);
            }
            State::Start(0 | 3) => self.state = State::Value,
            State::Start(_) => return Err(self.unexpected(byte, "a value")),
            State::Text => return self.text(byte).map(|()| false),
            State::Escape | State::Hex(_) => return self.escape(byte).map(|()| false),
            State::Literal(rest) => return self.literal(byte, rest).map(|()| false),
            State::Number(number) => {
                if let Some(next) = number.next(byte) {
                    self.state = State::Number(next);
                    return Ok(false);
                }
                if !number.is_whole() {
                    return Err(self.unexpected(byte, "a digit"));
                }
                self.value_ended();
            }
            _ => {}
        }
        if is_space(byte) {
            return Ok(false);
        }
        self.between(byte)
    }

    /// A byte outside strings, numbers and literals that is not white space.
    fn between(&mut self, byte: u8) -> Result<bool, What> {
        match (self.state, byte) {
            (State::Value, _) => {
                self.element();
                return self.value(byte);
            }
            (State::ElementOrClose, b']') => self.close(Bracket::Array)?,
            (State::ElementOrClose, _) => {
                self.element();
                return self.value(byte);
            }
            (State::NameOrClose | State::Name, b'"') => {
                self.in_name = true;
                self.name.clear();
                self.state = State::Text;
            }
            (State::NameOrClose, b'}') => self.close(Bracket::Object)?,
            (State::NameOrClose | State::Name, _) => return Err(self.unexpected(byte, "a name")),
            (State::Colon, b':') => self.state = State::Value,
            (State::Colon, _) => return Err(self.unexpected(byte, "':'")),
            (State::CommaOrClose, b',') => {
                let array = self.nest.innermost() == Some(Bracket::Array);
                self.state = if array { State::Value } else { State::Name };
            }
            (State::CommaOrClose, b'}') => self.close(Bracket::Object)?,
            (State::CommaOrClose, b']') => self.close(Bracket::Array)?,
            (State::CommaOrClose, _) => {
                return Err(self.unexpected(byte, "',' or a closing bracket"));
            }
            (_, _) if self.is_text() => return Err(self.not_json()),
            (_, _) => return Err("bytes after the document".into()),
        }
        Ok(false)
    }

    fn value(&mut self, byte: u8) -> Result<bool, What> {
        let Some(kind) = kind_of(byte) else {
            return Err(self.unexpected(byte, "a value"));
        };
        let here = std::mem::take(&mut self.here);
        let steps = self.nest.depth as usize;
        let target = here && steps == self.pointer.steps().len();
        if target && byte != b'[' {
            return Err(self.no_list_but(kind));
        }
        if here {
            self.deepest = (steps, kind);
        }
        self.in_name = false;
        self.state = match byte {
            b'{' => State::NameOrClose,
            b'[' => State::ElementOrClose,
            b'"' => State::Text,
            b't' => State::Literal(b"rue"),
            b'f' => State::Literal(b"alse"),
            b'n' => State::Literal(b"ull"),
            _ => State::Number(Progress::start(byte)),
        };
        if matches!(byte, b'{' | b'[') {
            let object = byte == b'{';
            let kind = if object {
                Bracket::Object
            } else {
                Bracket::Array
            };
            self.nest.open(kind)?;
            if here && !target {
                self.on_path = self.nest.depth;
                self.elements = 0;
            }
        }
        Ok(target)
    }

    fn close(&mut self, bracket: Bracket) -> Result<(), What> {
        self.nest.close(bracket).map_err(|_| WRONG_BRACKET)?;
        self.on_path = self.on_path.min(self.nest.depth);
        self.value_ended();
        Ok(())
    }

    fn value_ended(&mut self) {
        self.state = if self.nest.depth == 0 {
            State::End
        } else {
            State::CommaOrClose
        };
    }

    /// The next value is an element, if the innermost bracket is an array: is it on the path?
    fn element(&mut self) {
        if !self.may_step() || self.nest.innermost() != Some(Bracket::Array) {
            return;
        }
        // A step that was found is not found again: `elements` may then be that of an inner array.
        let step = self.nest.depth - 1;
        let wanted = self.pointer.steps()[step as usize].index;
        if self.found >> step & 1 == 0 && wanted == Some(self.elements) {
            self.found |= 1 << step;
            self.here = true;
        }
        self.elements = self.elements.saturating_add(1);
    }

    fn name_ended(&mut self) -> Result<(), What> {
        self.state = State::Colon;
        if !self.may_step() || !self.is_wanted() {
            return Ok(());
        }
        let step = self.nest.depth - 1;
        if self.found >> step & 1 == 1 {
            let path = self.pointer.prefix(self.nest.depth as usize);
            return Err(format!("'{path}' is there twice").into());
        }
        self.found |= 1 << step;
        self.here = true;
        Ok(())
    }

    /// Whether the innermost bracket lies on the path.
    fn may_step(&self) -> bool {
        self.nest.depth > 0 && self.on_path == self.nest.depth
    }

    fn is_wanted(&self) -> bool {
        let wanted = self.wanted().as_bytes();
        if !self.name.contains(&b'\\') {
            return self.name == wanted;
        }
        let mut text = Vec::new();
        escape::unescape(&self.name, &mut text).is_ok() && text == wanted
    }

    fn wanted(&self) -> &str {
        &self.pointer.steps()[self.nest.depth as usize - 1].name
    }

    fn text(&mut self, byte: u8) -> Result<(), What> {
        if !self.utf8.accepts(byte) {
            return Err("a string is not UTF-8".into());
        }
        match byte {
            b'"' if self.in_name => return self.name_ended(),
            b'"' => self.value_ended(),
            b'\\' => self.state = State::Escape,
            0..0x20 => return Err("a control character in a string".into()),
            _ => {}
        }
        self.keep(byte);
        Ok(())
    }

    fn escape(&mut self, byte: u8) -> Result<(), What> {
        self.state = match (self.state, byte) {
            (State::Escape, b'u') => State::Hex(4),
            (State::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => State::Text,
            (State::Hex(1), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => State::Text,
            (State::Hex(n), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => State::Hex(n - 1),
            _ => return Err("an escape that does not exist".into()),
        };
        self.keep(byte);
        Ok(())
    }

    /// Keeps a byte of a name that may be a step of the path, up to one more than any spelling has.
    fn keep(&mut self, byte: u8) {
        if self.in_name
            && self.may_step()
            && self.name.len() <= self.wanted().len() * ESCAPE_BYTES_MAX
        {
            self.name.push(byte);
        }
    }

    fn literal(&mut self, byte: u8, rest: &'static [u8]) -> Result<(), What> {
        match rest {
            [last] if *last == byte => self.value_ended(),
            [first, rest @ ..] if *first == byte => self.state = State::Literal(rest),
            _ => return Err(self.unexpected(byte, "true, false or null")),
        }
        Ok(())
    }

    fn no_list(&self) -> What {
        let (steps, kind) = self.deepest;
        let next = &self.pointer.steps()[steps].name;
        let missing = match kind {
            "an object" => format!(" without '{next}'"),
            "a list" => format!(" without element '{next}'"),
            _ => String::new(),
        };
        let place = match self.pointer.prefix(steps) {
            "" => "it".to_owned(),
            path => format!("'{path}'"),
        };
        format!(
            "no '{}' in the answer: {place} is {kind}{missing}",
            self.pointer
        )
        .into()
    }

    fn no_list_but(&self, kind: &str) -> What {
        if self.pointer.steps().is_empty() {
            return format!(
                "the answer is not a list: starts with {}",
                self.shown_head()
            )
            .into();
        }
        format!("'{}' is not a list but {kind}", self.pointer).into()
    }

    /// Whether nothing but a number, literal or string was seen: then it is rather some other text.
    fn is_text(&self) -> bool {
        let (steps, kind) = self.deepest;
        steps == 0 && kind != "an object" && kind != "a list"
    }

    fn unexpected(&self, byte: u8, wanted: &str) -> What {
        if self.is_text() {
            return self.not_json();
        }
        format!("{} where {wanted} should be", shown(byte)).into()
    }

    fn not_json(&self) -> What {
        format!("the answer is not JSON: starts with {}", self.shown_head()).into()
    }

    fn shown_head(&self) -> String {
        // It was cut off: what it has of a secret would no longer be recognised.
        let text = secret::redact_cut(&String::from_utf8_lossy(&self.head));
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let more = if self.head.len() < HEAD_BYTES_MAX {
            ""
        } else {
            "..."
        };
        format!("'{}{more}'", text.trim_start())
    }
}

/// UTF-8 byte by byte: how many bytes of a character are missing, and the bounds of the next.
#[derive(Clone, Copy, Debug, Default)]
struct Utf8 {
    missing: u8,
    least: u8,
    most: u8,
}

impl Utf8 {
    fn accepts(&mut self, byte: u8) -> bool {
        if self.missing > 0 {
            let fits = (self.least..=self.most).contains(&byte);
            (self.missing, self.least, self.most) = (self.missing - 1, 0x80, 0xbf);
            return fits;
        }
        (self.missing, self.least, self.most) = match byte {
            0..0x80 => (0, 0, 0),
            0xc2..=0xdf => (1, 0x80, 0xbf),
            0xe0 => (2, 0xa0, 0xbf),
            0xed => (2, 0x80, 0x9f),
            0xe1..=0xef => (2, 0x80, 0xbf),
            0xf0 => (3, 0x90, 0xbf),
            0xf1..=0xf3 => (3, 0x80, 0xbf),
            0xf4 => (3, 0x80, 0x8f),
            _ => return false,
        };
        true
    }
}
