//! `docs/sagas.md` and the code say the same of definitions; what is refused is shown by `tests/cli`.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::definitions;

const PAGE: &str = include_str!("../../../docs/sagas.md");
const SHIPPED: &str = include_str!("../../../config/sagas/create-order.toml");

#[test]
fn every_key_is_documented_and_no_other() {
    let (problems, asked, _) = definitions::parse(Path::new("/a.toml"), SHIPPED);
    assert!(problems.is_empty(), "{problems:?}");
    let asked: BTreeSet<_> = asked
        .keys
        .iter()
        .map(|key| key.path.rsplit('.').next().unwrap())
        .collect();
    let keys = PAGE.split_once("\n## Keys\n").unwrap().1;
    let keys = keys.split("\n## ").next().unwrap();
    let rows = keys.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<_> = rows.map(|row| row.split('`').next().unwrap()).collect();
    assert_eq!(documented, asked);
}
