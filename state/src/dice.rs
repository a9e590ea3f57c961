//! For tests: seeded randomness that prints its seed, so that a failure can be had again with
//! `DELTAPOLL_SEED`.

/// SplitMix64.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice for one test; `seed` is used unless the environment names another.
    #[must_use]
    pub fn new(seed: u64) -> Dice {
        let other = std::env::var("DELTAPOLL_SEED").ok();
        let seed = other.and_then(|text| text.parse().ok()).unwrap_or(seed);
        println!("DELTAPOLL_SEED={seed}");
        Dice(seed)
    }

    /// Dice that always fall the same.
    #[must_use]
    pub fn from(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Dice that go their own way from here.
    pub fn fork(&mut self) -> Dice {
        Dice(self.word())
    }

    /// Any number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.word() % limit
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
