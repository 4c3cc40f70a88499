//! Texts → values, and back.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::super::value::{
    brokers, duration, jwks_url, listen, name, network, origin, show_duration, show_size, size,
};
use super::super::words::{nearest, quoted};
use super::{bad, good};

#[test]
fn durations_have_a_unit() {
    let ms = |text| duration(text).map(|value| value.as_millis()).ok();
    assert_eq!(ms("0ms"), Some(0));
    assert_eq!(ms("250ms"), Some(250));
    assert_eq!(ms("10s"), Some(10_000));
    assert_eq!(ms("5m"), Some(300_000));
    assert_eq!(ms("6h"), Some(21_600_000));
    assert_eq!(ms("7d"), Some(604_800_000));
    for text in [
        "",
        "10",
        "s",
        "1.5s",
        "-1s",
        "+1s",
        "1 s",
        "1S",
        "1h30m",
        "1w",
        "99999999999999999999s",
        "1é",
    ] {
        assert_eq!(ms(text), None, "{text}");
    }
}

#[test]
fn sizes_have_a_unit() {
    let bytes = |text| size(text).ok();
    assert_eq!(bytes("512B"), Some(512));
    assert_eq!(bytes("64KiB"), Some(65_536));
    assert_eq!(bytes("1MiB"), Some(1_048_576));
    assert_eq!(bytes("1GiB"), Some(1_073_741_824));
    for text in [
        "",
        "1",
        "1KB",
        "1kib",
        "1K",
        "1 MiB",
        "-1B",
        "0x1B",
        "99999999999GiB",
    ] {
        assert_eq!(bytes(text), None, "{text}");
    }
}

#[test]
fn a_day_is_shown_as_the_hours_that_people_write() {
    let shown = |text| show_duration(&duration(text).unwrap());
    assert_eq!(shown("1d"), "24h");
    assert_eq!(shown("48h"), "2d");
    assert_eq!(shown("60s"), "1m");
    assert_eq!(shown("90s"), "90s");
    assert_eq!(shown("0s"), "0ms");
}

proptest! {
    #[test]
    fn what_is_shown_reads_back(ms in 0..u64::MAX / 2, bytes in any::<usize>(), text in any::<String>()) {
        let value = Duration::from_millis(ms);
        prop_assert_eq!(duration(&show_duration(&value)), Ok(value));
        prop_assert_eq!(size(&show_size(&bytes)), Ok(bytes));
        let line = format!("text = {}", quoted(&text));
        let table = toml::de::DeTable::parse(&line).unwrap();
        prop_assert_eq!(table.get_ref().get("text").unwrap().get_ref().as_str(), Some(text.as_str()));
    }

    #[test]
    fn a_network_is_shown_as_it_reads(address in any::<IpAddr>(), bits in 0..129_u8) {
        if let Ok(range) = network(&format!("{address}/{bits}")) {
            prop_assert_eq!(network(&range.to_string()), Ok(range));
            prop_assert!(range.contains(address) || (bits < 96 && address.to_canonical().is_ipv4()));
        }
    }
}

#[test]
fn names_are_legal_in_topics() {
    for text in ["a", "0", "orders", "a.b_c-d", &"x".repeat(63)] {
        assert!(name(text).is_ok(), "{text}");
    }
    for text in [
        "",
        ".",
        "..",
        "-a",
        "_a",
        "A",
        "aB",
        "a b",
        "a/b",
        "ä",
        "a\n",
        &"x".repeat(64),
    ] {
        assert!(name(text).is_err(), "{text}");
    }
}

#[test]
fn a_network_holds_its_addresses_and_no_other() {
    let holds =
        |range: &str, address: &str| network(range).unwrap().contains(address.parse().unwrap());
    assert!(holds("10.0.0.0/8", "10.255.0.1"));
    assert!(!holds("10.0.0.0/8", "11.0.0.0"));
    assert!(holds("10.0.0.0/8", "::ffff:10.1.2.3"));
    assert!(holds("::ffff:10.0.0.0/104", "10.1.2.3"));
    assert!(holds("0.0.0.0/0", "255.255.255.255"));
    assert!(!holds("0.0.0.0/0", "::1"));
    assert!(holds("::/0", "2001:db8::1"));
    assert!(holds("2001:db8::/32", "2001:db8:ffff::1"));
    assert!(!holds("2001:db8::/32", "2001:db9::1"));
    assert!(holds("::1", "::1"));
    assert!(!holds("127.0.0.1", "127.0.0.2"));
    for text in [
        "",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "::/129",
        "host/8",
        "10.0/8",
    ] {
        assert!(network(text).is_err(), "{text}");
    }
}

#[test]
fn origins_are_as_browsers_send_them() {
    for text in [
        "https://shop.example",
        "http://localhost:3000",
        "http://[::1]:8080",
        "capacitor://localhost",
    ] {
        assert!(origin(text).is_ok(), "{text}");
    }
    for text in [
        "",
        "*",
        "null",
        "shop.example",
        "https://",
        "https://shop.example/",
        "https://shop.example/a",
        "https://Shop.example",
        "HTTPS://shop.example",
        "https://u@shop.example",
        "https://*.example",
        "https://shop.example:443",
        "http://shop.example:80",
        "https://shop.example:x",
        "https://a:1:2",
    ] {
        assert!(origin(text).is_err(), "{text}");
    }
}

#[test]
fn key_sets_come_over_https_or_from_this_host() {
    for text in [
        "https://id.example/jwks.json",
        "https://id.example:8443/a?b=c",
        "http://127.0.0.1:8080/k",
        "http://localhost/k",
        "http://[::1]:1/k",
    ] {
        assert!(jwks_url(text).is_ok(), "{text}");
    }
    for text in [
        "",
        "id.example",
        "http://id.example/k",
        "http://localhost.evil.example/k",
        "ftp://id.example/k",
        "https://u:p@id.example/k",
        "https:///k",
        "https://id.example/a b",
        "https://id.example/#k",
        "http://127.0.0.1@evil.example/k",
        "file:///etc/passwd",
    ] {
        assert!(jwks_url(text).is_err(), "{text}");
    }
}

#[test]
fn brokers_are_a_list_of_hosts() {
    for text in [
        "127.0.0.1:9092",
        "a:1,b:2",
        "kafka",
        "[::1]:9092",
        "SSL://kafka:9093",
        "a_b-c.d:1",
    ] {
        assert!(brokers(text).is_ok(), "{text}");
    }
    for text in [
        "", ",", "a:1,", "a:1, b:2", "a:0", "a:x", "a:70000", "u:p@a:1", "::1:9092",
    ] {
        assert!(brokers(text).is_err(), "{text}");
    }
}

#[test]
fn a_user_among_the_brokers_is_told_where_to_go() {
    assert!(
        brokers("u:p@a:1")
            .unwrap_err()
            .to_string()
            .contains("sasl.username")
    );
}

#[test]
fn listeners_are_addresses() {
    for (text, ok) in [
        ("127.0.0.1:0", true),
        ("[::]:80", true),
        ("localhost:80", false),
        (":80", false),
        ("1.2.3.4", false),
    ] {
        assert_eq!(listen(text).is_ok(), ok, "{text}");
    }
}

#[test]
fn a_misspelt_word_is_recognized_and_a_strange_one_is_not() {
    let known = ["linger", "events", "bytes", "on_refused"];
    assert_eq!(nearest("lingr", &known), Some("linger"));
    assert_eq!(nearest("event", &known), Some("events"));
    assert_eq!(nearest("on-refused", &known), Some("on_refused"));
    assert_eq!(nearest("colour", &known), None);
    assert_eq!(nearest("", &known), None);
    assert_eq!(nearest("x", &[]), None);
}

#[test]
fn any_text_may_come_from_a_variable() {
    let config = good(
        "[relay]\nlease = { env = \"LEASE\" }\n[push]\nallowed_origins = [{ env = \"ORIGIN\" }]\n\
        [push.auth]\nissuer = \"i\"\nkeys = { jwks_url = \"https://a/b\" }",
    );
    assert_eq!(config.relay.lease, Duration::from_secs(20));
    assert_eq!(config.push.unwrap().allowed_origins, ["https://a.example"]);
    let errors = bad("[relay]\nlease = { env = \"BAD\" }");
    assert!(
        errors.contains("`lease`: this is not a duration (the value of the variable BAD)"),
        "{errors}"
    );
    assert!(!errors.contains("CANARY"), "{errors}");
    assert!(bad("[relay]\nlease = { env = \"NONE\" }").contains("the variable NONE is not set"));
    assert!(
        bad("[relay]\nlease = { env = \"BYTES\" }").contains("the variable BYTES is not UTF-8")
    );
    assert!(
        bad("[relay]\nlease = { env = \"$LEASE\" }")
            .contains("not the name of an environment variable")
    );
    assert!(bad("[relay]\nlease = { env = 5 }").contains("must be the name of a variable"));
    assert!(bad("[relay]\nlease = { file = \"x\" }").contains("`lease` must be a text in quotes"));
}
