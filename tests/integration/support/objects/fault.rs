//! Faults of the object server, each for one PUT.

use std::os::fd::AsFd;
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;

/// What happens to the next PUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status, nothing written.
    Refuse(u16),
    /// The connection is closed, nothing written.
    CloseBefore,
    /// Written, then this status.
    WriteThen(u16),
    /// Written, then the connection is closed without an answer.
    WriteThenClose,
    /// Written, then the connection is reset.
    WriteThenReset,
    /// Never answered, nothing written.
    Hang,
    /// Written, never answered.
    WriteThenHang,
    /// Written, answered late.
    Slow,
}

/// A handle to a connection, to end it rudely.
#[derive(Clone)]
pub(super) struct Socket(Arc<std::net::TcpStream>);

impl Connected<IncomingStream<'_, tokio::net::TcpListener>> for Socket {
    fn connect_info(stream: IncomingStream<'_, tokio::net::TcpListener>) -> Socket {
        let handle = stream.io().as_fd().try_clone_to_owned().unwrap();
        Socket(Arc::new(handle.into()))
    }
}

impl Socket {
    /// What is sent when it is closed is a reset.
    pub(super) fn reset(&self) {
        let stream = self.0.try_clone().unwrap();
        let stream = tokio::net::TcpStream::from_std(stream).unwrap();
        stream.set_zero_linger().unwrap();
    }
}
