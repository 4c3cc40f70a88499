//! A database's URL → how to connect: libpq's rules for hosts and TLS, and never a password in it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use tokio_postgres::config::{Config, Host, SslMode};

use super::value::{Fault, is_loopback};
use super::{Database, Tls, TlsMode};

/// Parameters that are handed on to the driver.
const HANDED_ON: [&str; 15] = [
    "user",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "options",
    "application_name",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
];

/// Parameters that are about TLS, and ours.
const TLS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

/// Reads a URL; paths in it are relative to `base`. The password is for the caller to add.
///
/// # Errors
/// Says what is wrong without repeating any of the URL, which could hold a password in the wrong place.
pub fn parse(url: &str, base: &Path) -> Result<Database, Fault> {
    let parts = Parts::of(url)?;
    let mut kept = Vec::new();
    let mut tls = Given::default();
    for (name, value) in parts.parameters() {
        match name {
            "password" | "sslpassword" | "passfile" => return Err(password()),
            "sslmode" => tls.mode = Some(mode(&decoded(value)?)?),
            "sslrootcert" => tls.root = Some(decoded(value)?.into_owned()),
            "sslcert" => tls.certificate = Some(base.join(&*decoded(value)?)),
            "sslkey" => tls.key = Some(base.join(&*decoded(value)?)),
            _ if HANDED_ON.contains(&name) && !value.is_empty() => {
                kept.push(format!("{name}={value}"))
            }
            _ => return Err(unknown_parameter()),
        }
    }
    let head = format!(
        "postgres://{}{}",
        parts.authority,
        parts.path.replace('@', "%40")
    );
    let kept = kept.join("&").replace('@', "%40");
    // The driver's error may repeat a piece of the URL.
    let mut connect: Config = format!("{head}?{kept}")
        .parse()
        .map_err(|_| Fault::new("this is not a legal database URL", EXAMPLE))?;
    prove(&connect)?;
    let tls = tls.settle(&connect, base)?;
    connect.ssl_mode(match tls.mode {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
    });
    let display = display(&connect);
    let url = rendered(&head, &kept, &tls);
    Ok(Database {
        connect,
        password: None,
        tls,
        display,
        url,
    })
}

const EXAMPLE: &str = "write postgres://user@host:5432/database, special characters %-encoded";

fn password() -> Fault {
    Fault::new(
        "a database URL must not hold a password",
        "take it out; it goes into a file of its own: password = { file = \"…\" } beside url, \
         or --password-file on the command line",
    )
}

fn unknown_parameter() -> Fault {
    let known = [&TLS[..], &HANDED_ON[..]].concat().join(", ");
    Fault::new(
        "the URL has a parameter that is unknown or empty",
        format!("known are {known}"),
    )
}

/// A URL at its joints.
struct Parts<'a> {
    authority: &'a str,
    path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Result<Self, Fault> {
        let rest = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme));
        let Some(rest) = rest else {
            return Err(Fault::new(
                "a database URL begins with postgres:// or postgresql://",
                EXAMPLE,
            ));
        };
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match before.find('/').and_then(|at| before.split_at_checked(at)) {
            Some(parts) => parts,
            None => (before, ""),
        };
        // A password may itself hold a slash, a question mark or an @ that nobody encoded.
        let until_last_at = rest.rfind('@').and_then(|at| rest.get(..at)).unwrap_or("");
        let user_ends = authority.rfind('@').unwrap_or(0);
        let colon = authority
            .get(..user_ends)
            .is_some_and(|user| user.contains(':'));
        let stray = until_last_at.len() > authority.len()
            && until_last_at.contains(':')
            && query.is_empty();
        if colon || stray {
            return Err(password());
        }
        Ok(Self {
            authority,
            path,
            query,
        })
    }

    fn parameters(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let filled = self
            .query
            .split('&')
            .filter(|parameter| !parameter.is_empty());
        filled.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
    }
}

/// What a URL says of TLS.
#[derive(Default)]
struct Given {
    mode: Option<TlsMode>,
    root: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Given {
    fn settle(self, connect: &Config, base: &Path) -> Result<Tls, Fault> {
        let client = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(Fault::new(
                    "sslcert and sslkey go together",
                    "give both, or none",
                ));
            }
        };
        // `system` is libpq's word for the authorities that the system trusts, which is the default here.
        let root = self
            .root
            .filter(|root| root != "system")
            .map(|root| base.join(root));
        let sockets = connect
            .get_hosts()
            .iter()
            .all(|host| matches!(host, Host::Unix(_)))
            && connect.get_hostaddrs().is_empty();
        let named = root.is_some() || client.is_some();
        let mode = match self.mode {
            // PostgreSQL speaks no TLS over a socket, and libpq asks for none whatever sslmode says.
            _ if sockets => TlsMode::Disable,
            // As in libpq, an authority that is named is asked.
            Some(TlsMode::Require) if root.is_some() => TlsMode::VerifyCa,
            Some(mode) => mode,
            None if local(connect) && !named => TlsMode::Disable,
            None => TlsMode::VerifyFull,
        };
        if mode != TlsMode::Disable && connect.get_hosts().is_empty() {
            return Err(Fault::new(
                "TLS needs a host's name beside hostaddr",
                "add host=, or sslmode=disable",
            ));
        }
        Ok(Tls { mode, root, client })
    }
}

fn mode(text: &str) -> Result<TlsMode, Fault> {
    match text {
        "disable" => Ok(TlsMode::Disable),
        "prefer" => Ok(TlsMode::Prefer),
        "require" => Ok(TlsMode::Require),
        "verify-ca" => Ok(TlsMode::VerifyCa),
        "verify-full" => Ok(TlsMode::VerifyFull),
        "allow" => Err(Fault::new(
            "sslmode=allow is not supported",
            "use sslmode=prefer",
        )),
        _ => Err(Fault::new(
            "there is no such sslmode",
            "use disable, prefer, require, verify-ca or verify-full",
        )),
    }
}

/// Checks what the driver would only complain of when it connects.
fn prove(connect: &Config) -> Result<(), Fault> {
    let (hosts, addresses, ports) = (
        connect.get_hosts().len(),
        connect.get_hostaddrs().len(),
        connect.get_ports(),
    );
    let empty = |host: &Host| matches!(host, Host::Tcp(name) if name.is_empty());
    if hosts + addresses == 0 || connect.get_hosts().iter().any(empty) {
        return Err(Fault::new("the URL names no host", EXAMPLE));
    }
    if connect.get_password().is_some() {
        return Err(password());
    }
    if connect.get_user().is_some_and(str::is_empty) {
        return Err(Fault::new("the URL's user is empty", EXAMPLE));
    }
    if connect.get_dbname().is_none_or(str::is_empty) {
        return Err(Fault::new("the URL names no database", EXAMPLE));
    }
    if hosts > 0 && addresses > 0 && hosts != addresses {
        return Err(Fault::new(
            "host and hostaddr have not the same number of entries",
            "make them agree",
        ));
    }
    if ports.len() > 1 && ports.len() != hosts.max(addresses) {
        return Err(Fault::new(
            "there are not as many ports as hosts",
            "give one port, or one for each host",
        ));
    }
    if ports.contains(&0) {
        return Err(Fault::new(
            "there is no port 0",
            "PostgreSQL's port is usually 5432",
        ));
    }
    Ok(())
}

fn local(connect: &Config) -> bool {
    let addresses = connect.get_hostaddrs();
    if !addresses.is_empty() {
        return addresses.iter().all(std::net::IpAddr::is_loopback);
    }
    connect.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => is_loopback(name),
        Host::Unix(_) => true,
    })
}

/// Where a database is: host, port and name of each way to it. Two URLs that share one of them are one database.
pub(super) fn places(connect: &Config) -> Vec<(String, u16, String)> {
    let host = |host: &Host| match host {
        // These three are the same listener as a rule.
        Host::Tcp(name) if matches!(name.as_str(), "127.0.0.1" | "::1") => "localhost".to_owned(),
        Host::Tcp(name) => name.to_ascii_lowercase(),
        Host::Unix(path) => path.display().to_string(),
    };
    let mut hosts: Vec<String> = connect.get_hosts().iter().map(host).collect();
    if hosts.is_empty() {
        hosts = connect
            .get_hostaddrs()
            .iter()
            .map(ToString::to_string)
            .collect();
    }
    let ports = connect.get_ports();
    let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
    let name = connect.get_dbname().unwrap_or_default();
    hosts
        .into_iter()
        .enumerate()
        .map(|(at, host)| (host, port(at), name.to_owned()))
        .collect()
}

fn display(connect: &Config) -> String {
    let mut places = places(connect);
    for (place, host) in places.iter_mut().zip(connect.get_hosts()) {
        if let Host::Tcp(name) = host {
            place.0.clone_from(name);
        }
    }
    let hosts = places
        .iter()
        .map(|(host, port, _)| match host.parse::<std::net::Ipv6Addr>() {
            Ok(host) => format!("[{host}]:{port}"),
            Err(_) => format!("{host}:{port}"),
        });
    format!(
        "{}/{}",
        hosts.collect::<Vec<_>>().join(","),
        connect.get_dbname().unwrap_or_default()
    )
}

/// The URL with TLS in full, so that it means the same wherever it stands.
fn rendered(head: &str, kept: &str, tls: &Tls) -> String {
    let mut parameters: Vec<String> = kept
        .split('&')
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect();
    let mode = match tls.mode {
        TlsMode::Disable => "disable",
        TlsMode::Prefer => "prefer",
        TlsMode::Require => "require",
        TlsMode::VerifyCa => "verify-ca",
        TlsMode::VerifyFull => "verify-full",
    };
    parameters.push(format!("sslmode={mode}"));
    let path = |name: &str, path: &Path| format!("{name}={}", encoded(&path.display().to_string()));
    parameters.extend(tls.root.iter().map(|root| path("sslrootcert", root)));
    if let Some((certificate, key)) = &tls.client {
        parameters.extend([path("sslcert", certificate), path("sslkey", key)]);
    }
    format!("{head}?{}", parameters.join("&"))
}

fn encoded(text: &str) -> String {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-' | b':');
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

fn decoded(text: &str) -> Result<Cow<'_, str>, Fault> {
    if text.is_empty() {
        return Err(unknown_parameter());
    }
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let fault = || Fault::new("the URL has a wrong %-code", "write %25 for a percent sign");
    let mut bytes = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    bytes.extend(pieces.next().unwrap_or_default().bytes());
    for piece in pieces {
        let (code, rest) = piece.split_at_checked(2).ok_or_else(fault)?;
        let legal = code.bytes().all(|c| c.is_ascii_hexdigit());
        bytes.push(
            u8::from_str_radix(code, 16)
                .ok()
                .filter(|_| legal)
                .ok_or_else(fault)?,
        );
        bytes.extend(rest.bytes());
    }
    String::from_utf8(bytes)
        .map(Cow::Owned)
        .map_err(|_| fault())
}
