//! A slow reader of JSON that shares nothing with the fast ones: a tree, numbers by their decimal text.
//!
//! Equal trees are equal content in the sense of R10.

use std::collections::BTreeMap;

use super::document::Dice;
use crate::io::json::DEPTH_MAX;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    /// Whether negative; digits without zeros at either end; power of ten. Zero has no digits.
    Number(bool, String, i64),
    /// UTF-16, so that lone surrogates have a place.
    Text(Vec<u16>),
    Array(Vec<Tree>),
    Object(BTreeMap<Vec<u16>, Tree>),
}

/// Reads a text; `None`: it is not JSON, or nests too deep.
pub(super) fn read(text: &[u8]) -> Option<Tree> {
    let text = std::str::from_utf8(text).ok()?;
    let mut reader = Reader {
        rest: text.chars().rev().collect(),
    };
    let tree = reader.value(0)?;
    reader.space();
    reader.rest.is_empty().then_some(tree)
}

/// Whether `text` may have an exponent of about 18 digits: of those, two spellings of one number may
/// count as two.
pub(super) fn is_huge(text: &[u8]) -> bool {
    let mut exponents = text.split(|byte| b"eE".contains(byte)).skip(1);
    exponents.any(|rest| {
        let digits = rest
            .strip_prefix(b"-")
            .or(rest.strip_prefix(b"+"))
            .unwrap_or(rest);
        digits
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
            > 16
    })
}

struct Reader {
    /// What is to be read, the next character last.
    rest: Vec<char>,
}

impl Reader {
    fn next_is(&self, wanted: impl Fn(char) -> bool) -> bool {
        self.rest.last().is_some_and(|c| wanted(*c))
    }

    fn take(&mut self, wanted: char) -> Option<()> {
        (self.rest.last() == Some(&wanted)).then(|| {
            self.rest.pop();
        })
    }

    fn space(&mut self) {
        while self.next_is(|c| " \t\r\n".contains(c)) {
            self.rest.pop();
        }
    }

    fn value(&mut self, depth: u32) -> Option<Tree> {
        self.space();
        match *self.rest.last()? {
            '{' | '[' if depth == DEPTH_MAX => None,
            '{' => self.object(depth + 1),
            '[' => self.array(depth + 1),
            '"' => Some(Tree::Text(self.text()?)),
            'n' => self.word("null", Tree::Null),
            't' => self.word("true", Tree::Bool(true)),
            'f' => self.word("false", Tree::Bool(false)),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str, tree: Tree) -> Option<Tree> {
        word.chars().try_for_each(|c| self.take(c))?;
        Some(tree)
    }

    fn array(&mut self, depth: u32) -> Option<Tree> {
        self.take('[')?;
        let mut elements = Vec::new();
        self.space();
        if self.take(']').is_some() {
            return Some(Tree::Array(elements));
        }
        loop {
            elements.push(self.value(depth)?);
            self.space();
            if self.take(']').is_some() {
                return Some(Tree::Array(elements));
            }
            self.take(',')?;
        }
    }

    fn object(&mut self, depth: u32) -> Option<Tree> {
        self.take('{')?;
        let mut members = BTreeMap::new();
        self.space();
        if self.take('}').is_some() {
            return Some(Tree::Object(members));
        }
        loop {
            self.space();
            let name = self.text()?;
            self.space();
            self.take(':')?;
            members.insert(name, self.value(depth)?);
            self.space();
            if self.take('}').is_some() {
                return Some(Tree::Object(members));
            }
            self.take(',')?;
        }
    }

    fn text(&mut self) -> Option<Vec<u16>> {
        self.take('"')?;
        let mut text = Vec::new();
        loop {
            let c = match self.rest.pop()? {
                '"' => return Some(text),
                '\0'..'\u{20}' => return None,
                '\\' => match self.rest.pop()? {
                    c @ ('"' | '\\' | '/') => c,
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'u' => {
                        let unit = (0..4).try_fold(0, |unit, _| {
                            Some(unit << 4 | self.rest.pop()?.to_digit(16)?)
                        })?;
                        text.push(unit as u16);
                        continue;
                    }
                    _ => return None,
                },
                c => c,
            };
            text.extend_from_slice(c.encode_utf16(&mut [0; 2]));
        }
    }

    fn digits(&mut self) -> Option<String> {
        let mut digits = String::new();
        while self.next_is(|c| c.is_ascii_digit()) {
            digits.extend(self.rest.pop());
        }
        (!digits.is_empty()).then_some(digits)
    }

    fn number(&mut self) -> Option<Tree> {
        let negative = self.take('-').is_some();
        let whole = self.digits()?;
        if whole.len() > 1 && whole.starts_with('0') {
            return None;
        }
        let fraction = match self.take('.') {
            Some(()) => self.digits()?,
            None => String::new(),
        };
        let mut power: i64 = 0;
        if self.next_is(|c| c == 'e' || c == 'E') {
            self.rest.pop();
            let minus = self.take('-').is_some();
            if !minus {
                self.take('+');
            }
            // One that does not fit is huge anyway.
            let exponent = self.digits()?.parse().unwrap_or(0);
            power = if minus { -exponent } else { exponent };
        }
        let digits = format!("{whole}{fraction}");
        let short = digits.trim_end_matches('0');
        let power = power.wrapping_add(whole.len() as i64 - short.len() as i64);
        let digits = short.trim_start_matches('0').to_owned();
        Some(match digits.is_empty() {
            true => Tree::Number(false, digits, 0),
            false => Tree::Number(negative, digits, power),
        })
    }
}

impl Tree {
    /// The same without the field `name` of the outermost object.
    pub(super) fn without(&self, name: &str) -> Tree {
        let mut tree = self.clone();
        if let Tree::Object(members) = &mut tree {
            members.remove(&name.encode_utf16().collect::<Vec<_>>());
        }
        tree
    }

    /// Writes the value in one of its many spellings.
    pub(super) fn spell(&self, dice: &mut Dice, out: &mut String) {
        space(dice, out);
        match self {
            Tree::Null => out.push_str("null"),
            Tree::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
            Tree::Number(negative, digits, power) => number(*negative, digits, *power, dice, out),
            Tree::Text(text) => quoted(text, dice, out),
            Tree::Array(elements) => {
                out.push('[');
                for (i, element) in elements.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { "," });
                    element.spell(dice, out);
                }
                out.push(']');
            }
            Tree::Object(members) => {
                let mut all: Vec<_> = members.iter().collect();
                for i in (1..all.len()).rev() {
                    all.swap(i, dice.below(i + 1));
                }
                out.push('{');
                for (i, (name, value)) in all.into_iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { "," });
                    quoted(name, dice, out);
                    space(dice, out);
                    out.push(':');
                    value.spell(dice, out);
                }
                out.push('}');
            }
        }
        space(dice, out);
    }
}

fn space(dice: &mut Dice, out: &mut String) {
    if dice.one_in(4) {
        out.push_str(dice.of(&[" ", "\n", "\t\r\n", "   "]));
    }
}

fn number(negative: bool, digits: &str, power: i64, dice: &mut Dice, out: &mut String) {
    out.push_str(if negative { "-" } else { "" });
    let digits = if digits.is_empty() { "0" } else { digits };
    let zeros = "0".repeat(dice.below(4));
    let text = match dice.below(4) {
        0 => format!("{digits}e{power}"),
        1 if digits != "0" => format!("{digits}{zeros}E{}", power - zeros.len() as i64),
        2 => format!(
            "0.{zeros}{digits}e{}",
            power + (zeros.len() + digits.len()) as i64
        ),
        _ => format!("{digits}.{zeros}0e{power:+}"),
    };
    out.push_str(&text);
}

fn quoted(text: &[u16], dice: &mut Dice, out: &mut String) {
    out.push('"');
    for c in char::decode_utf16(text.iter().copied()) {
        match c {
            Ok(c) if c >= ' ' && !"\"\\".contains(c) && !dice.one_in(5) => out.push(c),
            Ok('\n') if dice.one_in(2) => out.push_str("\\n"),
            Ok(c @ ('"' | '\\' | '/')) if dice.one_in(2) => out.extend(['\\', c]),
            Ok(c) => c
                .encode_utf16(&mut [0; 2])
                .iter()
                .for_each(|unit| escaped(*unit, out)),
            Err(lone) => escaped(lone.unpaired_surrogate(), out),
        }
    }
    out.push('"');
}

fn escaped(unit: u16, out: &mut String) {
    out.push_str(&format!("\\u{unit:04x}"));
}
