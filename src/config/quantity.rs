//! Durations such as "30s" and sizes such as "64MiB".

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// A size in bytes, written as `1024`, `"64KiB"`, `"64MiB"`, `"10GiB"` (or kB, MB, GB: powers of 1000).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Mebibytes.
    #[must_use]
    pub const fn mib(n: u64) -> Bytes {
        Bytes(n << 20)
    }

    /// Reads `text`.
    ///
    /// # Errors
    /// When it is not a number with a known unit, or does not fit.
    pub fn parse(text: &str) -> Result<Bytes, String> {
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let wrong = || format!("'{text}' is not a size: write a number and B, KiB, MiB or GiB");
        let number: u64 = text[..end].parse().map_err(|_| wrong())?;
        let unit: u64 = match text[end..].trim() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => return Err(wrong()),
        };
        number.checked_mul(unit).map(Bytes).ok_or_else(wrong)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units
            .iter()
            .find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size))
        {
            Some((name, size)) => write!(f, "{}{name}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64MiB\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Bytes, E> {
                let wrong = |_| E::invalid_value(de::Unexpected::Signed(number), &self);
                u64::try_from(number).map(Bytes).map_err(wrong)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                Bytes::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Durations as text: for `#[serde(with = "quantity::duration")]`.
pub mod duration {
    use std::fmt;
    use std::time::Duration;

    use serde::{Deserializer, de};

    /// Reads a duration such as `"30s"`, `"5m"`, `"7d"`.
    ///
    /// # Errors
    /// When the text is not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"30s\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                humantime::parse_duration(text).map_err(|_| {
                    E::custom(format!(
                        "'{text}' is not a duration: write \"30s\", \"5m\" or \"7d\""
                    ))
                })
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_as_they_are_shown_and_overflow_is_an_error() {
        for text in ["1B", "3KiB", "64MiB", "10GiB", "1500B"] {
            assert_eq!(Bytes::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Bytes::parse("2 kB"), Ok(Bytes(2000)));
        for text in ["", "MiB", "-1B", "1.5MiB", "1 XB", "99999999999GiB"] {
            let told = Bytes::parse(text).unwrap_err();
            assert!(
                told.starts_with(&format!("'{text}' is not a size")),
                "{told}"
            );
        }
    }
}
