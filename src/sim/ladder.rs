//! The players of one ladder and the games they play.
//!
//! A ladder is a function of the seed, its name and the number of advances: the same three give the
//! same players with the same numbers, whatever was rendered in between. Who plays in one queue of
//! a platform has the same puuid in the other.

use std::collections::VecDeque;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Puuids have 78 characters.
pub(super) const PUUID_BYTES: usize = 78;
/// Who left may come back; beyond this many the longest gone are forgotten.
const AWAY_MAX: usize = 1_000;
/// Wins in a row that make a hot streak.
const HOT_STREAK: u8 = 3;
/// Games that make a veteran.
const VETERAN: u32 = 300;
/// Every tier draws its players from a range of its own: nobody is in two tiers of a queue.
const TIER_RANGE: u64 = 1 << 40;

/// One player of a ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Player {
    pub(super) puuid: [u8; PUUID_BYTES],
    pub(super) points: u32,
    pub(super) wins: u32,
    pub(super) losses: u32,
    pub(super) veteran: bool,
    pub(super) inactive: bool,
    pub(super) fresh_blood: bool,
    streak: u8,
}

impl Player {
    pub(super) fn hot_streak(&self) -> bool {
        self.streak >= HOT_STREAK
    }

    fn play(&mut self, random: &mut impl Rng) {
        let stake = random.random_range(12..=28);
        if random.random_bool(0.5) {
            self.wins += 1;
            self.points += stake;
            self.streak = self.streak.saturating_add(1);
        } else {
            self.losses += 1;
            self.points = self.points.saturating_sub(stake);
            self.streak = 0;
        }
        self.veteran = self.wins + self.losses >= VETERAN;
        self.inactive = false;
        self.fresh_blood = self.fresh_blood && random.random_bool(0.9);
    }
}

/// What a ladder is and how lively it is.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) seed: u64,
    pub(super) platform: String,
    /// 0 challenger, 1 grandmaster, 2 master.
    pub(super) tier: u8,
    pub(super) queue: String,
    pub(super) entries: usize,
    /// The fraction that plays per version.
    pub(super) churn: f64,
    /// The fraction that leaves, and about as many come, per version.
    pub(super) leave: f64,
}

/// One ladder, after some number of advances.
#[derive(Debug)]
pub(super) struct Ladder {
    rules: Rules,
    random: Xoshiro256PlusPlus,
    players: Vec<Player>,
    away: VecDeque<Player>,
    next_newcomer: u64,
}

impl Ladder {
    pub(super) fn new(rules: Rules) -> Ladder {
        let mut ladder = Ladder {
            random: Xoshiro256PlusPlus::seed_from_u64(cell_seed(&rules)),
            players: Vec::with_capacity(rules.entries),
            away: VecDeque::new(),
            next_newcomer: u64::from(rules.tier) * TIER_RANGE,
            rules,
        };
        for _ in 0..ladder.rules.entries {
            let player = ladder.newcomer();
            ladder.players.push(player);
        }
        ladder
    }

    pub(super) fn players(&self) -> &[Player] {
        &self.players
    }

    /// Nothing ever changes here.
    pub(super) fn is_still(&self) -> bool {
        self.rules.churn <= 0.0 && self.rules.leave <= 0.0
    }

    /// One version on: some leave, some come, some play.
    pub(super) fn advance(&mut self) {
        let leaving = self.draw(self.rules.leave, self.players.len());
        self.leave(leaving);
        let playing = self.draw(self.rules.churn, self.players.len());
        for index in rand::seq::index::sample(&mut self.random, self.players.len(), playing) {
            self.players[index].play(&mut self.random);
        }
        let coming = self.draw(self.rules.leave, self.rules.entries);
        self.come(coming);
    }

    fn leave(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let mut leaving = vec![false; self.players.len()];
        for index in rand::seq::index::sample(&mut self.random, self.players.len(), count) {
            leaving[index] = true;
        }
        let (mut index, away) = (0, &mut self.away);
        self.players.retain(|player| {
            let leaves = leaving[index];
            index += 1;
            if leaves {
                away.push_back(player.clone());
            }
            !leaves
        });
        while self.away.len() > AWAY_MAX {
            self.away.pop_front();
        }
    }

    /// Every second one was here before, with the numbers of the day they left.
    fn come(&mut self, count: usize) {
        for _ in 0..count {
            let returns = self.random.random_bool(0.5);
            let returning = if returns { self.away.pop_front() } else { None };
            let player = returning.unwrap_or_else(|| self.newcomer());
            self.players.push(player);
        }
    }

    fn newcomer(&mut self) -> Player {
        let puuid = puuid(self.rules.seed, &self.rules.platform, self.next_newcomer);
        self.next_newcomer += 1;
        let wins = self.random.random_range(40..400);
        let losses = self.random.random_range(30..350);
        Player {
            puuid,
            points: self.random.random_range(200..1800),
            wins,
            losses,
            veteran: wins + losses >= VETERAN,
            inactive: self.random.random_bool(0.02),
            fresh_blood: self.random.random_bool(0.2),
            streak: self.random.random_range(0..5),
        }
    }

    /// `fraction` of `count`, the rest of the division decided by chance.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped"
    )]
    #[expect(clippy::cast_precision_loss, reason = "ladders are small beside 2^52")]
    fn draw(&mut self, fraction: f64, count: usize) -> usize {
        let exact = fraction * count as f64;
        let extra = exact.fract() > 0.0 && self.random.random_bool(exact.fract());
        (exact as usize + usize::from(extra)).min(count)
    }
}

fn cell_seed(rules: &Rules) -> u64 {
    let name = format!("{}/{}/{}", rules.platform, rules.tier, rules.queue);
    xxh3_64_with_seed(name.as_bytes(), rules.seed)
}

fn puuid(seed: u64, platform: &str, player: u64) -> [u8; PUUID_BYTES] {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let seed = xxh3_64_with_seed(platform.as_bytes(), seed) ^ player.wrapping_mul(0x9e37_79b9);
    let mut puuid = [0; PUUID_BYTES];
    Xoshiro256PlusPlus::seed_from_u64(seed).fill_bytes(&mut puuid);
    for byte in &mut puuid {
        *byte = LETTERS[usize::from(*byte & 63)];
    }
    puuid
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn rules(queue: &str, tier: u8) -> Rules {
        Rules {
            seed: 7,
            platform: "kr".to_owned(),
            tier,
            queue: queue.to_owned(),
            entries: 2_000,
            churn: 0.01,
            leave: 0.005,
        }
    }

    fn puuids(ladder: &Ladder) -> HashSet<[u8; PUUID_BYTES]> {
        ladder.players().iter().map(|player| player.puuid).collect()
    }

    #[test]
    fn the_same_seed_plays_the_same_games() {
        let mut one = Ladder::new(rules("SOLO", 0));
        let mut two = Ladder::new(rules("SOLO", 0));
        let mut other = Ladder::new(Rules {
            seed: 8,
            ..rules("SOLO", 0)
        });
        for _ in 0..50 {
            one.advance();
            two.advance();
            other.advance();
        }
        assert_eq!(one.players(), two.players());
        assert!(puuids(&one).is_disjoint(&puuids(&other)));
    }

    #[test]
    fn queues_share_their_players_and_tiers_do_not() {
        let solo = puuids(&Ladder::new(rules("SOLO", 0)));
        assert_eq!(solo.len(), 2_000);
        assert_eq!(solo, puuids(&Ladder::new(rules("FLEX", 0))));
        assert!(solo.is_disjoint(&puuids(&Ladder::new(rules("SOLO", 1)))));
        let elsewhere = Ladder::new(Rules {
            platform: "euw1".to_owned(),
            ..rules("SOLO", 0)
        });
        assert!(solo.is_disjoint(&puuids(&elsewhere)));
    }

    #[test]
    fn the_churn_is_the_fraction_that_plays() {
        let mut ladder = Ladder::new(Rules {
            leave: 0.0,
            churn: 0.0125,
            ..rules("SOLO", 0)
        });
        for _ in 0..40 {
            let before = ladder.players().to_vec();
            ladder.advance();
            let played = before.iter().zip(ladder.players()).filter(|(a, b)| a != b);
            assert_eq!(played.count(), 25);
        }
    }

    #[test]
    fn players_leave_and_some_return() {
        let mut ladder = Ladder::new(rules("SOLO", 0));
        let (mut gone, mut left, mut returned) = (HashSet::new(), 0, 0);
        for _ in 0..200 {
            let before = puuids(&ladder);
            ladder.advance();
            let after = puuids(&ladder);
            assert_eq!(after.len(), ladder.players().len(), "nobody is there twice");
            left += before.difference(&after).count();
            returned += after
                .difference(&before)
                .filter(|who| gone.contains(*who))
                .count();
            gone.extend(before.difference(&after).copied());
        }
        assert!(
            left > 1_000 && returned > 500,
            "{left} left, {returned} returned"
        );
        assert!((1_900..2_100).contains(&ladder.players().len()));
    }

    #[test]
    fn without_churn_nothing_changes() {
        let mut ladder = Ladder::new(Rules {
            churn: 0.0,
            leave: 0.0,
            ..rules("SOLO", 0)
        });
        let before = ladder.players().to_vec();
        ladder.advance();
        assert!(ladder.is_still());
        assert_eq!(before, ladder.players());
    }
}
