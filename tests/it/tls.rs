//! TLS to PostgreSQL with certificates of our own making: every `sslmode`, and what is said when it fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use outboxd::config::database;
use outboxd::outbox::connect;

use crate::site::{Ended, outboxd_with};
use crate::support::block_on;
use crate::support::postgres::Postgres;

/// An authority and what it signed; files in a folder that goes with it.
pub(crate) struct Authority {
    pub(crate) folder: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        openssl(
            folder.path(),
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt",
        );
        Self { folder }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// A server's certificate and key for these names; in `server.crt` and `server.key` of the folder, too.
    pub(crate) fn sign(&self, names: &str) -> (String, String) {
        let folder = self.folder.path();
        fs::write(folder.join("names"), format!("subjectAltName={names}")).unwrap();
        openssl(
            folder,
            "req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr",
        );
        openssl(
            folder,
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt",
        );
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        (read("server.crt"), read("server.key"))
    }
}

fn openssl(folder: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    let output = command
        .args(arguments.split(' '))
        .current_dir(folder)
        .output();
    let output = output.expect("openssl is installed");
    assert!(output.status.success(), "{arguments}: {output:?}");
}

const PASSWORD: &str = "it's a secret";

fn install(postgres: &Postgres, host: &str, parameters: &str) -> Ended {
    let port = postgres.port();
    let url = format!("postgres://postgres@{host}:{port}/postgres?{parameters}");
    let ended = outboxd_with(
        &["sql", "install", "--url", &url],
        &[("PGPASSWORD", PASSWORD)],
    );
    assert!(!ended.err.contains(PASSWORD), "{ended:?}");
    ended
}

#[test]
fn a_server_is_trusted_as_far_as_sslmode_says() {
    let (ours, other) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.sign("IP:127.0.0.1");
    let builder = Postgres::builder(16).password(PASSWORD);
    let postgres = builder.tls(&certificate, &key).start();
    let root = format!("sslrootcert={}", ours.root().display());
    let wrong = format!("sslrootcert={}", other.root().display());
    // The server's own certificate, as an authority of its own.
    let pinned = ours.folder.path().join("server.crt");
    let pinned = format!("sslrootcert={}", pinned.display());
    let by = |parts: &[&str]| parts.join("&");

    for (host, parameters) in [
        ("127.0.0.1", by(&["sslmode=disable"])),
        ("127.0.0.1", by(&["sslmode=prefer"])),
        ("127.0.0.1", by(&["sslmode=require"])),
        (
            "127.0.0.1",
            by(&["sslmode=require", "channel_binding=require"]),
        ),
        ("127.0.0.1", by(&["sslmode=verify-ca", &root])),
        ("127.0.0.1", by(&["sslmode=verify-full", &root])),
        ("127.0.0.1", by(&["sslmode=verify-full", &pinned])),
        ("localhost", by(&["sslmode=verify-ca", &root])),
    ] {
        let ended = install(&postgres, host, &parameters);
        assert_eq!(ended.code, 0, "{host} {parameters}: {ended:?}");
    }
    for (host, parameters, code, said) in [
        (
            "127.0.0.1",
            by(&["sslmode=verify-full", &wrong]),
            69,
            "not signed by any of",
        ),
        (
            "127.0.0.1",
            by(&["sslmode=verify-ca", &wrong]),
            69,
            "not signed by any of",
        ),
        // As libpq: a root that is named is asked.
        (
            "127.0.0.1",
            by(&["sslmode=require", &wrong]),
            69,
            "not signed by any of",
        ),
        ("127.0.0.1", by(&["sslmode=verify-full"]), 69, "authorities"),
        (
            "localhost",
            by(&["sslmode=verify-full", &root]),
            69,
            "sslmode=verify-ca",
        ),
        (
            "localhost",
            by(&["sslmode=verify-full", &pinned]),
            69,
            "sslmode=verify-ca",
        ),
        (
            "127.0.0.1",
            "sslmode=verify-full&sslrootcert=/no/such.crt".into(),
            78,
            "/no/such.crt",
        ),
        (
            "127.0.0.1",
            by(&["sslmode=disable", "channel_binding=require"]),
            69,
            "channel binding",
        ),
    ] {
        let ended = install(&postgres, host, &parameters);
        assert_eq!(ended.code, code, "{host} {parameters}: {ended:?}");
        assert!(ended.err.contains(said), "{host} {parameters}: {ended:?}");
    }

    let is_encrypted = |mode: &str| {
        let url = format!("{}?sslmode={mode}", postgres.url("postgres", "postgres"));
        let mut database = database::parse(&url, Path::new("")).unwrap();
        database.connect.password(PASSWORD);
        block_on(async {
            let link = connect(&database, "test").await.unwrap();
            let query = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
            let encrypted: bool = link.client.query_one(query, &[]).await.unwrap().get(0);
            link.close().await;
            encrypted
        })
    };
    assert_eq!(
        ["disable", "prefer", "require"].map(is_encrypted),
        [false, true, true]
    );
}

#[test]
fn a_server_without_tls_is_named_and_a_password_is_asked_for() {
    let postgres = Postgres::builder(16).password(PASSWORD).start();
    assert_eq!(install(&postgres, "127.0.0.1", "sslmode=prefer").code, 0);
    let ended = install(&postgres, "127.0.0.1", "sslmode=require");
    assert_eq!(ended.code, 69, "{ended:?}");
    assert!(ended.err.contains("ssl = on"), "{ended:?}");

    let url = postgres.url("postgres", "postgres");
    let install = ["sql", "install", "--url", &url];
    let ended = outboxd_with(&install, &[]);
    assert_eq!(ended.code, 77, "{ended:?}");
    assert!(ended.err.contains("asks for a password"), "{ended:?}");
    let ended = outboxd_with(&install, &[("PGPASSWORD", "wrong")]);
    assert_eq!(ended.code, 77, "{ended:?}");
    assert!(ended.err.contains("does not let us in"), "{ended:?}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    Command::new("chmod")
        .arg("600")
        .arg(&file)
        .status()
        .unwrap();
    let file = file.display().to_string();
    let ended = outboxd_with(&[&install[..], &["--password-file", &file]].concat(), &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = outboxd_with(
        &[&install[..], &["--password-file", "/no/file"]].concat(),
        &[],
    );
    assert_eq!(ended.code, 78, "{ended:?}");
    let within = format!("postgres://postgres:secret@127.0.0.1:{}/x", postgres.port());
    let ended = outboxd_with(&["sql", "install", "--url", &within], &[]);
    assert_eq!(ended.code, 64, "{ended:?}");
    assert!(!ended.err.contains("secret"), "{ended:?}");
}
