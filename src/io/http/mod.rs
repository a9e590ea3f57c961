//! Everything about asking: when, with what, how much of the answer to hold, and when to hold back.
//!
//! * [`client`]: one client for all cells, and one request.
//! * [`answer`]: from a response to a snapshot, or the reason why there is none.
//! * [`validators`]: what lets a poll say "nothing new" without looking inside (R9).
//! * [`budget`]: memory from request to seal (R29).
//! * [`pace`]: who asked us to wait, and for how long.
//! * [`probe`]: one request that looks and keeps nothing, for `check`.
//! * [`schedule`]: one task per cell, one poll of it at a time (R1).

pub mod answer;
pub mod budget;
pub mod client;
pub mod pace;
pub mod probe;
pub mod schedule;
pub mod validators;
