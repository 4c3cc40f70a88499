//! Database URLs: libpq's rules, and never a password.

use std::path::Path;

use tokio_postgres::config::SslMode;

use super::super::database::parse;
use super::super::{Database, TlsMode};

fn good(url: &str) -> Database {
    parse(url, Path::new("/etc/outboxd")).unwrap_or_else(|fault| panic!("{url}: {fault}"))
}

fn bad(url: &str) -> String {
    match parse(url, Path::new("/etc/outboxd")) {
        Ok(database) => panic!("{url} was accepted as {}", database.url),
        Err(fault) => fault.to_string(),
    }
}

#[test]
fn tls_is_verified_in_full_unless_the_server_is_on_this_host() {
    for (url, mode) in [
        ("postgres://u@db.example/d", TlsMode::VerifyFull),
        ("postgresql://u@10.0.0.1:5433/d", TlsMode::VerifyFull),
        ("postgres://u@127.0.0.1,db.example/d", TlsMode::VerifyFull),
        ("postgres://u@127.0.0.1/d", TlsMode::Disable),
        ("postgres://u@127.9.9.9/d", TlsMode::Disable),
        ("postgres://u@localhost:5433/d", TlsMode::Disable),
        ("postgres://u@[::1]:5432/d", TlsMode::Disable),
        ("postgres://u@localhost,127.0.0.1/d", TlsMode::Disable),
        ("postgres://u@/d?host=/run/postgresql", TlsMode::Disable),
        ("postgres://u@%2Frun%2Fpostgresql/d", TlsMode::Disable),
        (
            "postgres://u@db.example/d?hostaddr=127.0.0.1",
            TlsMode::Disable,
        ),
        (
            "postgres://u@localhost/d?hostaddr=10.0.0.1",
            TlsMode::VerifyFull,
        ),
        ("postgres://u@localhost.evil.example/d", TlsMode::VerifyFull),
    ] {
        assert_eq!(good(url).tls.mode, mode, "{url}");
    }
}

#[test]
fn sslmode_is_as_in_libpq() {
    for (query, mode, driver) in [
        ("sslmode=disable", TlsMode::Disable, SslMode::Disable),
        ("sslmode=prefer", TlsMode::Prefer, SslMode::Prefer),
        ("sslmode=require", TlsMode::Require, SslMode::Require),
        ("sslmode=verify-ca", TlsMode::VerifyCa, SslMode::Require),
        ("sslmode=verify-full", TlsMode::VerifyFull, SslMode::Require),
        (
            "sslmode=require&sslrootcert=ca.pem",
            TlsMode::VerifyCa,
            SslMode::Require,
        ),
        (
            "sslmode=disable&sslrootcert=ca.pem",
            TlsMode::Disable,
            SslMode::Disable,
        ),
    ] {
        for host in ["db.example", "127.0.0.1"] {
            let database = good(&format!("postgres://u@{host}/d?{query}"));
            assert_eq!(database.tls.mode, mode, "{query}");
            assert_eq!(database.connect.get_ssl_mode(), driver, "{query}");
        }
    }
    // An authority or a certificate says that TLS is meant, also on this host.
    assert_eq!(
        good("postgres://u@127.0.0.1/d?sslrootcert=ca.pem").tls.mode,
        TlsMode::VerifyFull
    );
    assert_eq!(
        good("postgres://u@/d?host=/run&sslmode=verify-full")
            .tls
            .mode,
        TlsMode::Disable
    );
    assert!(bad("postgres://u@h/d?sslmode=allow").contains("use sslmode=prefer"));
    assert!(bad("postgres://u@h/d?sslmode=VERIFY").contains("no such sslmode"));
}

#[test]
fn paths_are_relative_to_the_file() {
    let tls =
        good("postgres://u@h/d?sslrootcert=ca.pem&sslcert=%2Ftls%2Fme.crt&sslkey=me%20key.pem").tls;
    assert_eq!(tls.root.unwrap(), Path::new("/etc/outboxd/ca.pem"));
    let (certificate, key) = tls.client.unwrap();
    assert_eq!(certificate, Path::new("/tls/me.crt"));
    assert_eq!(key, Path::new("/etc/outboxd/me key.pem"));
    assert_eq!(good("postgres://u@h/d?sslrootcert=system").tls.root, None);
    assert!(bad("postgres://u@h/d?sslcert=me.crt").contains("go together"));
    assert!(bad("postgres://u@h/d?sslkey=me.key").contains("go together"));
}

#[test]
fn a_password_has_no_place_in_a_url() {
    for url in [
        "postgres://u:CANARY@h/d",
        "postgres://u:@h/d",
        "postgres://u:CAN/ARY@h/d",
        "postgres://u:CAN@ARY@h/d",
        "postgres://u@h/d?password=CANARY",
        "postgres://u@h/d?sslmode=disable&password=CANARY",
        "postgres://u@h/d?sslpassword=CANARY",
        "postgres://u@h/d?passfile=CANARY",
    ] {
        let fault = bad(url);
        assert!(fault.contains("must not hold a password"), "{url}: {fault}");
        assert!(!fault.contains("CAN") && !fault.contains("ARY"), "{fault}");
    }
}

#[test]
fn what_cannot_connect_is_refused_without_being_repeated() {
    for (url, say) in [
        ("CANARY", "begins with postgres://"),
        ("mysql://CANARY@h/d", "begins with postgres://"),
        ("POSTGRES://CANARY@h/d", "begins with postgres://"),
        ("postgres://CANARY@h", "names no database"),
        ("postgres://CANARY@h/", "names no database"),
        ("postgres://CANARY@/d", "names no host"),
        ("postgres:///CANARY", "names no host"),
        ("postgres://u@h,/CANARY", "names no host"),
        ("postgres://@h/CANARY", "user is empty"),
        ("postgres://u@h:CANARY/d", "not a legal database URL"),
        ("postgres://u@h:99999/CANARY", "not a legal database URL"),
        ("postgres://u@h:0/CANARY", "no port 0"),
        ("postgres://u@[::1/CANARY", "not a legal database URL"),
        ("postgres://u@h/d?CANARY", "unknown or empty"),
        ("postgres://u@h/d?CANARY=1", "unknown or empty"),
        ("postgres://u@h/d?sslmode=", "unknown or empty"),
        (
            "postgres://u@h/d?connect_timeout=CANARY",
            "not a legal database URL",
        ),
        ("postgres://u@h/d?sslrootcert=CANARY%2", "wrong %-code"),
        ("postgres://u@h/d?sslrootcert=CANARY%+1", "wrong %-code"),
        ("postgres://u@h/d?sslrootcert=CANARY%ff", "wrong %-code"),
        (
            "postgres://u@a,b/CANARY?hostaddr=10.0.0.1",
            "not the same number",
        ),
        (
            "postgres://u@/CANARY?host=a,b&port=1,2,3",
            "not as many ports",
        ),
        (
            "postgres://u@/CANARY?hostaddr=10.0.0.1",
            "TLS needs a host's name",
        ),
    ] {
        let fault = bad(url);
        assert!(fault.contains(say), "{url}: {fault}");
        assert!(!fault.contains("CANARY"), "{fault}");
    }
}

#[test]
fn messages_name_host_port_and_database() {
    for (url, display) in [
        (
            "postgres://u@127.0.0.1:5433/orders",
            "127.0.0.1:5433/orders",
        ),
        ("postgres://u@db.example/orders", "db.example:5432/orders"),
        ("postgres://u@[::1]/orders", "[::1]:5432/orders"),
        (
            "postgres://u@a:1,b:2/orders?target_session_attrs=read-write",
            "a:1,b:2/orders",
        ),
        (
            "postgres://u@/orders?host=/run/postgresql&port=5433",
            "/run/postgresql:5433/orders",
        ),
        ("postgres://u@/orders?host=a,b", "a,b:5432/orders"),
    ] {
        assert_eq!(good(url).display, display, "{url}");
    }
}

#[test]
fn the_url_that_is_shown_means_the_same() {
    for url in [
        "postgres://u@127.0.0.1:5433/orders",
        "postgresql://u%40corp@db.example/a%20b",
        "postgres://u@h/d?sslrootcert=a%26b%20%C3%A9.pem&connect_timeout=3&sslmode=verify-ca",
        "postgres://u@a:1,b:2/d?target_session_attrs=read-write&options=-c%20x%3Dy@z",
        "postgres://u@/d?host=/run/postgresql",
        "postgres:///d?host=%2Frun%2Fpostgresql&user=u",
    ] {
        let (first, again) = (good(url), good(&good(url).url));
        assert_eq!(again.url, first.url, "{url}");
        assert_eq!(again.connect, first.connect, "{url}");
        assert_eq!(again.tls, first.tls, "{url}");
    }
}
