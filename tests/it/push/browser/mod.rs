//! The browser client and the console: the package, and what it makes in Node and in Chromium of the real daemon. Never looks into
//! a page from here: that is done by the scripts in clients/js/test/browser.

mod package;
mod pages;
mod road;
mod steward;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::support::npm;

/// Where the client is.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/js")
}

/// A program in the client's folder; the test fails with what it said if it fails.
fn run(program: &str, arguments: &[&str], environment: &[(&str, &str)]) {
    npm::run(&folder(), program, arguments, environment);
}

/// Builds the client once for all tests, with what its lock file names.
fn build() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        npm::install(&folder());
        run("npm", &["run", "build"], &[]);
    });
}
