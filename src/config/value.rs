//! Texts of the file → values, and back: durations, sizes, names, addresses. Pure; never shows a text in a fault,
//! because it could be a secret in the wrong place.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// What is wrong with a value, and what to do about it. Never holds the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Fault {
    pub(crate) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

pub(super) const DURATION_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

pub(super) const SIZE_UNITS: [(&str, u64); 4] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

fn counted(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// `"250ms"`, `"10s"`, `"5m"`, `"6h"`, `"7d"`.
pub fn duration(text: &str) -> Result<Duration, Fault> {
    counted(text, &DURATION_UNITS)
        .map(Duration::from_millis)
        .ok_or_else(|| {
            Fault::new(
                "this is not a duration",
                "write a whole number and ms, s, m, h or d, such as \"250ms\" or \"10s\"",
            )
        })
}

/// `"512B"`, `"64KiB"`, `"1MiB"`, `"1GiB"`.
pub(crate) fn size(text: &str) -> Result<usize, Fault> {
    counted(text, &SIZE_UNITS)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| {
            Fault::new(
                "this is not a size",
                "write a whole number and B, KiB, MiB or GiB, such as \"64KiB\"",
            )
        })
}

/// The shortest text that [`duration`] reads as `value`; what is finer than a millisecond is lost.
pub(crate) fn show_duration(value: &Duration) -> String {
    let ms = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    // One day reads better as the 24 hours that people write.
    let fits = |factor: u64| ms >= factor && ms.is_multiple_of(factor);
    let mut units = DURATION_UNITS.iter().rev();
    let (unit, factor) = units
        .find(|(unit, factor)| fits(*factor) && (*unit != "d" || ms > *factor))
        .unwrap_or(&("ms", 1));
    format!("{}{unit}", ms / factor)
}

/// The shortest text that [`size`] reads as `value`.
pub(crate) fn show_size(value: &usize) -> String {
    let bytes = u64::try_from(*value).unwrap_or(u64::MAX);
    let mut units = SIZE_UNITS.iter().rev();
    let (unit, factor) = units
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// Narrows a reader to a range.
pub(crate) fn within<T: PartialOrd>(
    read: fn(&str) -> Result<T, Fault>,
    show: fn(&T) -> String,
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, Fault> {
    move |text| {
        let value = read(text)?;
        if range.contains(&value) {
            return Ok(value);
        }
        let word = if value < *range.start() {
            "too small"
        } else {
            "too big"
        };
        let (least, most) = (show(range.start()), show(range.end()));
        Err(Fault::new(
            format!("this is {word}"),
            format!("allowed is \"{least}\" to \"{most}\""),
        ))
    }
}

/// A duration of `range`, in milliseconds.
pub(crate) fn duration_within(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<Duration, Fault> {
    let (least, most) = range.into_inner();
    within(
        duration,
        show_duration,
        Duration::from_millis(least)..=Duration::from_millis(most),
    )
}

/// A size of `range`, in bytes.
pub(crate) fn size_within(range: RangeInclusive<usize>) -> impl Fn(&str) -> Result<usize, Fault> {
    within(size, show_size, range)
}

/// A word that may stand in topic names, transactional ids and labels: `[a-z0-9][a-z0-9._-]{0,62}`.
///
/// Two of them make a topic name of at most 139 bytes, far from Kafka's limit of 249.
pub(crate) fn name(text: &str) -> Result<String, Fault> {
    let first = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let other = |c: u8| first(c) || matches!(c, b'.' | b'_' | b'-');
    let legal =
        text.len() <= 63 && text.bytes().next().is_some_and(first) && text.bytes().all(other);
    legal.then(|| text.to_owned()).ok_or_else(|| {
        Fault::new(
            "this cannot be part of a topic name",
            "use 1 to 63 of a-z 0-9 . _ - and begin with a letter or digit",
        )
    })
}

/// A visible text without blanks, up to 200 bytes.
pub(crate) fn word(text: &str) -> Result<String, Fault> {
    let legal = !text.is_empty()
        && text.len() <= 200
        && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    legal.then(|| text.to_owned()).ok_or_else(|| {
        Fault::new(
            "this is empty, too long, or has a blank or an invisible character",
            "use 1 to 200 visible characters without blanks",
        )
    })
}

/// Any text but the empty one.
pub(crate) fn filled(text: &str) -> Result<String, Fault> {
    if text.trim().is_empty() {
        return Err(Fault::new(
            "this is empty",
            "give it a value, or leave the key out",
        ));
    }
    Ok(text.to_owned())
}

/// An address and a port; no host name, because it would have to be looked up.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, Fault> {
    text.parse().map_err(|_| {
        Fault::new(
            "this is not an address to listen on",
            "write an IP address and a port, such as \"127.0.0.1:9464\" or \"[::]:8080\"",
        )
    })
}

/// `host:port[,host:port…]`.
pub(crate) fn brokers(text: &str) -> Result<String, Fault> {
    let remedy =
        "write host:port, several divided by commas, such as \"kafka-1:9092,kafka-2:9092\"";
    if text.contains('@') {
        return Err(Fault::new(
            "a broker's address holds no user and no password",
            "set \"sasl.username\" and \"sasl.password\" in [kafka.properties]",
        ));
    }
    let one = |broker: &str| {
        // librdkafka takes a protocol in front, as in `SSL://host:9093`.
        let address = broker
            .split_once("://")
            .map_or(broker, |(_, address)| address);
        host_and_port(address).is_some_and(|(_, port)| port != Some(0))
    };
    if !text.split(',').all(one) {
        return Err(Fault::new("this is not a list of brokers", remedy));
    }
    Ok(text.to_owned())
}

/// `host[:port]`; an IPv6 address stands in brackets.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => {
            host.parse::<std::net::Ipv6Addr>().ok()?;
            if rest.is_empty() {
                (host, None)
            } else {
                (host, Some(rest.strip_prefix(':')?))
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_' | b':');
    if host.is_empty() || !host.bytes().all(legal) {
        return None;
    }
    match port {
        Some(port) if port.bytes().all(|c| c.is_ascii_digit()) => {
            Some((host, Some(port.parse().ok()?)))
        }
        Some(_) => None,
        None => Some((host, None)),
    }
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether `address` is in the range. An IPv4 address that came in as `::ffff:…` counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.bits))
                    .unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.bits) {
            (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => write!(f, "{}", self.address),
            (address, bits) => write!(f, "{address}/{bits}"),
        }
    }
}

/// `"10.0.0.0/8"`, `"::1"`.
pub(crate) fn network(text: &str) -> Result<Network, Fault> {
    let fault = || {
        Fault::new(
            "this is not a range of addresses",
            "write an address and a prefix length, such as \"10.0.0.0/8\" or \"::1\"",
        )
    };
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| fault())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits: u8 = match bits {
        Some(bits) if bits.bytes().all(|c| c.is_ascii_digit()) => {
            bits.parse().map_err(|_| fault())?
        }
        Some(_) => return Err(fault()),
        None => most,
    };
    if bits > most {
        return Err(fault());
    }
    let host_bits = match address {
        IpAddr::V4(own) => own.to_bits().checked_shl(u32::from(bits)).unwrap_or(0) != 0,
        IpAddr::V6(own) => own.to_bits().checked_shl(u32::from(bits)).unwrap_or(0) != 0,
    };
    if host_bits {
        return Err(Fault::new(
            "the address has bits beyond the prefix length",
            "set them to zero, as in \"10.0.0.0/8\", or make the prefix longer",
        ));
    }
    // Peers are compared as IPv4 when they are, so their ranges have to be.
    let (address, bits) = match (address.to_canonical(), bits.checked_sub(96)) {
        (v4 @ IpAddr::V4(_), Some(bits)) if address.is_ipv6() => (v4, bits),
        _ => (address, bits),
    };
    Ok(Network { address, bits })
}

/// `scheme://host[:port]` as a browser sends it: lower case, without the scheme's own port.
pub(crate) fn origin(text: &str) -> Result<String, Fault> {
    if text == "*" || text == "null" {
        return Err(Fault::new(
            "an origin is named in full, not by a pattern",
            "list each origin whose pages may connect",
        ));
    }
    let fault = || {
        Fault::new(
            "this is not an origin",
            "write scheme://host[:port] in lower case, without a path or a slash at the end, \
             such as \"https://shop.example\"",
        )
    };
    let (scheme, authority) = text.split_once("://").ok_or_else(fault)?;
    let legal =
        |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'+' | b'-' | b'.');
    if !scheme.starts_with(|c: char| c.is_ascii_lowercase()) || !scheme.bytes().all(legal) {
        return Err(fault());
    }
    let (_, port) = host_and_port(authority).ok_or_else(fault)?;
    if authority.bytes().any(|c| c.is_ascii_uppercase()) {
        return Err(fault());
    }
    match (scheme, port) {
        ("https", Some(443)) | ("http", Some(80)) => Err(Fault::new(
            "browsers leave the scheme's own port out of an origin",
            "leave the port out",
        )),
        _ => Ok(text.to_owned()),
    }
}

/// Where keys are fetched: `https`, or plain `http` to this very host.
pub(crate) fn jwks_url(text: &str) -> Result<String, Fault> {
    let remedy =
        "write https://host[:port]/path; plain http only for 127.0.0.1, [::1] or localhost";
    let fault = |what: &str| Fault::new(what, remedy);
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| fault("this is not a URL"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest
        .split_at_checked(end)
        .ok_or_else(|| fault("this is not a URL"))?;
    if authority.contains('@') {
        return Err(fault("a URL holds no user and no password"));
    }
    let (host, _) =
        host_and_port(authority).ok_or_else(|| fault("this URL names no legal host"))?;
    if path.contains('#') || !path.bytes().all(|c| c.is_ascii_graphic()) {
        return Err(fault(
            "the path has a blank, a '#' or a character that must be %-encoded",
        ));
    }
    match scheme {
        "https" => Ok(text.to_owned()),
        "http" if is_loopback(host) => Ok(text.to_owned()),
        "http" => Err(fault("keys that come over plain http could be anybody's")),
        _ => Err(fault("keys can only be fetched over https")),
    }
}

/// Whether a host's name or address can only mean this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}
