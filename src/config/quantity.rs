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
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(Bytes(number)),
            Written::Text(text) => Bytes::parse(&text).map_err(de::Error::custom),
        }
    }
}

/// Durations as text: for `#[serde(with = "quantity::duration")]`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de};

    /// Reads a duration such as `"30s"`, `"5m"`, `"7d"`.
    ///
    /// # Errors
    /// When the text is not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map_err(|_| {
            de::Error::custom(format!(
                "'{text}' is not a duration: write \"30s\", \"5m\" or \"7d\""
            ))
        })
    }
}
