//! Names of archive objects: `topics/<topic>/partition=<p>/<topic>+<p>+<first, 10 digits>.avro`.
//!
//! A name and what it says go both ways, for every topic that [`check`] lets through.

/// The directory of all archive objects below the prefix.
pub const TOPICS: &str = "topics";

/// Where an object stands within its topic-partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Index of the first change, from 0.
    pub first: u64,
}

/// Whether objects of `topic` can be told apart from others'. Kafka's own rule for topic names.
#[must_use]
pub fn check(topic: &str) -> bool {
    let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !matches!(topic, "" | "." | "..") && topic.bytes().all(sound)
}

/// The name of an object.
#[must_use]
pub fn write(topic: &str, partition: u32, first: u64) -> String {
    format!("{TOPICS}/{topic}/partition={partition}/{topic}+{partition}+{first:010}.avro")
}

/// What a name says; `None`: it is not one of ours.
#[must_use]
pub fn read(name: &str) -> Option<Place> {
    let rest = name.strip_prefix(TOPICS)?.strip_prefix('/')?;
    let (topic, rest) = rest.split_once('/')?;
    let (partition, file) = rest.strip_prefix("partition=")?.split_once('/')?;
    let (_, first) = file.strip_suffix(".avro")?.rsplit_once('+')?;
    let place = Place {
        topic: topic.to_owned(),
        partition: partition.parse().ok()?,
        first: first.parse().ok()?,
    };
    let same = write(&place.topic, place.partition, place.first) == name;
    (same && check(&place.topic)).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back() {
        for (topic, partition, first) in [
            ("a", 0, 0),
            ("x.y-z_1", 12, 9_999_999_999),
            ("a", 1, u64::MAX),
        ] {
            let place = read(&write(topic, partition, first)).unwrap();
            assert_eq!(place.topic, topic);
            assert_eq!((place.partition, place.first), (partition, first));
        }
        let known = "topics/challenger/partition=0/challenger+0+0000000003.avro";
        assert_eq!(write("challenger", 0, 3), known);
    }

    #[test]
    fn what_is_not_ours_has_no_place() {
        for name in [
            "",
            "topics",
            "topics/a/partition=0/a+0+3.avro",
            "topics/a/partition=0/a+1+0000000003.avro",
            "topics/a/partition=0/b+0+0000000003.avro",
            "topics/a/partition=+0/a+0+0000000003.avro",
            "topics/a/partition=0/a+0+0000000003.parquet",
            "topics/a/partition=0/x/a+0+0000000003.avro",
            "other/a/partition=0/a+0+0000000003.avro",
        ] {
            assert_eq!(read(name), None, "{name}");
        }
        assert!(!check("a/b") && !check("..") && !check("a+b") && check("a.b"));
    }
}
