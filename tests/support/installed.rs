//! Where the fetched PostgreSQL and Kafka are. Never changes them.

use std::{
    env, fs,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::process::{self, User};

/// The folder of a service (`postgresql-18`, `kafka-4.3.0`), readable for the user that its server runs as.
pub(crate) fn folder(service: &str) -> PathBuf {
    let folder = services().join(service);
    match process::unprivileged() {
        Some(user) if !readable(&folder, user) => readable_copy(&folder),
        _ => folder,
    }
}

/// The folder of all of them; fetches first what is missing, once per process.
fn services() -> &'static Path {
    static SERVICES: OnceLock<PathBuf> = OnceLock::new();
    SERVICES.get_or_init(|| {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let services = env::var_os("OUTBOXD_SERVICES_DIR");
        let services = services.map_or_else(|| project.join(".services"), PathBuf::from);
        let mut fetch = Command::new(project.join("tests/services/fetch.sh"));
        let status = fetch.env("OUTBOXD_SERVICES_DIR", &services).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "`make services` fails, see above"
        );
        // The path that Kafka's class archive was made for.
        services.canonicalize().expect("it exists")
    })
}

fn readable(folder: &Path, user: User) -> bool {
    let mut test = Command::new("test");
    test.arg("-r")
        .arg(folder.join("VERSION"))
        .uid(user.id)
        .gid(user.group)
        .current_dir("/");
    test.status().is_ok_and(|status| status.success())
}

/// A copy outside of a home directory that is closed to others; it stays for the next run.
fn readable_copy(folder: &Path) -> PathBuf {
    let copies = env::temp_dir().join("outboxd-services");
    let _ = fs::DirBuilder::new().mode(0o755).create(&copies);
    let owned = fs::symlink_metadata(&copies).is_ok_and(|it| it.is_dir() && it.uid() == 0);
    assert!(owned, "{} must be a directory of root's", copies.display());

    let service = folder
        .file_name()
        .and_then(|name| name.to_str())
        .expect("it has a name");
    let version = fs::read_to_string(folder.join("VERSION")).expect("it was fetched");
    let copy = copies.join(format!("{service}-{}", version.trim().replace(' ', "-")));
    if !copy.exists() {
        let unfinished = tempfile::tempdir_in(&copies).expect("a directory");
        let target = unfinished.path().join(service);
        let status = Command::new("cp")
            .arg("-a")
            .arg(folder)
            .arg(&target)
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "cannot copy {}",
            folder.display()
        );
        // Another process may have been quicker; its copy is as good.
        let _ = fs::rename(target, &copy);
    }
    copy
}
