//! What a process has used, as /proc says.

use std::fs;
use std::io;

/// Linux says so to every program.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used so far.
#[derive(Clone, Copy)]
pub struct Used {
    pub cpu_seconds: f64,
    /// `None`: it ends, or has ended.
    pub peak_bytes: Option<u64>,
    /// It has ended, and nobody has waited for it yet.
    pub ended: bool,
}

/// Of the process `pid`, or of `self`; an ended process that nobody waited for still has its CPU time.
pub fn used(pid: &str) -> io::Result<Used> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    let (Some(user), Some(system)) = (ticks(11), ticks(12)) else {
        return Err(io::Error::other("/proc/PID/stat is not as on Linux"));
    };
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(Used {
        cpu_seconds: (user + system) / TICKS_PER_SECOND,
        peak_bytes: peak.map(|kibibytes| kibibytes * 1024),
        ended: fields[0] == "Z",
    })
}
