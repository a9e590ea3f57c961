//! A ladder: players who play, come and go; and its text.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::{SliceRandom, index};
use rand::{Rng, RngExt, SeedableRng};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use super::Options;

/// Characters of a puuid.
const PUUID_CHARS: usize = 78;
/// For everybody on the ladder there are this many more who may come, in tenths.
const BENCH_TENTHS: usize = 2;

/// One version of a ladder.
#[derive(Clone, Debug)]
pub struct Version {
    /// The whole answer.
    pub body: Bytes,
    /// Where each entry is in the body, with its puuid, if anybody wants to know.
    pub entries: Arc<Vec<(String, std::ops::Range<usize>)>>,
}

/// A ladder that can be advanced.
#[derive(Debug)]
pub struct Ladder {
    random: StdRng,
    tier: String,
    queue: String,
    present: Vec<Player>,
    away: Vec<Player>,
    churn: f64,
    leave: f64,
    varied: bool,
    shuffled: bool,
    list_entries: bool,
}

#[derive(Clone, Debug)]
struct Player {
    puuid: String,
    points: u32,
    wins: u32,
    losses: u32,
    flags: [bool; 4],
}

impl Ladder {
    /// The ladder of a tier and queue of a platform, before its first version.
    #[must_use]
    pub fn new(options: &Options, platform: &str, tier: &str, queue: &str) -> Ladder {
        let name = format!("{platform}/{tier}/{queue}");
        let seed = xxh3_64_with_seed(name.as_bytes(), options.seed);
        let mut random = StdRng::seed_from_u64(seed);
        let count = options.entries;
        let all = count + (count * BENCH_TENTHS).div_ceil(10);
        // Both queues of a platform have the same players.
        let mut players: Vec<Player> = (0..all)
            .map(|n| Player::new(puuid(options.seed, platform, tier, n), &mut random))
            .collect();
        let away = players.split_off(count);
        Ladder {
            random,
            tier: tier.to_uppercase(),
            queue: queue.to_owned(),
            present: players,
            away,
            churn: options.churn,
            leave: options.leave,
            varied: options.varied,
            shuffled: options.shuffled,
            list_entries: options.versions.is_some(),
        }
    }

    /// Some play, some leave, as many come.
    pub fn advance(&mut self) {
        let count = self.present.len();
        let random = &mut self.random;
        let playing = share(count, self.churn, random);
        for at in index::sample(random, count, playing) {
            self.present[at].play(random);
        }
        let leaving = share(count, self.leave, random).min(self.away.len());
        for _ in 0..leaving {
            let (out, back) = (
                random.random_range(0..count),
                random.random_range(0..self.away.len()),
            );
            std::mem::swap(&mut self.present[out], &mut self.away[back]);
        }
        if self.shuffled {
            self.present.shuffle(random);
        }
    }

    /// The ladder as it is now.
    #[must_use]
    pub fn render(&mut self) -> Version {
        let mut body = String::with_capacity(self.present.len() * 240 + 256);
        let mut entries = Vec::new();
        write!(
            body,
            "{{\"tier\":\"{}\",\"leagueId\":\"{:032x}\",\"queue\":\"{}\",\"name\":\"Zed's Marauders\",\
             \"entries\":[",
            self.tier, 0x5eed, self.queue
        )
        .expect("writing to a string cannot fail");
        for (at, player) in self.present.iter().enumerate() {
            if at > 0 {
                body.push(',');
            }
            let start = body.len();
            if self.varied {
                player.write_varied(&mut body, &mut self.random);
            } else {
                player.write(&mut body);
            }
            if self.list_entries {
                entries.push((player.puuid.clone(), start..body.len()));
            }
        }
        body.push_str("]}");
        Version {
            body: Bytes::from(body),
            entries: Arc::new(entries),
        }
    }

    /// The answer while the ladder is reset.
    #[must_use]
    pub fn empty(tier: &str) -> Version {
        let body = format!("{{\"tier\":\"{}\",\"entries\":[]}}", tier.to_uppercase());
        Version {
            body: Bytes::from(body),
            entries: Arc::default(),
        }
    }
}

fn share(count: usize, share: f64, random: &mut StdRng) -> usize {
    let exact = count as f64 * share;
    let more = random.random_bool(exact.fract().clamp(0.0, 1.0));
    (exact as usize + usize::from(more)).min(count)
}

fn puuid(seed: u64, platform: &str, tier: &str, n: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let name = format!("{platform}/{tier}/{n}");
    let mut text = String::with_capacity(PUUID_CHARS);
    for round in 0.. {
        let mut hash = xxh3_128_with_seed(name.as_bytes(), seed ^ round);
        for _ in 0..21 {
            if text.len() == PUUID_CHARS {
                return text;
            }
            text.push(char::from(LETTERS[(hash & 63) as usize]));
            hash >>= 6;
        }
    }
    unreachable!("the loop ends when the text is long enough")
}

impl Player {
    fn new(puuid: String, random: &mut StdRng) -> Player {
        let wins = random.random_range(100..600);
        let losses = random.random_range(100..600);
        let bits: u32 = random.next_u32();
        let flags = [0, 1, 2, 3].map(|bit| bits >> bit & 7 == 7);
        Player {
            puuid,
            points: random.random_range(500..2000),
            wins,
            losses,
            flags,
        }
    }

    fn play(&mut self, random: &mut StdRng) {
        let points = random.random_range(10..35);
        if random.random_bool(0.5) {
            self.wins += 1;
            self.points += points;
        } else {
            self.losses += 1;
            self.points = self.points.saturating_sub(points);
        }
        if random.random_bool(0.2) {
            let flag = random.random_range(0..self.flags.len());
            self.flags[flag] = !self.flags[flag];
        }
    }

    fn write(&self, body: &mut String) {
        let Player {
            puuid,
            points,
            wins,
            losses,
            flags,
        } = self;
        let [veteran, inactive, fresh, hot] = flags;
        write!(
            body,
            "{{\"puuid\":\"{puuid}\",\"leaguePoints\":{points},\"rank\":\"I\",\"wins\":{wins},\
             \"losses\":{losses},\"veteran\":{veteran},\"inactive\":{inactive},\"freshBlood\":{fresh},\
             \"hotStreak\":{hot}}}"
        )
        .expect("writing to a string cannot fail");
    }

    fn write_varied(&self, body: &mut String, random: &mut StdRng) {
        let [veteran, inactive, fresh, hot] = self.flags;
        let mut fields = [
            format!("\"puuid\":\"{}\"", self.puuid),
            format!("\"leaguePoints\":{}", self.points),
            "\"rank\":\"I\"".to_owned(),
            format!("\"wins\":{}", self.wins),
            format!("\"losses\":{}", self.losses),
            format!("\"veteran\":{veteran}"),
            format!("\"inactive\":{inactive}"),
            format!("\"freshBlood\":{fresh}"),
            format!("\"hotStreak\":{hot}"),
        ];
        fields.shuffle(random);
        let space = [" ", "", "\n"][random.random_range(0..3)];
        write!(body, "{{{}{space}}}", fields.join(&format!(",{space}")))
            .expect("writing to a string cannot fail");
    }
}
