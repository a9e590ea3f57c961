//! Frames: what a segment consists of after its header.
//!
//! Integers little-endian:
//!
//! ```text
//! checksum u64 | magic u32 | kind u8 | mark u24 | body length u32 | facts length u32
//! | seq u64 | epoch u64 | synced u64 | body | facts
//! ```
//!
//! The checksum is XXH3-64 of all that follows it, seeded with the segment's salt and the frame's
//! offset: a frame is valid only where it was written, so that bytes of a batch that look like a
//! frame, or a frame of another segment, never pass for one. The mark is the low 24 bits of XXH3-64 of the
//! lengths and the three numbers, seeded with salt, offset and kind (xor): what a batch is full of may look like
//! heads of huge frames, and does not cost the hash of each.

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use crate::word::{Epoch, Seq};

/// Bytes before the body.
pub(super) const HEAD_BYTES: usize = 48;
/// Where the magic is, from the start of the frame.
pub(super) const MAGIC_AT: usize = 8;
pub(super) const MAGIC: [u8; 4] = *b"dpF\x01";
const KIND_AT: usize = 12;
const MARK_AT: usize = 13;
/// Where the lengths begin.
const LENGTHS_AT: usize = 16;
/// Body and facts each: a limit that only a mistake reaches; batches are cut at a few MiB.
const PART_BYTES_MAX: usize = 1 << 30;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Facts only, between epochs.
    Control,
    /// A batch that is followed by more of its epoch.
    Batch,
    /// The last batch of its epoch: once it is durable, the epoch is sealed.
    Last,
}

/// A frame's fixed part, without checksum and lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    /// 0 in a control frame.
    pub(super) seq: Seq,
    /// 0 in a control frame.
    pub(super) epoch: Epoch,
    /// Offset in this segment up to which everything was known durable when this was written (R13).
    pub(super) synced: u64,
}

/// A frame in place.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) head: Head,
    pub(super) body: &'a [u8],
    pub(super) facts: &'a [u8],
}

/// Bytes of a frame with such parts.
pub(super) fn bytes(body: &[u8], facts: &[u8]) -> usize {
    HEAD_BYTES + body.len() + facts.len()
}

/// Bytes of a frame's checksum, which is over all that follows it.
const CHECKSUM_BYTES: usize = 8;

/// Appends a frame that will stand at `offset`.
pub(super) fn encode(out: &mut Vec<u8>, frame: View<'_>, salt: u64, offset: u64) {
    let start = out.len();
    out.reserve(bytes(frame.body, frame.facts));
    out.extend_from_slice(&unproven(frame, salt, offset));
    out.extend_from_slice(frame.body);
    out.extend_from_slice(frame.facts);
    // In one piece it takes a tenth less than `fixed`, which has parts.
    let (checksum, rest) = out[start..].split_at_mut(CHECKSUM_BYTES);
    checksum.copy_from_slice(&xxh3_64_with_seed(rest, salt ^ offset).to_le_bytes());
}

/// The fixed part of a frame that will stand at `offset`; body and facts follow it.
pub(super) fn fixed(frame: View<'_>, salt: u64, offset: u64) -> [u8; HEAD_BYTES] {
    let mut out = unproven(frame, salt, offset);
    let (sum, rest) = out.split_at_mut(CHECKSUM_BYTES);
    let mut checksum = Xxh3::with_seed(salt ^ offset);
    for part in [rest, frame.body, frame.facts] {
        checksum.update(part);
    }
    sum.copy_from_slice(&checksum.digest().to_le_bytes());
    out
}

/// The fixed part without its checksum.
fn unproven(frame: View<'_>, salt: u64, offset: u64) -> [u8; HEAD_BYTES] {
    let View { head, body, facts } = frame;
    let length = |part: &[u8]| {
        assert!(part.len() <= PART_BYTES_MAX, "{} bytes", part.len());
        u32::try_from(part.len())
            .expect("just checked")
            .to_le_bytes()
    };
    let mut out = [0; HEAD_BYTES];
    out[MAGIC_AT..KIND_AT].copy_from_slice(&MAGIC);
    out[KIND_AT] = head.kind as u8;
    out[16..20].copy_from_slice(&length(body));
    out[20..24].copy_from_slice(&length(facts));
    out[24..32].copy_from_slice(&head.seq.0.to_le_bytes());
    out[32..40].copy_from_slice(&head.epoch.0.to_le_bytes());
    out[40..].copy_from_slice(&head.synced.to_le_bytes());
    let mark = mark(&out, salt ^ offset);
    out[MARK_AT..LENGTHS_AT].copy_from_slice(&mark);
    out
}

/// Of kind, lengths and numbers.
fn mark(head: &[u8; HEAD_BYTES], seed: u64) -> [u8; LENGTHS_AT - MARK_AT] {
    let hash = xxh3_64_with_seed(&head[LENGTHS_AT..], seed ^ u64::from(head[KIND_AT]));
    *hash.to_le_bytes().first_chunk().expect("eight bytes")
}

/// Gives a head that was changed the mark of what it says now.
#[cfg(test)]
pub(super) fn renew_mark(head: &mut [u8; HEAD_BYTES], salt: u64, offset: u64) {
    let mark = mark(head, salt ^ offset);
    head[MARK_AT..LENGTHS_AT].copy_from_slice(&mark);
}

/// Reads the fixed part of a frame at `offset`: what it says, and how many bytes the frame has. Only the
/// whole frame proves it; this much keeps what is none from being looked at.
pub(super) fn head(bytes: &[u8; HEAD_BYTES], salt: u64, offset: u64) -> Option<(Head, u64)> {
    let u32_at = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().expect("in the head"));
    let u64_at = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("in the head"));
    if bytes[MAGIC_AT..KIND_AT] != MAGIC || bytes[MARK_AT..LENGTHS_AT] != mark(bytes, salt ^ offset)
    {
        return None;
    }
    let kind = match bytes[KIND_AT] {
        0 => Kind::Control,
        1 => Kind::Batch,
        2 => Kind::Last,
        _ => return None,
    };
    let (body, facts) = (u32_at(16), u32_at(20));
    if body as usize > PART_BYTES_MAX || facts as usize > PART_BYTES_MAX {
        return None;
    }
    let head = Head {
        kind,
        seq: Seq(u64_at(24)),
        epoch: Epoch(u64_at(32)),
        synced: u64_at(40),
    };
    Some((head, HEAD_BYTES as u64 + u64::from(body) + u64::from(facts)))
}

/// Checks and reads the frame whose bytes are exactly `bytes`, at `offset`.
pub(super) fn decode(bytes: &[u8], salt: u64, offset: u64) -> Option<View<'_>> {
    let fixed = bytes.first_chunk::<HEAD_BYTES>()?;
    let (head, total) = head(fixed, salt, offset)?;
    let checksum = u64::from_le_bytes(*bytes.first_chunk()?);
    if total != bytes.len() as u64 || checksum != xxh3_64_with_seed(&bytes[8..], salt ^ offset) {
        return None;
    }
    let body = u32::from_le_bytes(*bytes[16..].first_chunk()?) as usize;
    let (body, facts) = bytes[HEAD_BYTES..].split_at(body);
    Some(View { head, body, facts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_valid_only_where_it_was_written_and_with_every_bit_intact() {
        let head = Head {
            kind: Kind::Last,
            seq: Seq(7),
            epoch: Epoch(9),
            synced: 11,
        };
        let (body, facts) = (&b"body"[..], &b"facts"[..]);
        let mut out = Vec::new();
        encode(&mut out, View { head, body, facts }, 5, 100);
        let read = decode(&out, 5, 100).expect("sound");
        assert_eq!((read.head, read.body, read.facts), (head, body, facts));
        assert!(decode(&out, 5, 101).is_none() && decode(&out, 6, 100).is_none());
        for bit in 0..out.len() * 8 {
            out[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&out, 5, 100).is_none(), "bit {bit}");
            out[bit / 8] ^= 1 << (bit % 8);
        }
        for cut in 0..out.len() {
            assert!(decode(&out[..cut], 5, 100).is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn the_checksum_is_that_of_the_whole_whatever_the_parts() {
        let head = Head {
            kind: Kind::Batch,
            seq: Seq(7),
            epoch: Epoch(9),
            synced: 11,
        };
        let bytes: Vec<u8> = (0..70_000_u32).map(|at| (at / 3) as u8).collect();
        let cuts = (0..1300).chain([4096, 65_535, 65_536, 70_000]);
        for (cut, salt) in cuts.flat_map(|cut| [(cut, 0), (cut, 5)]) {
            for (body, facts) in [bytes.split_at(cut), (&bytes[..cut], &[][..])] {
                let frame = View { head, body, facts };
                let mut out = fixed(frame, salt, 0).to_vec();
                out.extend_from_slice(body);
                out.extend_from_slice(facts);
                let read = decode(&out, salt, 0).expect("sound");
                assert_eq!((read.head, read.body, read.facts), (head, body, facts));
            }
        }
    }
}
