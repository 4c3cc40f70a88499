//! A certificate authority of a test's own, and what it signs: good ones, expired ones, and those of the wrong name. Nobody
//! else's trust depends on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An authority and what it signed; files in a folder that goes with it.
pub(crate) struct Authority {
    pub(crate) folder: tempfile::TempDir,
}

/// What `openssl ca` wants to know; it alone can sign for a time that is over.
const SETTINGS: &str = "[ca]\ndefault_ca=own\n[own]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\nunique_subject=no\n\
    policy=any\n[any]\ncommonName=supplied\n";

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        openssl(
            folder.path(),
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt",
        );
        let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        file("ca.cnf", SETTINGS);
        file("index", "");
        file("serial", "1000\n");
        Self { folder }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Its own certificate.
    pub(crate) fn certificate(&self) -> String {
        fs::read_to_string(self.root()).unwrap()
    }

    /// A server's certificate and key for these names; in `server.crt` and `server.key` of the folder, too.
    pub(crate) fn sign(&self, names: &str) -> (String, String) {
        self.issue("server", "server", names, "-days 2")
    }

    /// The same, but its time is over.
    pub(crate) fn sign_expired(&self, names: &str) -> (String, String) {
        self.issue("expired", "server", names, OVER)
    }

    /// A client's certificate for this common name; the files of it and its key.
    pub(crate) fn client(&self, name: &str) -> (PathBuf, PathBuf) {
        self.issue(name, name, "DNS:client", "-days 2");
        self.files(name)
    }

    /// The same, but its time is over.
    pub(crate) fn client_expired(&self, name: &str) -> (PathBuf, PathBuf) {
        let file = format!("{name}-expired");
        self.issue(&file, name, "DNS:client", OVER);
        self.files(&file)
    }

    fn files(&self, file: &str) -> (PathBuf, PathBuf) {
        let path = |end: &str| self.folder.path().join(format!("{file}.{end}"));
        (path("crt"), path("key"))
    }

    fn issue(&self, file: &str, common: &str, names: &str, time: &str) -> (String, String) {
        let folder = self.folder.path();
        fs::write(folder.join("names"), format!("subjectAltName={names}")).unwrap();
        openssl(
            folder,
            &format!(
                "req -newkey rsa:2048 -nodes -subj /CN={common} -keyout {file}.key -out {file}.csr"
            ),
        );
        openssl(
            folder,
            &format!(
                "ca -batch -notext -rand_serial -config ca.cnf -cert ca.crt -keyfile ca.key -extfile names {time} -in {file}.csr \
                 -out {file}.crt"
            ),
        );
        let (certificate, key) = self.files(file);
        let read = |path: PathBuf| fs::read_to_string(path).unwrap();
        (read(certificate), read(key))
    }
}

const OVER: &str = "-startdate 20200101000000Z -enddate 20200102000000Z";

fn openssl(folder: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    let output = command
        .args(arguments.split(' '))
        .current_dir(folder)
        .output();
    let output = output.expect("openssl is installed");
    assert!(output.status.success(), "{arguments}: {output:?}");
}
