//! The real parts, each with one job.

pub mod case;
pub mod fault_table;
pub mod hostile;
pub mod kafka;
pub mod memory;
pub mod objects;
pub mod polling;
pub mod process;
pub mod readers;
pub mod sim;
pub mod wait;
