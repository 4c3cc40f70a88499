//! Documents that are made from the code. Compares each with a fresh one, or writes it when `make docs` asks for that.

use std::{env, fs, path::Path};

/// The file, below the project, must hold this text.
pub(crate) fn is_fresh(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if env::var_os("OUTBOXD_WRITE_DOCS").is_some() {
        fs::write(&path, text).expect("the project is writable");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "{file} is out of date: run `make docs`");
}
