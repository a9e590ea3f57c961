//! A publisher's cursor over the sealed batches: dense and in order, or a fault.

use std::sync::Arc;

use crate::change::{self, Seq};
use crate::fault::Fault;
use crate::follower::{Log, Logs, SealedBatch};

/// Reads the journal batch by batch and checks that no batch is missing.
pub(crate) struct Feed {
    log: Box<dyn Log>,
    position: Seq,
    /// Read by [`Feed::has_more`], not handed out yet.
    ahead: Option<SealedBatch>,
}

impl Feed {
    /// A feed whose first batch is the one after `position`.
    pub(crate) fn after(logs: &Arc<dyn Logs>, position: Seq) -> Result<Feed, Fault> {
        let log = logs.after(position)?;
        Ok(Feed {
            log,
            position,
            ahead: None,
        })
    }

    /// The seq of the last batch that was handed out.
    pub(crate) fn position(&self) -> Seq {
        self.position
    }

    /// Whether another batch is sealed by now, and with it the rest of its epoch.
    pub(crate) fn has_more(&mut self) -> Result<bool, Fault> {
        if self.ahead.is_none() {
            self.ahead = self.log.next()?;
        }
        Ok(self.ahead.is_some())
    }

    /// The next batch, which is known to be sealed.
    pub(crate) fn next(&mut self) -> Result<SealedBatch, Fault> {
        let expected = self.position.next();
        let next = match self.ahead.take() {
            Some(batch) => Some(batch),
            None => self.log.next()?,
        };
        let batch = next.ok_or_else(|| {
            Fault::directory(format!(
                "the journal ends before batch {expected}, which was sealed"
            ))
        })?;
        if batch.seq != expected {
            return Err(Fault::directory(format!(
                "the journal holds batch {} where batch {expected} must be",
                batch.seq
            )));
        }
        self.position = batch.seq;
        Ok(batch)
    }
}

/// A batch that was sealed but cannot be read.
pub(crate) fn damaged(batch: &SealedBatch, error: &change::Error) -> Fault {
    Fault::directory(format!("the journal's batch {}: {error}", batch.seq))
}
