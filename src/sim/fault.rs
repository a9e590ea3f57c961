//! What goes wrong on demand: by chance for every request, or once, for the next one.

use std::collections::VecDeque;
use std::str::FromStr;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// One thing that goes wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// 429 with Retry-After.
    TooMany,
    /// 429 that says neither why nor until when.
    TooManyBare,
    /// An error status: 400 to 599.
    Status(u16),
    /// Half of the answer, a pause, the other half.
    Slow,
    /// Half of the answer, then the connection closes.
    Cut,
    /// 200, complete, and not JSON.
    Malformed,
    /// 200 with a page for people.
    Html,
    /// A ladder without entries.
    Empty,
    /// The connection is reset before anything is answered.
    Reset,
}

impl Trouble {
    /// Nothing of a version is sent.
    pub(super) fn replaces_the_answer(self) -> bool {
        use Trouble::{Html, Reset, Status, TooMany, TooManyBare};
        matches!(self, TooMany | TooManyBare | Status(_) | Html | Reset)
    }
}

impl FromStr for Trouble {
    type Err = String;

    fn from_str(text: &str) -> Result<Trouble, String> {
        Ok(match text {
            "429" => Trouble::TooMany,
            "429-bare" => Trouble::TooManyBare,
            "slow" => Trouble::Slow,
            "cut" => Trouble::Cut,
            "malformed" => Trouble::Malformed,
            "html" => Trouble::Html,
            "empty" => Trouble::Empty,
            "reset" => Trouble::Reset,
            status => match status.parse() {
                Ok(status @ 400..=599) => Trouble::Status(status),
                _ => {
                    return Err(format!(
                        "unknown fault {text:?}: use 429, 429-bare, slow, cut, malformed, html, \
                         empty, reset or a status between 400 and 599"
                    ));
                }
            },
        })
    }
}

/// The probability of each trouble per request: `429:0.05,cut:0.03`. Empty means none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults(Vec<(Trouble, f64)>);

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        let mut faults = Vec::new();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (name, probability) = part.split_once(':').ok_or_else(|| {
                format!("fault {part:?} has no probability: write it as {part}:0.05")
            })?;
            let probability = probability
                .parse()
                .ok()
                .filter(|probability| (0.0..=1.0).contains(probability))
                .ok_or_else(|| format!("fault {part:?}: use a probability between 0 and 1"))?;
            faults.push((name.parse()?, probability));
        }
        if faults
            .iter()
            .map(|(_, probability)| probability)
            .sum::<f64>()
            > 1.0 + 1e-9
        {
            return Err(format!(
                "the probabilities of {text:?} add up to more than 1"
            ));
        }
        Ok(Faults(faults))
    }
}

/// Decides what goes wrong with a request.
#[derive(Debug)]
pub(super) struct Dice {
    faults: Faults,
    once: VecDeque<(Option<String>, Trouble)>,
    random: Xoshiro256PlusPlus,
}

impl Dice {
    pub(super) fn new(faults: Faults, seed: u64) -> Dice {
        Dice {
            faults,
            once: VecDeque::new(),
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
        }
    }

    pub(super) fn set(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// This goes wrong with the next request, or with the next one to that cell.
    pub(super) fn once(&mut self, cell: Option<String>, trouble: Trouble) {
        self.once.push_back((cell, trouble));
    }

    pub(super) fn roll(&mut self, cell: &str) -> Option<Trouble> {
        let ours = |wanted: &Option<String>| wanted.as_deref().is_none_or(|wanted| wanted == cell);
        if let Some(at) = self.once.iter().position(|(wanted, _)| ours(wanted)) {
            return self.once.remove(at).map(|(_, trouble)| trouble);
        }
        let mut chance: f64 = self.random.random();
        for &(trouble, probability) in &self.faults.0 {
            if chance < probability {
                return Some(trouble);
            }
            chance -= probability;
        }
        None
    }

    /// A place inside `length` bytes, neither the first nor the last.
    pub(super) fn place(&mut self, length: usize) -> usize {
        self.random.random_range(1..length.max(3) - 1)
    }

    pub(super) fn coin(&mut self) -> bool {
        self.random.random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_names_faults_and_their_probabilities() {
        let faults: Faults = "429:0.05, 503:0.02,cut:1e-2,".parse().unwrap();
        let expected = vec![
            (Trouble::TooMany, 0.05),
            (Trouble::Status(503), 0.02),
            (Trouble::Cut, 0.01),
        ];
        assert_eq!(faults, Faults(expected));
        assert_eq!("".parse(), Ok(Faults::default()));
        for wrong in [
            "cut",
            "cut:2",
            "cut:x",
            "cut:nan",
            "crash:0.1",
            "200:0.1",
            "cut:0.6,503:0.6",
        ] {
            assert!(wrong.parse::<Faults>().is_err(), "{wrong} was accepted");
        }
    }

    #[test]
    fn faults_come_as_often_as_they_should() {
        let mut dice = Dice::new("429:0.1,cut:0.3".parse().unwrap(), 7);
        let rolled: Vec<_> = (0..10_000).map(|_| dice.roll("kr,SOLO")).collect();
        let count = |wanted| rolled.iter().filter(|one| **one == wanted).count();
        assert!((900..1_100).contains(&count(Some(Trouble::TooMany))));
        assert!((2_850..3_150).contains(&count(Some(Trouble::Cut))));
        assert!((5_850..6_150).contains(&count(None)));
    }

    #[test]
    fn a_one_shot_fault_waits_for_its_cell() {
        let mut dice = Dice::new(Faults::default(), 7);
        dice.once(Some("kr,SOLO".to_owned()), Trouble::Cut);
        dice.once(None, Trouble::Html);
        assert_eq!(dice.roll("euw1,SOLO"), Some(Trouble::Html));
        assert_eq!(dice.roll("euw1,SOLO"), None);
        assert_eq!(dice.roll("kr,SOLO"), Some(Trouble::Cut));
        assert_eq!(dice.roll("kr,SOLO"), None);
    }
}
