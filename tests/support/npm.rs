//! Programs of npm in a folder of the repository, with what its lock file names. Never fetches anything twice.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// One of a program's tests at a time; test programs that share a folder would have to agree.
static ALONE: Mutex<()> = Mutex::new(());

/// Fetches what the folder's lock file names, unless it is there.
pub(crate) fn install(folder: &Path) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let lock = fs::read(folder.join("package-lock.json")).unwrap();
    let installed = folder.join("node_modules/.installed");
    if fs::read(&installed).ok().as_ref() != Some(&lock) {
        let quietly = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        run(folder, "npm", &quietly, &[]);
        fs::write(&installed, &lock).unwrap();
    }
}

/// A program of the system or of npm in that folder; the test fails with what it said if it fails.
pub(crate) fn run(folder: &Path, program: &str, arguments: &[&str], environment: &[(&str, &str)]) {
    let done = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(folder)
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
