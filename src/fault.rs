//! Why the program stops: one message that names the thing and the remedy, and the exit code.

use std::fmt;

/// The exit code that a fault ends the program with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 1: it failed.
    Failed = 1,
    /// 2: wrong configuration or arguments.
    Usage = 2,
    /// 3: fenced by another instance.
    Fenced = 3,
    /// 4: the local directory is stale, damaged or does not match what it feeds.
    Directory = 4,
}

/// A reason to stop. The message is lower case, without a final period, and free of secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The exit code.
    pub exit: Exit,
    /// What is wrong, where, and what to do about it.
    pub message: String,
}

impl Fault {
    /// Something failed (exit 1).
    pub fn failed(message: impl Into<String>) -> Fault {
        Fault {
            exit: Exit::Failed,
            message: message.into(),
        }
    }

    /// The configuration or the arguments are wrong (exit 2).
    pub fn usage(message: impl Into<String>) -> Fault {
        Fault {
            exit: Exit::Usage,
            message: message.into(),
        }
    }

    /// Another instance took over (exit 3).
    pub fn fenced(message: impl Into<String>) -> Fault {
        Fault {
            exit: Exit::Fenced,
            message: message.into(),
        }
    }

    /// The local directory is stale, damaged or does not match (exit 4).
    pub fn directory(message: impl Into<String>) -> Fault {
        Fault {
            exit: Exit::Directory,
            message: message.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
