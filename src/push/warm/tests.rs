//! What becomes of a file that is whole, cut, changed, foreign or never finished.

use super::*;
use crate::logic::push::partition::Keep;

const KEEP: Keep = Keep {
    history: Duration::from_secs(1000),
    finished: Duration::from_secs(100),
};

fn head() -> Head {
    Head::new("7f3a", 2, KEEP)
}

/// Two partitions with some sagas each.
fn partitions() -> Known {
    let partition = |number: i32| {
        let mut partition = Partition::new(number, KEEP, RING_BYTES, true);
        for offset in 0..300 + i64::from(number) {
            let value = format!(
                r#"{{"v":1,"saga_type":"t","saga_id":"o-{offset}","state":"S","event_type":"E","event_id":"{}","source":"s","at":"2026-11-21T10:00:00Z"}}"#,
                uuid::Uuid::from_u128(offset.unsigned_abs().into())
            );
            partition.apply(offset, 1_000 + offset, value.as_bytes(), |_| ());
        }
        partition
    };
    vec![partition(0), partition(1)]
}

/// Writes them as a daemon does; `whole` or interrupted.
fn written(
    directory: &Path,
    partitions: &Known,
    head: &Head,
    whole: bool,
) -> Result<(), WarmError> {
    let (blocks, taken) = mpsc::channel(100);
    for partition in partitions {
        let mut after = None;
        loop {
            let first = after.is_none();
            let part = partition.part(after.as_ref());
            after = part.after.clone();
            blocks.try_send(Block::Part { first, part }).unwrap();
            if after.is_none() {
                break;
            }
        }
    }
    if whole {
        blocks.try_send(Block::End).unwrap();
    }
    drop(blocks);
    write(directory, head, taken)
}

fn states(known: &Known) -> Vec<Vec<u8>> {
    known.iter().map(|it| it.part(None).sagas).collect()
}

fn fault(path: &Path) -> String {
    match read(path, &head()) {
        Ok(_) => "none".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_was_written_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let partitions = partitions();
    written(directory.path(), &partitions, &head(), true).unwrap();
    let (known, sagas) = read(&directory.path().join(NAME), &head()).unwrap();
    assert_eq!(sagas, 601);
    assert_eq!(states(&known), states(&partitions));
    let bases = |known: &Known| -> Vec<_> { known.iter().map(Partition::base).collect() };
    assert_eq!(bases(&known), bases(&partitions));
}

#[test]
fn what_is_cut_or_changed_anywhere_is_damaged() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), &partitions(), &head(), true).unwrap();
    let good = std::fs::read(directory.path().join(NAME)).unwrap();
    let path = directory.path().join("other");
    let steps = (0..good.len()).step_by(97).chain([good.len() - 1]);
    for at in steps {
        std::fs::write(&path, &good[..at]).unwrap();
        assert_eq!(fault(&path), "it is damaged", "cut at {at}");
        let mut changed = good.clone();
        changed[at] ^= 0x10;
        std::fs::write(&path, &changed).unwrap();
        assert_ne!(fault(&path), "none", "changed at {at}");
    }
}

#[test]
fn what_is_of_something_else_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(NAME);
    let longer = Keep {
        history: KEEP.history * 2,
        ..KEEP
    };
    let cases = [
        (
            Head {
                format: FORMAT - 1,
                ..head()
            },
            "it is of another release",
        ),
        (Head::new("7f3b", 2, KEEP), "it is of another log"),
        (Head::new("7f3a", 3, KEEP), "it is of another log"),
        (
            Head::new("7f3a", 2, longer),
            "it is of another `history` or `keep_finished`",
        ),
    ];
    for (other, said) in cases {
        written(directory.path(), &partitions(), &other, true).unwrap();
        assert_eq!(fault(&path), said);
    }
}

#[test]
fn a_file_that_was_not_finished_takes_nobodys_place() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), &partitions(), &head(), true).unwrap();
    let interrupted = written(
        directory.path(),
        &partitions(),
        &Head::new("x", 2, KEEP),
        false,
    );
    assert!(matches!(interrupted, Err(WarmError::Ended)));
    assert_eq!(fault(&directory.path().join(NAME)), "none");
}

#[test]
fn a_directory_is_one_daemons() {
    let directory = tempfile::tempdir().unwrap();
    let first = lock(directory.path()).unwrap();
    assert!(matches!(lock(directory.path()), Err(WarmError::Taken)));
    drop(first);
    assert!(lock(directory.path()).is_ok());
    assert!(matches!(
        lock(&directory.path().join("none")),
        Err(WarmError::Io(_))
    ));
}
