//! Bad answers on demand.

use std::fmt;
use std::str::FromStr;

/// A bad answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 429 with `Retry-After: 1`.
    TooMany,
    /// 429 without a word about waiting.
    TooManyBare,
    /// 500 with a body that is no JSON.
    Error,
    /// 503.
    Unavailable,
    /// The right answer, late.
    Slow,
    /// The right answer, broken off in the middle.
    Cut,
    /// The right answer without its end, as if it were whole.
    Malformed,
    /// A page for people, with status 200.
    Html,
    /// A ladder without anybody on it.
    Empty,
    /// The connection is closed before the first byte of the body.
    Reset,
}

const NAMES: [(&str, Fault); 10] = [
    ("429", Fault::TooMany),
    ("429-bare", Fault::TooManyBare),
    ("500", Fault::Error),
    ("503", Fault::Unavailable),
    ("slow", Fault::Slow),
    ("cut", Fault::Cut),
    ("malformed", Fault::Malformed),
    ("html", Fault::Html),
    ("empty", Fault::Empty),
    ("reset", Fault::Reset),
];

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let found = NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, fault)| *fault).ok_or_else(|| {
            let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("'{text}' is no fault: there is {}", names.join(", "))
        })
    }
}

/// Probabilities per request, written as `429:0.05,cut:0.02`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spec(Vec<(Fault, f64)>);

impl Spec {
    /// The fault that a number from 0 to 1 falls on.
    #[must_use]
    pub fn pick(&self, mut at: f64) -> Option<Fault> {
        for (fault, probability) in &self.0 {
            if at < *probability {
                return Some(*fault);
            }
            at -= probability;
        }
        None
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Spec, String> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let faults = parts.map(|part| {
            let wrong = || format!("'{part}' is not NAME:PROBABILITY, such as cut:0.02");
            let (name, probability) = part.split_once(':').ok_or_else(wrong)?;
            let probability: f64 = probability.parse().map_err(|_| wrong())?;
            if !(0.0..=1.0).contains(&probability) {
                return Err(wrong());
            }
            Ok((name.parse()?, probability))
        });
        let faults: Vec<_> = faults.collect::<Result<_, String>>()?;
        if faults
            .iter()
            .map(|(_, probability)| probability)
            .sum::<f64>()
            > 1.0
        {
            return Err(format!(
                "the probabilities in '{text}' are above 1 together"
            ));
        }
        Ok(Spec(faults))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES
            .iter()
            .find(|(_, fault)| fault == self)
            .map(|(name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_says_how_often_each_fault_comes() {
        let spec: Spec = "429:0.25, cut:0.5".parse().unwrap();
        assert_eq!(spec.pick(0.1), Some(Fault::TooMany));
        assert_eq!(spec.pick(0.3), Some(Fault::Cut));
        assert_eq!(spec.pick(0.8), None);
        for wrong in ["429", "cut:2", "none:0.1", "cut:0.6,slow:0.6"] {
            assert!(wrong.parse::<Spec>().is_err(), "{wrong}");
        }
    }
}
