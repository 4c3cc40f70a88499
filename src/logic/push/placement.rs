//! Which partition a key is in, as Kafka's default partitioner says. Never asks a broker.

const SEED: u32 = 0x9747_b28c;
const MIX: u32 = 0x5bd1_e995;

/// The partition of `key`, of `partitions` (at least one).
pub fn partition_of(key: &str, partitions: i32) -> i32 {
    let hash = murmur2(key.as_bytes()) & 0x7fff_ffff;
    i32::try_from(hash).map_or(0, |hash| hash.checked_rem(partitions).unwrap_or(0))
}

/// MurmurHash2 with Kafka's seed, 32 bit, little endian.
fn murmur2(data: &[u8]) -> u32 {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, rest) = data.as_chunks::<4>();
    let mut hash = words.iter().fold(SEED ^ length, |hash, word| {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MIX);
        mixed ^= mixed >> 24;
        hash.wrapping_mul(MIX) ^ mixed.wrapping_mul(MIX)
    });
    if !rest.is_empty() {
        let tail = rest.iter().rev();
        hash ^= tail.fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(MIX);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MIX);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_kafka() {
        // From the tests of Kafka's own implementation.
        let known = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ];
        for (text, hash) in known {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
    }

    #[test]
    fn every_key_is_in_a_partition_that_exists() {
        for key in ["", "o-42", "größe", "\u{0}"] {
            for partitions in [1, 2, 12, i32::MAX] {
                assert!((0..partitions).contains(&partition_of(key, partitions)));
            }
        }
    }
}
