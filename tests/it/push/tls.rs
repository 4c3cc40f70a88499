//! Clients under TLS: sockets, HTTP/2, certificates that are renewed, and those who do not speak it. Never trusts more than our own authority.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream as Plain};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::log::{SagaLog, TOLD, Told};
use super::site::Site;
use crate::site::outboxd;
use crate::support::authority::Authority;
use crate::support::process::Port;
use crate::support::socket::Socket;
use crate::support::{block_on, kafka, unique, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn under(authority: &Authority) -> String {
    authority.sign("IP:127.0.0.1");
    let file = |name: &str| authority.folder.path().join(name).display().to_string();
    format!(
        "[push.tls]\ncertificate = \"{}\"\nkey = {{ file = \"{}\" }}\n",
        file("server.crt"),
        file("server.key")
    )
}

fn config(authority: &Authority, protocols: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let pem = fs::read(authority.root()).unwrap();
    roots
        .add(CertificateDer::from_pem_slice(&pem).unwrap())
        .unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
    config
}

async fn connect(address: SocketAddr, authority: &Authority, protocols: &[&str]) -> Tls {
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connector = TlsConnector::from(Arc::new(config(authority, protocols)));
    connector.connect(name, tcp).await.unwrap()
}

/// Whom many clients trust.
pub(super) struct Trust(TlsConnector);

impl Trust {
    pub(super) fn of(authority: &Authority) -> Arc<Self> {
        let config = config(authority, &["http/1.1"]);
        Arc::new(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Speaks TLS; none if that is cut off.
    pub(super) async fn connect(&self, tcp: TcpStream) -> Option<Tls> {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        self.0.connect(name, tcp).await.ok()
    }
}

pub(super) type Tls = TlsStream<TcpStream>;

/// The certificate that a new client is shown.
pub(super) async fn shown(address: SocketAddr, authority: &Authority) -> CertificateDer<'static> {
    let stream = connect(address, authority, &[]).await;
    let chain = stream.get_ref().1.peer_certificates();
    chain.unwrap()[0].clone().into_owned()
}

#[test]
fn a_socket_lives_on_while_the_certificate_is_renewed() {
    let authority = Authority::new();
    let prefix = unique("wss");
    // Nobody answers pings while this test waits for something else.
    let lines = "heartbeat = \"5m\"\n".to_owned() + &under(&authority);
    let site = Site::start(kafka(), &prefix, &[], &lines);
    site.daemon.wait_ready();
    let address = site.address();
    let log = SagaLog::plain(kafka(), &prefix);
    let token = site.token("c-7", &[]);
    block_on(async {
        let stream = connect(address, &authority, &["http/1.1"]).await;
        assert_eq!(
            stream.get_ref().1.alpn_protocol(),
            Some(b"http/1.1".as_ref())
        );
        let mut socket = Socket::over(stream, address, &[]).await.unwrap();
        socket.show(&token).await.unwrap();
        let subscribe =
            json!({"type": "subscribe", "id": 2, "saga_type": "create-order", "saga_id": "o-42"});
        socket.send(&subscribe).await.unwrap();
        assert_eq!(socket.news().await.unwrap()["mode"], "waiting");
        log.tell(&TOLD);
        assert_eq!(socket.news().await.unwrap()["type"], "snapshot");

        let before = shown(address, &authority).await;
        let file = authority.folder.path().join("server.crt");
        fs::write(&file, Authority::new().sign("IP:127.0.0.1").0).unwrap();
        wait_until("the wrong one to be told", PATIENCE, || {
            site.daemon.log().contains("does not belong to")
        });
        assert_eq!(shown(address, &authority).await, before);
        authority.sign("IP:127.0.0.1");
        wait_until("the new one to be read", PATIENCE, || {
            site.daemon.log().contains("the certificate was renewed")
        });
        assert_ne!(shown(address, &authority).await, before);

        log.tell(&Told {
            event: 2,
            state: Some("APPROVED"),
            ..TOLD
        });
        assert_eq!(socket.news().await.unwrap()["state"], "APPROVED");
    });
    assert_eq!(site.daemon.terminate(), 0);
}

/// Asks over HTTP/2.
async fn ask(client: &mut SendRequest<String>, path: &str, token: &str) -> Response<Incoming> {
    let request = Request::get(format!("https://127.0.0.1{path}"))
        .header("authorization", format!("Bearer {token}"))
        .header("origin", "https://127.0.0.1")
        .body(String::new())
        .unwrap();
    client.send_request(request).await.unwrap()
}

/// What comes of a body until it says this, or ends.
async fn until(body: &mut Incoming, said: &str) -> String {
    let mut text = String::new();
    while !text.contains(said) {
        let frame =
            std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context));
        let Some(frame) = tokio::time::timeout(PATIENCE, frame).await.unwrap() else {
            break;
        };
        if let Ok(data) = frame.unwrap().into_data() {
            text += str::from_utf8(&data).unwrap();
        }
    }
    text
}

#[test]
fn requests_share_a_connection_of_http_2_and_limits_count_each() {
    let authority = Authority::new();
    let prefix = unique("h2");
    let limits = "drain = \"1s\"\n".to_owned()
        + &under(&authority)
        + "[push.limits]\nconnections_per_user = 3";
    let site = Site::start(kafka(), &prefix, &[], &limits);
    site.daemon.wait_ready();
    SagaLog::plain(kafka(), &prefix).tell(&TOLD);
    let token = site.token("c-7", &[]);
    let address = site.address();
    block_on(async {
        let stream = connect(address, &authority, &["h2", "http/1.1"]).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_ref()));
        let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        let (site, token) = (&site, &token);
        let asking = async move {
            let path = "/v1/sagas/create-order/o-42";
            loop {
                let answer = ask(&mut client, path, token).await;
                let status = answer.status();
                let body = until(&mut answer.into_body(), "\u{0}").await;
                if status == 200 {
                    let saga: Value = serde_json::from_str(&body).unwrap();
                    assert_eq!(saga["saga_id"], "o-42");
                    break;
                }
                assert_eq!(status, 404, "{body}");
            }
            assert_eq!(ask(&mut client, "/v1/ws", token).await.status(), 400);
            // Three streams are as many as the user may have, and a fourth one is too many.
            let query = "/v1/stream?saga_type=create-order&saga_id=o-42";
            let mut streams = Vec::new();
            for _ in 0..3 {
                let answer = ask(&mut client, query, token).await;
                assert_eq!(answer.status(), 200);
                let mut body = answer.into_body();
                until(&mut body, "event: snapshot").await;
                streams.push(body);
            }
            assert_eq!(ask(&mut client, query, token).await.status(), 429);
            streams.pop();
            let open = || {
                let metrics = site.daemon.metrics();
                metrics.value("outboxd_push_connections", &[("transport", "sse")])
            };
            while open() != Some(2.0) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(ask(&mut client, query, token).await.status(), 200);
            site.daemon.signal("TERM");
            for mut body in streams {
                let rest = until(&mut body, "\u{0}").await;
                assert!(rest.contains("\"code\":4001"), "{rest}");
            }
        };
        let (ended, ()) = tokio::join!(connection, asking);
        ended.unwrap();
    });
    assert_eq!(site.daemon.wait(), 0);
}

#[test]
fn a_stream_of_http_2_that_takes_nothing_is_let_go_and_the_one_beside_it_goes_on() {
    let authority = Authority::new();
    let prefix = unique("h2_stuck");
    let site = Site::start(kafka(), &prefix, &[], &under(&authority));
    site.daemon.wait_ready();
    let log = SagaLog::plain(kafka(), &prefix);
    let token = site.token("c-7", &[]);
    let address = site.address();
    block_on(async {
        let stream = connect(address, &authority, &["h2"]).await;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        // A stream that nobody reads holds no more than this.
        builder.initial_stream_window_size(2 << 10);
        let (mut client, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        let (site, token, log) = (&site, &token, &log);
        let asking = async move {
            let query = "/v1/stream?saga_type=create-order&saga_id=o-42";
            let mut stuck = ask(&mut client, query, token).await.into_body();
            let mut other = ask(&mut client, query, token).await.into_body();
            until(&mut other, "event: subscribed").await;
            let closed = |code| {
                let metrics = site.daemon.metrics();
                let closed = metrics.value("outboxd_push_closed_total", &[("code", code)]);
                closed.unwrap_or_default()
            };
            for event in 1.. {
                let state = format!("S{event}.");
                log.tell(&Told {
                    event,
                    state: Some(&state),
                    ..TOLD
                });
                until(&mut other, &state).await;
                if closed("4008") > 0.0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            let rest = until(&mut stuck, "\u{0}").await;
            assert!(rest.contains("\"code\":4008"), "{rest}");
            assert_eq!(closed("4008"), 1.0);
            let last = Told {
                event: 1_000_000,
                state: Some("LAST"),
                ..TOLD
            };
            log.tell(&last);
            until(&mut other, "LAST").await;
            drop(other);
            let open = || {
                let metrics = site.daemon.metrics();
                metrics.value("outboxd_push_connections", &[("transport", "sse")])
            };
            while open() != Some(0.0) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let (ended, ()) = tokio::join!(connection, asking);
        ended.unwrap();
    });
}

/// What a server sends until it closes.
fn rest(mut stream: Plain) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut rest = Vec::new();
    // A reset is an end as well.
    let ended = stream.read_to_end(&mut rest);
    assert!(
        !ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
        "the connection should have ended"
    );
    rest
}

#[test]
fn who_does_not_speak_tls_or_not_in_time_is_cut() {
    let authority = Authority::new();
    let lines = under(&authority) + "[push.limits]\nhandshake = \"1s\"\n";
    let site = Site::start(kafka(), &unique("cut"), &[], &lines);
    site.daemon.wait_ready();
    let address = site.address();
    let mut plain = Plain::connect(address).unwrap();
    write!(plain, "GET /v1/ws HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(!rest(plain).starts_with(b"HTTP"));
    // The beginning of a handshake, and no more.
    let mut slow = Plain::connect(address).unwrap();
    slow.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    assert_eq!(rest(slow), b"");
    let silent = Plain::connect(address).unwrap();
    assert_eq!(rest(silent), b"");
    let rejected = |count| {
        site.daemon.wait_metrics("all to be counted", |metrics| {
            metrics.value("outboxd_push_rejected_total", &[("reason", "tls")]) == Some(count)
        });
    };
    rejected(3.0);
    block_on(async {
        // TLS alone is no request, whichever HTTP it is for.
        for protocol in ["http/1.1", "h2"] {
            let mut idle = connect(address, &authority, &[protocol]).await;
            let mut rest = Vec::new();
            let ended = tokio::time::timeout(PATIENCE, idle.read_to_end(&mut rest));
            // With or without a word.
            let _ = ended.await.expect("the connection should have ended");
        }
    });
    rejected(3.0);
}

#[test]
fn a_pair_that_does_not_fit_is_an_error_at_the_start() {
    let authority = Authority::new();
    let lines = under(&authority);
    let key = fs::read(authority.folder.path().join("server.key")).unwrap();
    authority.sign("IP:127.0.0.1");
    let file = authority.folder.path().join("server.key");
    fs::write(&file, key).unwrap();
    let config = authority.folder.path().join("outboxd.toml");
    let (port, admin) = (Port::claim(), Port::claim());
    let text = format!(
        "[kafka]\nbootstrap_servers = \"127.0.0.1:1\"\n[push]\nlisten = \"127.0.0.1:{}\"\n{lines}\
         [push.auth]\nissuer = \"i\"\nalgorithms = [\"HS256\"]\nkeys = {{ secret = {{ file = \"secret\" }} }}\n\
         [admin]\nlisten = \"127.0.0.1:{}\"\nsocket = \"ctl\"\n",
        port.number(),
        admin.number()
    );
    fs::write(&config, text).unwrap();
    let secret = authority.folder.path().join("secret");
    fs::write(&secret, "x".repeat(32)).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let config = config.display().to_string();
    let said = |word: &str| {
        for command in ["run", "check"] {
            let ended = outboxd(&[command, "--config", &config]);
            assert_eq!(ended.code, 78, "{command}: {ended:?}");
            assert!(ended.err.contains(word), "{command} {word}: {ended:?}");
            assert!(ended.err.contains("push.tls"), "{command}: {ended:?}");
        }
    };
    said("does not belong to the first certificate of");
    fs::write(&file, "no key").unwrap();
    said("holds no private key");
    fs::write(authority.folder.path().join("server.crt"), "nothing").unwrap();
    said("is no list of certificates");
    fs::remove_file(&file).unwrap();
    said("cannot read the secret file");
    fs::remove_file(authority.folder.path().join("server.crt")).unwrap();
    said("push.tls.certificate: cannot read");
}
