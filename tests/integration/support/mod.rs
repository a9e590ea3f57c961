//! The real parts, each with one job.

pub mod case;
pub mod cluster;
pub mod fault_table;
pub mod hostile;
pub mod kafka;
pub mod memory;
pub mod node;
pub mod objects;
pub mod polling;
pub mod process;
pub mod proxy;
pub mod publisher;
pub mod readers;
pub mod s3;
pub mod sim;
pub mod wait;
