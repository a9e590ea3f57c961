//! The first Ctrl-C or SIGTERM asks to stop, the second leaves at once with exit code 130 (R31).

use deltapoll_state::fail;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::fault::Fault;
use crate::stop::Stop;

/// Listens on a thread of its own, until the process ends.
///
/// # Errors
/// When signals cannot be listened to.
pub fn listen(stop: &Stop) -> Result<(), Fault> {
    let failed =
        |error: std::io::Error| Fault::failed(format!("cannot listen for signals: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(failed)?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    drop(guard);
    let stop = stop.clone();
    let listen = async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.requested() || fail::broken("r31") {
                std::process::exit(130);
            }
            info!("stopping: what has arrived is sealed; again to leave at once");
            stop.request();
        }
    };
    let thread = std::thread::Builder::new().name("signals".into());
    thread
        .spawn(move || runtime.block_on(listen))
        .map(drop)
        .map_err(failed)
}
