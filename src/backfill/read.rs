//! From a stored file to pieces: decompressed and cut as an answer would be.
//!
//! What a file is made of is seen from its first bytes, not from its name. A file that ends early, in
//! whatever layer, is refused whole (G4).

use std::io::{self, BufReader, Cursor, Read};

use bytes::Bytes;

use crate::io::json::cutter::{Cutter, PIECE_BYTES};
use crate::io::json::pointer::Pointer;

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
    /// Whole entries, in order.
    pub pieces: Vec<Bytes>,
    /// Bytes, after decompression.
    pub bytes: u64,
}

/// Reads `file` to its end; `grow` is told how many bytes there are so far, and may wait.
///
/// # Errors
/// Why the file cannot be used.
pub fn read(
    file: impl Read,
    form: Form,
    reading: &Reading,
    mut grow: impl FnMut(u64),
) -> Result<Cut, String> {
    let mut file = opened(file).map_err(failed)?;
    let mut into = match form {
        Form::Json => Into::Answer(Box::new(Cutter::new(&reading.records, PIECE_BYTES))),
        Form::Lines => Into::Lines(Lines::default()),
        Form::Avro => {
            let mut bytes = 0;
            let pieces = avro::entries(file, reading.body_max, |so_far| {
                bytes = so_far;
                grow(so_far);
            })?;
            return Ok(Cut { pieces, bytes });
        }
    };
    let mut cut = Cut {
        pieces: Vec::new(),
        bytes: 0,
    };
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        cut.bytes += length as u64;
        if cut.bytes > reading.body_max {
            return Err(too_long(reading.body_max));
        }
        grow(cut.bytes);
        into.push(&chunk[..length], &mut cut.pieces)?;
    }
    into.finish(&mut cut.pieces)?;
    Ok(cut)
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

enum Into {
    Answer(Box<Cutter>),
    Lines(Lines),
}

impl Into {
    fn push(&mut self, chunk: &[u8], pieces: &mut Vec<Bytes>) -> Result<(), String> {
        match self {
            Into::Answer(cutter) => cutter.push(chunk, pieces).map_err(|what| what.to_string()),
            Into::Lines(lines) => {
                lines.push(chunk, pieces);
                Ok(())
            }
        }
    }

    fn finish(self, pieces: &mut Vec<Bytes>) -> Result<(), String> {
        match self {
            Into::Answer(cutter) => cutter.finish(pieces).map_err(|what| what.to_string()),
            Into::Lines(lines) => {
                lines.finish(pieces);
                Ok(())
            }
        }
    }
}

/// Lines on their way into pieces: what separates entries there is a comma. Whether a line is an entry
/// is checked where pieces are.
#[derive(Default)]
struct Lines {
    piece: Vec<u8>,
    /// Where the current line starts in it, with the comma before it.
    line: usize,
    /// Where its text starts.
    text: usize,
}

impl Lines {
    fn push(&mut self, chunk: &[u8], pieces: &mut Vec<Bytes>) {
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', chunk) {
            self.piece.extend_from_slice(&chunk[from..end]);
            self.end_line(pieces);
            from = end + 1;
        }
        self.piece.extend_from_slice(&chunk[from..]);
    }

    fn end_line(&mut self, pieces: &mut Vec<Bytes>) {
        if self.piece[self.text..].trim_ascii().is_empty() {
            self.piece.truncate(self.line);
        }
        if self.piece.len() >= PIECE_BYTES {
            self.end_piece(pieces);
        }
        self.line = self.piece.len();
        if self.line > 0 {
            self.piece.push(b',');
        }
        self.text = self.piece.len();
    }

    fn finish(mut self, pieces: &mut Vec<Bytes>) {
        self.end_line(pieces);
        self.piece.truncate(self.line);
        if !self.piece.is_empty() {
            self.end_piece(pieces);
        }
    }

    fn end_piece(&mut self, pieces: &mut Vec<Bytes>) {
        pieces.push(std::mem::take(&mut self.piece).into());
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

    fn text(bytes: &[u8], form: Form) -> Result<String, String> {
        let cut = read(bytes, form, &reading(), |_| ())?;
        let pieces: Vec<_> = cut
            .pieces
            .iter()
            .map(|p| String::from_utf8_lossy(p))
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
            ("{\"a\"", "{\"a\""),
            ("{\"a\":1},\n", "{\"a\":1},"),
        ] {
            assert_eq!(
                text(lines.as_bytes(), Form::Lines).unwrap(),
                wanted,
                "{lines:?}"
            );
        }
        let many = "{\"key\":\"0123456789\"}\n".repeat(40_000);
        let cut = read(many.as_bytes(), Form::Lines, &reading(), |_| ()).unwrap();
        assert!(cut.pieces.len() > 1);
        let back = cut
            .pieces
            .iter()
            .map(|p| String::from_utf8_lossy(p).replace(',', "\n"));
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
