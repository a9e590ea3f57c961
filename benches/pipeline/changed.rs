//! What does it cost the whole process that a little changes, against nothing?
//!
//! Runs of [`cost`], without changes and with them by turns; what is told is medians, from the poll after
//! the one that loads to the end of the process.

use std::fmt::Write as _;
use std::io;

use serde_json::{Value, json};

use crate::cost::{self, Load};
use crate::producer::fresh_name;
use crate::program::Setup;
use crate::turns::{aim, median};

/// Of the rate without changes.
const AIM: f64 = 0.8;

/// A run with each churn, and again.
pub struct Changed {
    churns: [f64; 2],
    /// Entries a second, CPU seconds for a million.
    runs: [Vec<(f64, f64)>; 2],
}

/// Measures `load`, and the same without churn, `runs` times each.
pub fn measure(load: Load, rounds: u64, runs: usize, setup: &Setup) -> io::Result<Changed> {
    let mut changed = Changed {
        churns: [0.0, load.churn],
        runs: [Vec::new(), Vec::new()],
    };
    for _ in 0..runs {
        for (runs, churn) in changed.runs.iter_mut().zip(changed.churns) {
            let dir = tempfile::tempdir()?;
            let setup = Setup {
                name: fresh_name(),
                ..setup.clone()
            };
            let cost = cost::measure(Load { churn, ..load }, rounds, setup, dir.path())?;
            let (_, rate, cpu) = cost.after_load();
            runs.push((rate, cpu));
        }
    }
    Ok(changed)
}

impl Changed {
    fn medians(&self) -> [(f64, f64); 2] {
        let of = |runs: &Vec<(f64, f64)>| {
            let (rates, cpu) = runs.iter().copied().unzip();
            (median(rates), median(cpu))
        };
        [of(&self.runs[0]), of(&self.runs[1])]
    }

    pub fn text(&self) -> String {
        let mut text = String::from("churn       entries/s   CPU s per million\n");
        let medians = self.medians();
        for (churn, (rate, cpu)) in self.churns.iter().zip(medians) {
            writeln!(text, "{churn:<8}{rate:>13.0}{cpu:>20.2}").expect("strings take everything");
        }
        let [(unchanged, cpu), (changed, cpu_changed)] = medians;
        let what = "entries/s, changed against unchanged";
        text + &format!(
            "{}\nCPU, unchanged against changed: {:.2}\n",
            aim(what, changed / unchanged, AIM),
            cpu / cpu_changed
        )
    }

    pub fn json(&self) -> Value {
        let medians = self.medians();
        let one = |(churn, (rate, cpu)): (&f64, (f64, f64))| json!({ "churn": churn, "entries_per_second": rate, "cpu_seconds_per_million": cpu });
        let all: Vec<Value> = self.churns.iter().zip(medians).map(one).collect();
        json!({ "runs": self.runs[0].len(), "medians": all })
    }
}
