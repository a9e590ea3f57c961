//! From a stored file to pieces: decompressed, cut and scanned as an answer would be.
//!
//! What a file is made of is seen from its first bytes, not from its name. A file that ends early, in
//! whatever layer, is refused whole (G4).

use std::io::{self, BufReader, Cursor, Read};

use bytes::Bytes;

use crate::io::json::cutter::{Cutter, PIECE_BYTES};
use crate::io::json::pointer::Pointer;
use crate::io::json::scan::{Scan, Scanner};
use crate::snapshot::Piece;

use super::avro;

/// Read at a time.
const CHUNK_BYTES: usize = 256 << 10;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How entries are written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An answer as the API gives it: the list is where `records` says.
    Json,
    /// An entry a line.
    Lines,
    /// An Avro object file: an entry a record. What a sink wrote together is never a whole cell.
    Avro,
}

/// What names end in, before what says that they are compressed.
const ENDINGS: [(&str, Form); 4] = [
    (".json", Form::Json),
    (".ndjson", Form::Lines),
    (".jsonl", Form::Lines),
    (".avro", Form::Avro),
];
const COMPRESSED: [&str; 3] = [".gz", ".zst", ".zstd"];

impl Form {
    /// How entries are written in a file of this name, if it is one of those that are read.
    #[must_use]
    pub fn of(name: &str) -> Option<Form> {
        let plain = without_compression(name).unwrap_or(name);
        let known = ENDINGS.iter().find(|(end, _)| plain.ends_with(end));
        known.map(|(_, form)| *form)
    }
}

/// The name without its last ending, if that says that the file is compressed.
#[must_use]
pub fn without_compression(name: &str) -> Option<&str> {
    COMPRESSED.iter().find_map(|end| name.strip_suffix(end))
}

/// How files are to be read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Where the list is, in an answer.
    pub records: Pointer,
    /// The longest file, after decompression.
    pub body_max: u64,
}

/// A file that was read.
#[derive(Debug)]
pub struct Cut {
    /// Its entries, in order.
    pub pieces: Vec<Piece>,
    /// Bytes, after decompression.
    pub bytes: u64,
}

/// Reads `file` to its end; `grow` is told how much memory it takes so far, and may wait.
///
/// # Errors
/// Why the file cannot be used.
pub fn read(
    file: impl Read,
    form: Form,
    reading: &Reading,
    scan: &Scan,
    mut grow: impl FnMut(u64),
) -> Result<Cut, String> {
    let mut file = opened(file).map_err(failed)?;
    let mut into = match form {
        Form::Json => {
            let cutter = Cutter::new(&reading.records, PIECE_BYTES, &scan.keys);
            Into::Answer(Box::new(cutter))
        }
        Form::Lines => Into::Lines(Lines::default()),
        Form::Avro => {
            let mut bytes = 0;
            let pieces = avro::entries(file, reading.body_max, |so_far| {
                bytes = so_far;
                grow(so_far);
            })?;
            return Cut::scan(pieces, bytes, scan, grow);
        }
    };
    let mut scanner = scan.begin();
    let mut bytes = 0;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        bytes += length as u64;
        if bytes > reading.body_max {
            return Err(too_long(reading.body_max));
        }
        grow(bytes + scanner.bytes());
        into.push(&chunk[..length], &mut scanner)?;
    }
    into.finish(&mut scanner)?;
    grow(bytes + scanner.bytes());
    Ok(Cut {
        pieces: scanner.finish(),
        bytes,
    })
}

impl Cut {
    /// Scans what was cut in another way, `bytes` of it in all; `grow` as for [`read`].
    ///
    /// # Errors
    /// Which piece is malformed, and where.
    pub fn scan(
        pieces: Vec<Bytes>,
        bytes: u64,
        scan: &Scan,
        mut grow: impl FnMut(u64),
    ) -> Result<Cut, String> {
        let mut scanner = scan.begin();
        for piece in pieces {
            scanner.take(piece)?;
            grow(bytes + scanner.bytes());
        }
        Ok(Cut {
            pieces: scanner.finish(),
            bytes,
        })
    }
}

/// The file's content, decompressed.
fn opened<'a>(mut file: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut start = Vec::new();
    file.by_ref().take(4).read_to_end(&mut start)?;
    let zstd = start.starts_with(&ZSTD);
    let gzip = start.starts_with(&GZIP);
    let file = Cursor::new(start).chain(file);
    let buffered = |file| BufReader::with_capacity(CHUNK_BYTES, file);
    Ok(if gzip {
        Box::new(flate2::bufread::MultiGzDecoder::new(buffered(file)))
    } else if zstd {
        Box::new(zstd::Decoder::with_buffer(buffered(file))?)
    } else {
        Box::new(file)
    })
}

/// What is said of a file above the limit.
pub(super) fn too_long(bytes_max: u64) -> String {
    let most = crate::config::quantity::Bytes(bytes_max);
    format!("it is longer than limits.body_max = {most}")
}

fn failed(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it is cut short: its compressed data ends early".into(),
        _ => format!("it cannot be read: {error}"),
    }
}

enum Into<'s> {
    Answer(Box<Cutter<'s>>),
    Lines(Lines),
}

impl Into<'_> {
    fn push(&mut self, chunk: &[u8], into: &mut Scanner<'_>) -> Result<(), String> {
        match self {
            Into::Answer(cutter) => cutter.push(chunk, into).map_err(|what| what.to_string()),
            Into::Lines(lines) => lines.push(chunk, into),
        }
    }

    fn finish(self, into: &mut Scanner<'_>) -> Result<(), String> {
        match self {
            Into::Answer(cutter) => cutter.finish().map_err(|what| what.to_string()),
            Into::Lines(lines) => lines.finish(into),
        }
    }
}

/// Lines on their way into pieces: what separates entries there is a comma. Whether a line is an entry
/// is checked piece by piece.
#[derive(Default)]
struct Lines {
    piece: Vec<u8>,
    /// Where the current line starts in it, with the comma before it.
    line: usize,
    /// Where its text starts.
    text: usize,
}

impl Lines {
    fn push(&mut self, chunk: &[u8], into: &mut Scanner<'_>) -> Result<(), String> {
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', chunk) {
            self.piece.extend_from_slice(&chunk[from..end]);
            self.end_line(into)?;
            from = end + 1;
        }
        self.piece.extend_from_slice(&chunk[from..]);
        Ok(())
    }

    fn end_line(&mut self, into: &mut Scanner<'_>) -> Result<(), String> {
        if self.piece[self.text..].trim_ascii().is_empty() {
            self.piece.truncate(self.line);
        }
        if self.piece.len() >= PIECE_BYTES {
            self.end_piece(into)?;
        }
        self.line = self.piece.len();
        if self.line > 0 {
            self.piece.push(b',');
        }
        self.text = self.piece.len();
        Ok(())
    }

    fn finish(mut self, into: &mut Scanner<'_>) -> Result<(), String> {
        self.end_line(into)?;
        self.piece.truncate(self.line);
        match self.piece.is_empty() {
            true => Ok(()),
            false => self.end_piece(into),
        }
    }

    fn end_piece(&mut self, into: &mut Scanner<'_>) -> Result<(), String> {
        into.take(std::mem::take(&mut self.piece).into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn reading() -> Reading {
        Reading {
            records: Pointer::parse("/entries").unwrap(),
            body_max: 1 << 20,
        }
    }

    fn scan() -> Scan {
        Scan::of_keys(vec![Pointer::parse("/a").unwrap()])
    }

    fn text(bytes: &[u8], form: Form) -> Result<String, String> {
        let cut = read(bytes, form, &reading(), &scan(), |_| ())?;
        let pieces: Vec<_> = cut
            .pieces
            .iter()
            .map(|p| String::from_utf8_lossy(&p.bytes))
            .collect();
        Ok(pieces.join("|"))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn what_a_file_is_made_of_is_seen_from_its_first_bytes() {
        let json = br#"{"tier":"X","entries":[{"a":1}, {"b":2}]}"#;
        let wanted = r#"{"a":1}, {"b":2}"#;
        assert_eq!(text(json, Form::Json).unwrap(), wanted);
        assert_eq!(text(&gzip(json), Form::Json).unwrap(), wanted);
        let zstd = zstd::encode_all(&json[..], 1).unwrap();
        assert_eq!(text(&zstd, Form::Json).unwrap(), wanted);
        let (a, b) = json.split_at(20);
        let members = [gzip(a), gzip(b)].concat();
        assert_eq!(text(&members, Form::Json).unwrap(), wanted, "two members");
    }

    #[test]
    fn lines_become_entries_with_commas_between_them() {
        for (lines, wanted) in [
            ("{\"a\":1}\n{\"b\":2}\n", "{\"a\":1},{\"b\":2}"),
            ("{\"a\":1}\r\n\r\n \n{\"b\":2}", "{\"a\":1}\r,{\"b\":2}"),
            ("\n\n", ""),
            ("", ""),
        ] {
            assert_eq!(
                text(lines.as_bytes(), Form::Lines).unwrap(),
                wanted,
                "{lines:?}"
            );
        }
        for (lines, told) in [
            ("{\"a\"", "within an entry"),
            ("{\"a\":1},\n", "a comma without an entry"),
        ] {
            let error = text(lines.as_bytes(), Form::Lines).unwrap_err();
            assert!(error.contains(told), "{lines:?}: {error}");
        }
        let many = "{\"key\":\"0123456789\"}\n".repeat(40_000);
        let cut = read(many.as_bytes(), Form::Lines, &reading(), &scan(), |_| ()).unwrap();
        assert!(cut.pieces.len() > 1);
        let back = cut
            .pieces
            .iter()
            .map(|p| String::from_utf8_lossy(&p.bytes).replace(',', "\n"));
        assert_eq!(back.collect::<Vec<_>>().join("\n") + "\n", many);
    }

    #[test]
    fn a_file_that_ends_early_or_is_too_long_is_refused() {
        let json = br#"{"entries":[{"a":1},{"b":2}]}"#;
        let zstd = zstd::encode_all(&json[..], 1).unwrap();
        let gzip = gzip(json);
        for (bytes, told) in [
            (&json[..20], "cut short, within"),
            (&gzip[..gzip.len() - 9], "compressed data ends early"),
            (&gzip[..gzip.len() - 3], "compressed data ends early"),
            (&zstd[..zstd.len() - 3], "compressed data ends early"),
            (b"", "empty"),
            (b"{\"other\":[]}", "entries"),
        ] {
            let error = text(bytes, Form::Json).unwrap_err();
            assert!(error.contains(told), "{told}: {error}");
        }
        let long = vec![b' '; (1 << 20) + 1];
        let error = text(&long, Form::Json).unwrap_err();
        assert!(
            error.contains("longer than limits.body_max = 1MiB"),
            "{error}"
        );
    }
}
