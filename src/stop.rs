//! How the program ends: a request that everybody can see, and the way out for a fault.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use crate::fault::Fault;

/// A request to stop, shared by all parts.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    requested: Arc<AtomicBool>,
    late: Arc<AtomicBool>,
    told: Notify,
}

impl Stop {
    /// Asks everybody to stop.
    pub fn request(&self) {
        self.0.requested.store(true, Ordering::Release);
        self.0.told.notify_waiters();
    }

    /// Whether somebody asked.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.0.requested.load(Ordering::Acquire)
    }

    /// The request as a flag, for who only looks.
    #[must_use]
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.0.requested.clone()
    }

    /// Tells who was given time to finish that it is over.
    pub fn end_grace(&self) {
        self.0.late.store(true, Ordering::Release);
    }

    /// Whether the time to finish is over, as a flag.
    #[must_use]
    pub fn late_flag(&self) -> Arc<AtomicBool> {
        self.0.late.clone()
    }

    /// Waits until somebody asks.
    pub async fn wait(&self) {
        let told = self.0.told.notified();
        tokio::pin!(told);
        // Before the check: a request between check and wait must wake us.
        told.as_mut().enable();
        if !self.requested() {
            told.await;
        }
    }
}

type LastWords = Box<dyn Fn(&Fault) + Send + Sync>;
static LAST_WORDS: OnceLock<LastWords> = OnceLock::new();

/// Sets what prints a fault that ends the process from another thread.
pub fn on_fatal(print: impl Fn(&Fault) + Send + Sync + 'static) {
    // The first one stays: there is one program.
    let _ = LAST_WORDS.set(Box::new(print));
}

/// Ends the process with the fault's exit code: on a thread that nobody waits for, when what it does
/// cannot go on. Recovery is a restart (R15).
pub fn fatal(fault: &Fault) -> ! {
    match LAST_WORDS.get() {
        Some(print) => print(fault),
        None => tracing::error!("{fault}"),
    }
    std::process::exit(fault.exit as i32)
}
