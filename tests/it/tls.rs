//! TLS to PostgreSQL with certificates of our own making: every `sslmode`, and what is said when it fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use outboxd::config::database;
use outboxd::outbox::connect;
use rustls::DigitallySignedStruct;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::site::{Ended, outboxd_with};
use crate::support::authority::Authority;
use crate::support::block_on;
use crate::support::postgres::Postgres;

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

#[test]
fn a_certificate_whose_time_is_over_is_named() {
    let ours = Authority::new();
    let (certificate, key) = ours.sign_expired("IP:127.0.0.1");
    let builder = Postgres::builder(16).password(PASSWORD);
    let postgres = builder.tls(&certificate, &key).start();
    let root = format!("sslrootcert={}", ours.root().display());
    for mode in ["verify-full", "verify-ca"] {
        let ended = install(&postgres, "127.0.0.1", &format!("sslmode={mode}&{root}"));
        assert_eq!(ended.code, 69, "{ended:?}");
        assert!(ended.err.contains("expired"), "{ended:?}");
    }
    assert_eq!(install(&postgres, "127.0.0.1", "sslmode=require").code, 0);
}

#[test]
fn a_client_certificate_opens_what_it_names() {
    let (ours, other) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.sign("IP:127.0.0.1");
    let builder = Postgres::builder(16).tls(&certificate, &key);
    let postgres = builder.clients(&ours.certificate()).start();
    let root = ours.root();
    let full = format!("sslmode=verify-full&sslrootcert={}", root.display());
    let shown = |(certificate, key): (PathBuf, PathBuf)| {
        let (certificate, key) = (certificate.display(), key.display());
        format!("{full}&sslcert={certificate}&sslkey={key}")
    };
    let good = shown(ours.client("postgres"));
    assert_eq!(install(&postgres, "127.0.0.1", &good).code, 0);
    for (parameters, said) in [
        (full.clone(), "requires a valid client certificate"),
        (
            shown(ours.client("somebody")),
            "certificate authentication failed for user",
        ),
        (shown(ours.client_expired("postgres")), "its time is over"),
        (
            shown(other.client("postgres")),
            "not signed by an authority of the server",
        ),
    ] {
        let ended = install(&postgres, "127.0.0.1", &parameters);
        assert!([69, 77].contains(&ended.code), "{ended:?}");
        assert!(ended.err.contains(said), "{said}: {ended:?}");
    }
    let (certificate, _) = ours.client("postgres");
    let wrong = shown((certificate.clone(), certificate));
    let ended = install(&postgres, "127.0.0.1", &wrong);
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(ended.err.contains("holds no private key"), "{ended:?}");
}

/// Somebody between us and the server, whose certificate `sslmode=require` does not look at, cannot use our password.
#[test]
fn a_password_is_bound_to_the_channel_that_it_is_given_in() {
    let (ours, thief) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.sign("IP:127.0.0.1");
    let builder = Postgres::builder(16).password(PASSWORD);
    let postgres = builder.tls(&certificate, &key).start();
    let between = Between::start(postgres.port(), &thief);
    for (binding, code) in [("require", 77), ("prefer", 77), ("disable", 0)] {
        let parameters = format!("sslmode=require&channel_binding={binding}");
        assert_eq!(install(&postgres, "127.0.0.1", &parameters).code, 0);
        let url = format!(
            "postgres://postgres@127.0.0.1:{}/postgres?{parameters}",
            between.port
        );
        let ended = outboxd_with(
            &["sql", "install", "--url", &url],
            &[("PGPASSWORD", PASSWORD)],
        );
        assert_eq!(ended.code, code, "{binding}: {ended:?}");
        let said = "SCRAM channel binding check failed";
        assert!(
            code == 0 || ended.err.contains(said),
            "{binding}: {ended:?}"
        );
    }
}

/// Ends our TLS with a certificate of its own, and speaks TLS to the server in our name.
struct Between {
    port: u16,
    _runtime: tokio::runtime::Runtime,
}

impl Between {
    fn start(server: u16, authority: &Authority) -> Self {
        let (certificate, key) = authority.sign("IP:127.0.0.1");
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = || Arc::new(aws_lc_rs::default_provider());
        let ours = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(ours));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Either side may have enough at any time.
                let _ = pass_on(client, server, &acceptor).await;
            }
        });
        Self {
            port,
            _runtime: runtime,
        }
    }
}

async fn pass_on(
    mut client: TcpStream,
    server: u16,
    acceptor: &TlsAcceptor,
) -> std::io::Result<()> {
    let mut request = [0; 8];
    client.read_exact(&mut request).await?;
    client.write_all(b"S").await?;
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
    server.write_all(&request).await?;
    let mut answer = [0];
    server.read_exact(&mut answer).await?;
    let provider = aws_lc_rs::default_provider();
    let trusting = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(trusting));
    let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
    let mut server = connector.connect(name, server).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// A thief does not care whose certificate the server has.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let provider = aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
