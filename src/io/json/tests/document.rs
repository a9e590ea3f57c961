//! Random values, and random spellings of them.

use std::collections::BTreeMap;

/// A small generator (splitmix64), so that a printed seed names a case for ever.
#[derive(Clone)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// A JSON value without its spelling. Numbers are `mantissa x 10^power`, the mantissa without zeros
/// at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Model {
    Null,
    Bool(bool),
    Number(i64, i64),
    Text(String),
    Array(Vec<Model>),
    Object(BTreeMap<String, Model>),
}

const NAMES: &[&str] = &[
    "id", "a", "b", "", "entries", "\u{e9}", "a/b", "\"q\"", "y_Y",
];
const TEXTS: &[&str] = &[
    "",
    "a",
    "1",
    "null",
    "]},{[",
    "\\\"",
    "\u{1f600}\u{e9}",
    "\n\t\u{0}",
    "17",
];

impl Model {
    pub(super) fn random(dice: &mut Dice, depth: usize) -> Model {
        let kinds = if depth == 0 { 4 } else { 7 };
        match dice.below(kinds) {
            0 => Model::Null,
            1 => Model::Bool(dice.one_in(2)),
            2 => Model::number(dice.below(40) as i64 - 20, dice.below(5) as i64 - 2),
            3 if dice.one_in(3) => Model::Text(dice.of(TEXTS).repeat(9)),
            3 => Model::Text(dice.of(TEXTS).to_owned()),
            4 => Model::Array(Model::list(dice, depth - 1)),
            _ => Model::object(dice, depth - 1),
        }
    }

    pub(super) fn list(dice: &mut Dice, depth: usize) -> Vec<Model> {
        (0..dice.below(4))
            .map(|_| Model::random(dice, depth))
            .collect()
    }

    pub(super) fn object(dice: &mut Dice, depth: usize) -> Model {
        let member = |dice: &mut Dice| (dice.of(NAMES).to_owned(), Model::random(dice, depth));
        Model::Object((0..dice.below(5)).map(|_| member(dice)).collect())
    }

    fn number(mut mantissa: i64, mut power: i64) -> Model {
        while mantissa != 0 && mantissa % 10 == 0 {
            (mantissa, power) = (mantissa / 10, power + 1);
        }
        Model::Number(mantissa, if mantissa == 0 { 0 } else { power })
    }

    /// Writes the value in one of its many spellings.
    pub(super) fn spell(&self, dice: &mut Dice, out: &mut String) {
        space(dice, out);
        match self {
            Model::Null => out.push_str("null"),
            Model::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
            Model::Number(mantissa, power) => number(*mantissa, *power, dice, out),
            Model::Text(text) => quoted(text, dice, out),
            Model::Array(elements) => {
                out.push('[');
                for (i, element) in elements.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { "," });
                    element.spell(dice, out);
                }
                space(dice, out);
                out.push(']');
            }
            Model::Object(members) => object(members, dice, out),
        }
        space(dice, out);
    }
}

fn object(members: &BTreeMap<String, Model>, dice: &mut Dice, out: &mut String) {
    let mut all: Vec<(&String, Model)> = members.iter().map(|(n, v)| (n, v.clone())).collect();
    for i in (1..all.len()).rev() {
        all.swap(i, dice.below(i + 1));
    }
    if !all.is_empty() && dice.one_in(6) {
        // An earlier field of the same name, which does not count.
        let (name, place) = (all[all.len() - 1].0, dice.below(all.len()));
        all.insert(place, (name, Model::random(dice, 1)));
    }
    out.push('{');
    space(dice, out);
    for (i, (name, value)) in all.iter().enumerate() {
        out.push_str(if i == 0 { "" } else { "," });
        space(dice, out);
        quoted(name, dice, out);
        space(dice, out);
        out.push(':');
        value.spell(dice, out);
    }
    out.push('}');
}

fn space(dice: &mut Dice, out: &mut String) {
    if dice.one_in(4) {
        out.push_str(dice.of(&[" ", "\n", "\t\r\n", "          "]));
    }
}

fn number(mantissa: i64, power: i64, dice: &mut Dice, out: &mut String) {
    let exponent = |mantissa: String, power: i64, dice: &mut Dice| match power {
        0 if dice.one_in(2) => mantissa,
        _ => format!(
            "{mantissa}{}{}{power:02}",
            dice.of(&["e", "E"]),
            if power < 0 { "" } else { "+" }
        ),
    };
    let text = match dice.below(4) {
        0 => exponent(mantissa.to_string(), power, dice),
        1 => exponent(format!("{mantissa}.0"), power, dice),
        2 if mantissa != 0 => exponent(format!("{mantissa}00"), power - 2, dice),
        _ if (0..4).contains(&power) => (mantissa * 10_i64.pow(power as u32)).to_string(),
        _ => exponent(mantissa.to_string(), power, dice),
    };
    out.push_str(&text);
}

fn quoted(text: &str, dice: &mut Dice, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        let must = c < ' ' || matches!(c, '"' | '\\');
        match c {
            '"' | '\\' | '/' if dice.one_in(2) => out.extend(['\\', c]),
            '\n' if dice.one_in(2) => out.push_str("\\n"),
            _ if must || dice.one_in(5) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let text = format!("\\u{unit:04x}");
                    out.push_str(&text);
                }
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}
