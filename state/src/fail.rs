//! Fail points: where a test may end the process, and where it may break a rule, both by name and at
//! run time. Only in builds with the feature `fail-points`; elsewhere these functions are empty, and a
//! release build refuses the feature.
//!
//! * `DELTAPOLL_STEPS=FILE`: every durable step that is reached adds its name, a line, to the file.
//! * `DELTAPOLL_CRASH=NAME:N`: the process aborts when it reaches that step for the n-th time.
//! * `DELTAPOLL_BREAK=r07,r12`: these rules do not hold, so that their tests can be seen to fail.
//!
//! A step is named `part.what`, after the moment that it stands for: `journal.sync.before`.

#[cfg(all(feature = "fail-points", not(debug_assertions)))]
compile_error!("fail-points are for tests: a release build must not have them");

/// A durable step is reached.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub fn step(_name: &'static str) {}

/// Whether anybody asks for the step: where reaching it takes another way than the usual one.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
#[must_use]
pub fn wanted(_name: &'static str) -> bool {
    false
}

/// Whether `rule`, for example `r07`, is broken on purpose.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
#[must_use]
pub fn broken(_rule: &'static str) -> bool {
    false
}

#[cfg(feature = "fail-points")]
pub use armed::{broken, step, wanted};

#[cfg(feature = "fail-points")]
mod armed {
    use std::collections::HashMap;
    use std::fs::{File, OpenOptions};
    use std::io::Write;
    use std::sync::{Mutex, OnceLock, PoisonError};

    struct Orders {
        steps: Option<File>,
        crash: Option<(String, u64)>,
        broken: Vec<String>,
        reached: Mutex<HashMap<&'static str, u64>>,
    }

    fn orders() -> &'static Orders {
        static ORDERS: OnceLock<Orders> = OnceLock::new();
        ORDERS.get_or_init(|| {
            let var = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
            let steps = var("DELTAPOLL_STEPS").map(|path| {
                let file = OpenOptions::new().create(true).append(true).open(path);
                file.expect("DELTAPOLL_STEPS names a file that can be written")
            });
            let crash = var("DELTAPOLL_CRASH").map(|text| {
                let (name, n) = text.rsplit_once(':').expect("DELTAPOLL_CRASH is NAME:N");
                let n = n.parse().expect("DELTAPOLL_CRASH is NAME:N");
                (name.to_owned(), n)
            });
            let broken = var("DELTAPOLL_BREAK").unwrap_or_default();
            Orders {
                steps,
                crash,
                broken: broken
                    .split(',')
                    .map(|rule| rule.trim().to_owned())
                    .collect(),
                reached: Mutex::default(),
            }
        })
    }

    /// A durable step is reached: noted, and the process ends here if it was told to.
    pub fn step(name: &'static str) {
        let orders = orders();
        if orders.steps.is_none() && orders.crash.is_none() {
            return;
        }
        let mut reached = orders
            .reached
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = reached.entry(name).or_default();
        *count += 1;
        if let Some(mut file) = orders.steps.as_ref() {
            // One write: lines of several processes do not mix.
            let line = format!("{name}\n");
            file.write_all(line.as_bytes())
                .expect("the steps can be noted");
        }
        if orders
            .crash
            .as_ref()
            .is_some_and(|(wanted, n)| wanted == name && n == count)
        {
            std::process::abort();
        }
    }

    /// Whether anybody asks for the step: where reaching it takes another way than the usual one.
    #[must_use]
    pub fn wanted(name: &'static str) -> bool {
        let orders = orders();
        let crash = orders.crash.as_ref();
        orders.steps.is_some() || crash.is_some_and(|(wanted, _)| wanted == name)
    }

    /// Whether `rule`, for example `r07`, is broken on purpose.
    #[must_use]
    pub fn broken(rule: &'static str) -> bool {
        orders().broken.iter().any(|broken| broken == rule)
    }
}
