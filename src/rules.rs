//! Fingerprint rules: under which canonical form and which ignored fields a fingerprint was made.
//!
//! Rules are journal facts, numbered from 1 and never changed; every stored fingerprint carries its
//! rule's number, so that an upgrade or a changed `ignore` does not re-publish the world (R10).

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::follower::Facts;
use crate::io::json::pointer::Pointer;

const PREFIX: &str = "rule/";

/// The canonical form that this build makes; another one gets another number.
const CANON: u32 = 1;

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Written {
    canon: u32,
    ignore: Vec<String>,
}

/// The rules that this directory ever used and this build still has, by number.
#[derive(Debug, Default)]
pub struct Rules(Vec<Option<Vec<Pointer>>>);

impl Rules {
    /// Reads the rules of the directory.
    ///
    /// # Errors
    /// When a rule's fact is damaged.
    pub fn read(facts: &dyn Facts) -> Result<Rules, Fault> {
        let mut rules = Rules::default();
        for (name, text) in facts.under(PREFIX) {
            let (number, written) = parse(&name, &text)?;
            rules
                .0
                .resize_with(rules.0.len().max(usize::from(number) + 1), || None);
            if written.canon == CANON {
                rules.0[usize::from(number)] = Some(pointers(&written.ignore)?);
            }
        }
        Ok(rules)
    }

    /// The number of the rule with these ignored fields, which gets one now if it has none. Call
    /// [`Rules::read`] after the last.
    ///
    /// # Errors
    /// When 255 rules are used up, or a fact is damaged.
    pub fn number(facts: &dyn Facts, ignore: &[String]) -> Result<u8, Fault> {
        let mut ignore = ignore.to_vec();
        ignore.sort();
        ignore.dedup();
        let wanted = Written {
            canon: CANON,
            ignore,
        };
        let mut last = 0;
        for (name, text) in facts.under(PREFIX) {
            let (number, written) = parse(&name, &text)?;
            if written == wanted {
                return Ok(number);
            }
            last = last.max(number);
        }
        let number = last.checked_add(1).ok_or_else(|| {
            Fault::directory("255 different lists of ignored fields are used up: state reset")
        })?;
        let text = serde_json::to_string(&wanted).expect("plain data");
        facts.set(vec![(format!("{PREFIX}{number:03}"), Some(text))], true)?;
        Ok(number)
    }

    /// The ignored fields of rule `number`, if this build has it.
    #[must_use]
    pub fn get(&self, number: u8) -> Option<&[Pointer]> {
        self.0.get(usize::from(number))?.as_deref()
    }
}

/// A rule as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its number.
    pub number: u8,
    /// The canonical form.
    pub canon: u32,
    /// The fields that are left out.
    pub ignore: Vec<String>,
}

/// Every rule of the directory.
///
/// # Errors
/// When a fact is damaged.
pub fn listed(facts: &dyn Facts) -> Result<Vec<Listed>, Fault> {
    let one = |(name, text): (String, String)| {
        let (number, Written { canon, ignore }) = parse(&name, &text)?;
        Ok(Listed {
            number,
            canon,
            ignore,
        })
    };
    facts.under(PREFIX).into_iter().map(one).collect()
}

fn parse(name: &str, text: &str) -> Result<(u8, Written), Fault> {
    let damaged = || Fault::directory(format!("the journal's fact {name} is damaged: {text}"));
    let number = name[PREFIX.len()..].parse().map_err(|_| damaged())?;
    Ok((number, serde_json::from_str(text).map_err(|_| damaged())?))
}

fn pointers(texts: &[String]) -> Result<Vec<Pointer>, Fault> {
    let parsed = texts.iter().map(|text| Pointer::parse(text));
    parsed.collect::<Result<_, _>>().map_err(Fault::directory)
}
