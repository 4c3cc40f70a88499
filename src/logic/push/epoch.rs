//! The word by which a client knows that versions still mean the same. Never changes while they do.

use crate::logic::fnv::Fnv;

/// Of a cluster's topic, as long as it is not created anew; then the operator raises `raised`.
///
/// Versions are offsets, and offsets mean nothing in another cluster or topic, or when keys have
/// moved between partitions. The same on every instance and in every release.
pub fn epoch(cluster: &str, topic: &str, partitions: usize, raised: u64) -> String {
    let text = format!("{cluster}\n{topic}\n{partitions}\n{raised}");
    let mut hash = Fnv::new();
    hash.update(text.as_bytes());
    let hash = hash.finish();
    format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_changes_with_each_part_and_with_nothing_else() {
        let base = epoch("c", "outboxd.sagas", 12, 0);
        assert_eq!(base, epoch("c", "outboxd.sagas", 12, 0));
        assert_eq!(base.len(), 8);
        let others = [
            epoch("d", "outboxd.sagas", 12, 0),
            epoch("c", "other.sagas", 12, 0),
            epoch("c", "outboxd.sagas", 13, 0),
            epoch("c", "outboxd.sagas", 12, 1),
        ];
        assert!(!others.contains(&base), "{others:?}");
    }

    #[test]
    fn it_is_the_same_in_every_release() {
        assert_eq!(epoch("c", "outboxd.sagas", 12, 0), "3e3b3b4c");
    }
}
