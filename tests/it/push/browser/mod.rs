//! The browser client and the console: the package, and what it makes in Node and in Chromium of the real daemon. Never looks into
//! a page from here: that is done by the scripts in clients/js/test/browser.

mod package;
mod pages;
mod road;
mod steward;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where the client is.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/js")
}

/// A program of the system or of npm, in the client's folder; the test fails with what it said if it fails.
fn run(program: &str, arguments: &[&str], environment: &[(&str, &str)]) {
    let done = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(folder())
        .output()
        .unwrap_or_else(|error| {
            panic!("{program}: {error}; tests/services/prerequisites.sh tests installs it")
        });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert!(
        done.status.success(),
        "{program} {arguments:?}: {}\n{out}\n{err}",
        done.status
    );
}

/// Builds the client once for all tests, with what its lock file names.
fn build() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let lock = fs::read(folder().join("package-lock.json")).unwrap();
        let installed = folder().join("node_modules/.installed");
        if fs::read(&installed).ok().as_ref() != Some(&lock) {
            run("npm", &["ci", "--no-audit", "--no-fund"], &[]);
            fs::write(&installed, &lock).unwrap();
        }
        run("npm", &["run", "build"], &[]);
    });
}
