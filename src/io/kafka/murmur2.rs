//! Java's murmur2 and its default partitioner, so that any Java client puts a key where we put it.

/// The hash that Java clients use for keys, with their seed.
#[must_use]
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).expect("keys are shorter than 4 GiB");
    let mut hash = SEED ^ length;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    hash.cast_signed()
}

/// The partition of `key` in a topic of `count` partitions (R22).
#[must_use]
pub fn partition_of(key: &[u8], count: u32) -> u32 {
    assert!(count > 0, "a topic has at least one partition");
    (murmur2(key).cast_unsigned() & 0x7fff_ffff) % count
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Vector {
        key: String,
        murmur2: i32,
        partition: BTreeMap<String, u32>,
    }

    #[test]
    fn r22_every_key_goes_where_the_java_client_puts_it() {
        let vectors = include_str!("../../../tests/vectors/murmur2.json");
        let vectors: Vec<Vector> = serde_json::from_str(vectors).expect("sound vectors");
        assert!(vectors.len() > 40);
        for vector in vectors {
            let key = vector.key.as_bytes();
            assert_eq!(murmur2(key), vector.murmur2, "murmur2 of {:?}", vector.key);
            for (count, partition) in vector.partition {
                let count = count.parse().expect("a count");
                assert_eq!(partition_of(key, count), partition, "{:?}", vector.key);
            }
        }
    }
}
