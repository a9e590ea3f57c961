//! Numbers by their decimal text: checked byte by byte, and normalised without ever being a float.
//!
//! A number is `sign digits x 10^power`, its digits without zeros at either end; equal values have
//! equal digits and power, however they are written: 1, 1.0, 1e0, 10e-1. Zero is zero: -0, 0.0 and
//! 0e9 equal 0, since no reader of JSON is promised the difference. Digits are as many as there are.
//!
//! The power is the written exponent plus a correction for the digits' place. A written exponent of
//! up to 18 digits is added exactly, in 64 bits. A longer one is kept as text, without leading zeros,
//! beside the correction: different numbers stay different, and only two spellings of one number of
//! that absurd size may count as two: a change too many, never one too few.

/// How much of a number was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    E,
    ESign,
    Exponent,
}

impl Progress {
    /// After the first byte, `-` or a digit.
    pub(super) fn start(byte: u8) -> Progress {
        match byte {
            b'-' => Progress::Minus,
            b'0' => Progress::Zero,
            _ => Progress::Whole,
        }
    }

    /// After one more byte; `None`: the number cannot go on with it.
    pub(super) fn next(self, byte: u8) -> Option<Progress> {
        use Progress::{E, ESign, Exponent, Fraction, Minus, Point, Whole, Zero};
        Some(match (self, byte) {
            (Minus, b'0') => Zero,
            (Minus, b'1'..=b'9') | (Whole, b'0'..=b'9') => Whole,
            (Zero | Whole, b'.') => Point,
            (Point | Fraction, b'0'..=b'9') => Fraction,
            (Zero | Whole | Fraction, b'e' | b'E') => E,
            (E, b'+' | b'-') => ESign,
            (E | ESign | Exponent, b'0'..=b'9') => Exponent,
            _ => return None,
        })
    }

    /// Whether the number may end here.
    pub(super) fn is_whole(self) -> bool {
        matches!(
            self,
            Progress::Zero | Progress::Whole | Progress::Fraction | Progress::Exponent
        )
    }

    /// Whether it has neither a fraction nor an exponent.
    pub(super) fn is_integer(self) -> bool {
        matches!(self, Progress::Zero | Progress::Whole)
    }
}

/// Reads a number at the start of `bytes`: its length, and how it ended; `Err`: where it fails.
pub(super) fn read(bytes: &[u8]) -> Result<(usize, Progress), usize> {
    let Some(first @ (b'-' | b'0'..=b'9')) = bytes.first() else {
        return Err(0);
    };
    let mut progress = Progress::start(*first);
    let mut at = 1;
    while let Some(next) = bytes.get(at).and_then(|byte| progress.next(*byte)) {
        progress = next;
        at += 1;
    }
    if progress.is_whole() {
        Ok((at, progress))
    } else {
        Err(at)
    }
}

/// Appends the normal form of a number that [`read`] accepted to `out`; equal bytes = equal numbers.
pub(super) fn normalise(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let (sign, text) = match text {
        [b'-', text @ ..] => (b'-', text),
        text => (b'+', text),
    };
    let (mantissa, exponent) = split(text, |b| matches!(b, b'e' | b'E'));
    let (whole, fraction) = split(mantissa, |b| b == b'.');
    out.push(sign);
    let digits = out.len();
    out.extend_from_slice(whole);
    out.extend_from_slice(fraction);
    let mut place = -(fraction.len() as i64);
    let trailing = out[digits..].iter().rev().take_while(|b| **b == b'0');
    let trailing = trailing.count();
    out.truncate(out.len() - trailing);
    place += trailing as i64;
    let leading = out[digits..].iter().take_while(|b| **b == b'0').count();
    out.drain(digits..digits + leading);
    if out.len() == digits {
        out.truncate(start);
        out.push(b'0');
        return;
    }
    power(exponent, place, out);
}

/// Appends the power of ten: the exponent as written, corrected by `place`.
fn power(exponent: &[u8], place: i64, out: &mut Vec<u8>) {
    const EXACT_DIGITS_MAX: usize = 18;
    let (sign, digits) = match exponent {
        [b'-', digits @ ..] => (b'-', digits),
        [b'+', digits @ ..] | digits => (b'+', digits),
    };
    let zeros = digits.iter().take_while(|b| **b == b'0').count();
    let digits = &digits[zeros..];
    if digits.len() > EXACT_DIGITS_MAX {
        out.push(b'E');
        out.push(sign);
        out.extend_from_slice(digits);
        out.push(b'p');
        out.extend_from_slice(&place.to_le_bytes());
        return;
    }
    let written = digits.iter().fold(0, |n, b| n * 10 + i64::from(b - b'0'));
    let written = if sign == b'-' { -written } else { written };
    // 18 digits and a text's length are far from the ends of 64 bits.
    out.push(b'e');
    out.extend_from_slice(&(written + place).to_le_bytes());
}

fn split(text: &[u8], at: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    match text.iter().position(|b| at(*b)) {
        Some(found) => (&text[..found], &text[found + 1..]),
        None => (text, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> Vec<u8> {
        assert_eq!(read(text.as_bytes()).map(|r| r.0), Ok(text.len()), "{text}");
        let mut out = Vec::new();
        normalise(text.as_bytes(), &mut out);
        out
    }

    #[test]
    fn what_is_no_number_fails_where_it_stops_being_one() {
        for (text, at) in [
            ("", 0),
            ("-", 1),
            ("1.", 2),
            ("1e", 2),
            ("1e+", 3),
            ("-a", 1),
            (".5", 0),
        ] {
            assert_eq!(read(text.as_bytes()), Err(at), "{text}");
        }
        assert_eq!(read(b"01"), Ok((1, Progress::Zero)), "the 1 is left over");
        assert_eq!(read(b"+1"), Err(0));
    }

    #[test]
    fn r10_equal_numbers_have_one_normal_form_and_others_have_not() {
        let long = format!("1{}", "0".repeat(9_999));
        let groups: &[&[&str]] = &[
            &[
                "1",
                "1.0",
                "1e0",
                "10e-1",
                "0.1E+1",
                "1e-0",
                "100e-2",
                "0.00001e0005",
            ],
            &["0", "-0", "0.0", "-0.000e99999999999999999999", "0e0"],
            &["-1", "-1.00"],
            &[&long, "1e9999"],
            &["9007199254740992"],
            &["9007199254740993"],
            &["1e400"],
            &["1e401", "10e400", "0.1e402"],
            &["1e999999999999999999", "10e999999999999999998"],
            &["1e9223372036854775808"],
            &["1e-9223372036854775808"],
            &["1e9223372036854775809", "1.0e+09223372036854775809"],
        ];
        for (i, group) in groups.iter().enumerate() {
            for text in *group {
                let form = normal(text);
                for (j, other) in groups.iter().enumerate() {
                    for other in *other {
                        assert_eq!(form == normal(other), i == j, "{text} and {other}");
                    }
                }
            }
        }
        // The documented limit: the same number, an exponent of 18 and of 19 digits.
        assert_ne!(
            normal("1e999999999999999999"),
            normal("0.1e1000000000000000000")
        );
    }
}
