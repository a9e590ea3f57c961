//! Reading the journal batch by batch, with the checks that go with it.

use crate::change::{Batch, Change, Seq};
use crate::fault::Fault;
use crate::follower::{Log, Logs, SealedBatch};

use super::lane::At;

/// The batch after `read`.
///
/// # Errors
/// When the journal does not have it, although a later one is published.
pub fn next(log: &mut dyn Log, read: Seq) -> Result<SealedBatch, Fault> {
    let batch = log.next()?.ok_or_else(|| {
        Fault::failed(format!(
            "the journal ends at batch {read}, but a later one is published"
        ))
    })?;
    assert_eq!(batch.seq, read.next(), "batches are numbered densely");
    Ok(batch)
}

/// Shows each change of `batch` that is to be archived, with its topic.
///
/// # Errors
/// When the batch is damaged, or when `take` fails.
pub fn each(
    batch: &SealedBatch,
    mut take: impl FnMut(&str, &At, &Change<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let damaged = |error| {
        let seq = batch.seq;
        Fault::directory(format!(
            "batch {seq} of the journal cannot be archived: {error}"
        ))
    };
    let body = Batch::read(&batch.body).map_err(damaged)?;
    let at = At {
        seq: batch.seq,
        epoch: batch.epoch,
        polled_at: body.head.polled_at,
    };
    for change in body.changes() {
        let change = change.map_err(damaged)?;
        if !change.silent {
            take(&body.head.topic, &at, &change)?;
        }
    }
    Ok(())
}

/// Shows the batches after `after` up to `upto`.
///
/// # Errors
/// When the journal does not have them, or when `take` fails.
pub fn range(
    logs: &dyn Logs,
    after: Seq,
    upto: Seq,
    mut take: impl FnMut(&SealedBatch) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut log = logs.after(after)?;
    let mut read = after;
    while read < upto {
        let batch = next(&mut *log, read)?;
        read = batch.seq;
        take(&batch)?;
    }
    Ok(())
}
