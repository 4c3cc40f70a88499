//! The package as others get it: small, with types that resolve everywhere, and the same that the console has in it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{build, folder, run};

/// What the client may have, minified and gzipped.
const SIZE: usize = 4_000;

#[test]
fn the_client_follows_the_rule() {
    build();
    run("npm", &["test"], &[]);
}

#[test]
fn the_client_is_small() {
    build();
    let mut gzip = Command::new("gzip")
        .args(["-9", "--no-name", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let script = fs::read(folder().join("dist/outboxd.min.js")).unwrap();
    gzip.stdin.take().unwrap().write_all(&script).unwrap();
    let size = gzip.wait_with_output().unwrap().stdout.len();
    assert!((1..=SIZE).contains(&size), "{size} bytes of {SIZE}");
}

#[test]
fn the_package_is_in_order() {
    build();
    run("npm", &["run", "lint"], &[]);
}

#[test]
fn the_console_has_the_client_as_it_is() {
    build();
    let built = fs::read_to_string(folder().join("dist/outboxd.min.js")).unwrap();
    let embedded = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/push/console/outboxd.min.js");
    assert!(
        fs::read_to_string(embedded).unwrap() == built,
        "copy clients/js/dist/outboxd.min.js to src/push/console/"
    );
}
