//! A ladder as the bytes of an answer, and as a line of the versions file.
//!
//! With stable fields, a player whose numbers did not change has the same bytes in every version.
//! The line holds each entry exactly as it stands in the body.

use std::ops::Range;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::ladder::{Ladder, PUUID_BYTES, Player};
use super::{FieldOrder, Order};

/// The fields of a LeagueItemDTO.
const FIELDS: usize = 9;
/// What an entry takes with stable fields, about.
const ENTRY_BYTES: usize = 232;

/// The names that an answer and its line carry.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) platform: String,
    pub(super) queue: String,
    /// `challenger`, `grandmaster` or `master`.
    pub(super) tier: &'static str,
}

/// One version, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) number: u64,
    pub(super) body: Bytes,
    /// The line of the versions file, if there is one.
    pub(super) line: Option<Bytes>,
}

/// Renders the versions of one ladder.
#[derive(Debug)]
pub(super) struct Renderer {
    pub(super) names: Names,
    pub(super) fields: FieldOrder,
    pub(super) order: Order,
    pub(super) lines: bool,
    seed: u64,
    random: Xoshiro256PlusPlus,
    /// The last body, where the next can be no other.
    last: Option<Bytes>,
}

impl Renderer {
    pub(super) fn new(
        names: Names,
        fields: FieldOrder,
        order: Order,
        lines: bool,
        seed: u64,
    ) -> Renderer {
        Renderer {
            names,
            fields,
            order,
            lines,
            seed,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            last: None,
        }
    }

    /// The bytes depend on the ladder, the number and the seed, not on what was rendered before.
    pub(super) fn render(&mut self, ladder: &Ladder, number: u64) -> Version {
        self.random = Xoshiro256PlusPlus::seed_from_u64(self.seed ^ number);
        if let Some(body) = self.last.clone() {
            return Version {
                number,
                body,
                line: None,
            };
        }
        let players = ladder.players();
        let mut order: Vec<usize> = (0..players.len()).collect();
        if self.order == Order::Shuffled {
            order.shuffle(&mut self.random);
        }
        let mut spans = Vec::with_capacity(if self.lines { players.len() } else { 0 });
        let mut body = Vec::with_capacity(256 + players.len() * ENTRY_BYTES);
        let entries_first = self.fields == FieldOrder::Varied && self.random.random_bool(0.5);
        head(&mut body, &self.names, entries_first);
        for (position, &index) in order.iter().enumerate() {
            if position > 0 {
                body.push(b',');
            }
            let start = body.len();
            self.entry(&mut body, &players[index]);
            if self.lines {
                spans.push((index, start..body.len()));
            }
        }
        tail(&mut body, &self.names, entries_first);
        let line = self
            .lines
            .then(|| line(&self.names, number, players, &spans, &body));
        let body = Bytes::from(body);
        self.last = self.never_changes(ladder).then(|| body.clone());
        Version { number, body, line }
    }

    fn never_changes(&self, ladder: &Ladder) -> bool {
        ladder.is_still()
            && self.order == Order::Fixed
            && self.fields == FieldOrder::Stable
            && !self.lines
    }

    fn entry(&mut self, out: &mut Vec<u8>, player: &Player) {
        let mut fields: [usize; FIELDS] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
        let varied = self.fields == FieldOrder::Varied;
        if varied {
            fields.shuffle(&mut self.random);
        }
        out.push(b'{');
        for (position, index) in fields.into_iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            let space = if varied { self.space() } else { "" };
            out.extend_from_slice(space.as_bytes());
            field(out, player, index, space);
        }
        out.push(b'}');
    }

    fn space(&mut self) -> &'static str {
        ["", "", " ", "\n  ", "\t", "\r\n"][self.random.random_range(0..6)]
    }
}

/// A version whose ladder is empty.
pub(super) fn empty(names: &Names, number: u64, lines: bool) -> Version {
    let mut body = Vec::new();
    head(&mut body, names, false);
    tail(&mut body, names, false);
    let line = lines.then(|| line(names, number, &[], &[], &body));
    Version {
        number,
        body: Bytes::from(body),
        line,
    }
}

fn head(out: &mut Vec<u8>, names: &Names, entries_first: bool) {
    out.push(b'{');
    if !entries_first {
        out.extend_from_slice(about(names).as_bytes());
        out.push(b',');
    }
    out.extend_from_slice(b"\"entries\":[");
}

fn tail(out: &mut Vec<u8>, names: &Names, entries_first: bool) {
    out.push(b']');
    if entries_first {
        out.push(b',');
        out.extend_from_slice(about(names).as_bytes());
    }
    out.push(b'}');
}

/// The fields of a LeagueListDTO beside its entries.
fn about(names: &Names) -> String {
    let tier = names.tier.to_ascii_uppercase();
    let (queue, platform) = (&names.queue, &names.platform);
    format!(
        "\"tier\":\"{tier}\",\"leagueId\":\"{platform}-{tier}-{queue}\",\
         \"queue\":\"{queue}\",\"name\":\"Simulated {tier}\""
    )
}

fn field(out: &mut Vec<u8>, player: &Player, index: usize, space: &str) {
    const NAMES: [&str; FIELDS] = [
        "\"puuid\":",
        "\"leaguePoints\":",
        "\"rank\":",
        "\"wins\":",
        "\"losses\":",
        "\"veteran\":",
        "\"inactive\":",
        "\"freshBlood\":",
        "\"hotStreak\":",
    ];
    out.extend_from_slice(NAMES[index].as_bytes());
    out.extend_from_slice(space.as_bytes());
    match index {
        0 => {
            out.push(b'"');
            out.extend_from_slice(&player.puuid);
            out.push(b'"');
        }
        1 => number(out, player.points),
        2 => out.extend_from_slice(b"\"I\""),
        3 => number(out, player.wins),
        4 => number(out, player.losses),
        5 => flag(out, player.veteran),
        6 => flag(out, player.inactive),
        7 => flag(out, player.fresh_blood),
        _ => flag(out, player.hot_streak()),
    }
}

fn number(out: &mut Vec<u8>, mut value: u32) {
    let mut digits = [0_u8; 10];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

fn flag(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn line(
    names: &Names,
    number: u64,
    players: &[Player],
    spans: &[(usize, Range<usize>)],
    body: &[u8],
) -> Bytes {
    let (platform, queue, tier) = (&names.platform, &names.queue, names.tier);
    let mut out = format!(
        "{{\"cell\":\"{platform},{queue}\",\"tier\":\"{tier}\",\"version\":{number},\"entries\":{{"
    )
    .into_bytes();
    out.reserve(body.len() + spans.len() * (PUUID_BYTES + 32));
    for (position, (index, span)) in spans.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(&players[*index].puuid);
        out.extend_from_slice(b"\":\"");
        escape(&mut out, &body[span.clone()]);
        out.push(b'"');
    }
    out.extend_from_slice(b"}}\n");
    Bytes::from(out)
}

/// Entries hold nothing else that JSON strings escape.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => out.push(byte),
        }
    }
}
