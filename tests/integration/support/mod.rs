//! The real parts, each with one job.

pub mod kafka;
pub mod objects;
pub mod process;
pub mod readers;
pub mod sim;
pub mod wait;
