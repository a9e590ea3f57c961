//! How times spread.

use std::time::Duration;

use serde_json::{Value, json};

/// Percentiles of times, in milliseconds.
#[derive(Clone, Copy)]
pub struct Spread {
    pub count: usize,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Spread {
    /// Of `times` in milliseconds; `None`: there are none.
    pub fn of(mut times: Vec<f64>) -> Option<Spread> {
        times.sort_by(f64::total_cmp);
        let last = times.len().checked_sub(1)?;
        let at = |fraction: f64| times[(last as f64 * fraction).round() as usize];
        Some(Spread {
            count: times.len(),
            p50: at(0.5),
            p99: at(0.99),
            max: times[last],
        })
    }

    /// A row of a table.
    pub fn text(&self) -> String {
        let Spread {
            count,
            p50,
            p99,
            max,
        } = self;
        format!("{count:>7}{p50:>10.2}{p99:>10.2}{max:>10.2}")
    }

    pub fn json(&self) -> Value {
        json!({ "count": self.count, "p50": self.p50, "p99": self.p99, "max": self.max })
    }
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
