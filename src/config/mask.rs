//! Which parts of a configuration file must not be shown, because they may be secrets.
//!
//! Works on any text, also on one that is not TOML, and never asks what the text means: whatever is not the value of a
//! key known to be harmless is hidden.

use std::ops::Range;

use super::librdkafka;

/// Keys of the file, and of definitions of sagas, whose values may be shown.
const SHOWN: [&str; 53] = [
    "algorithms",
    "allowed_origins",
    "audience",
    "auth",
    "bootstrap_servers",
    "bytes",
    "certificate",
    "compensation",
    "connections",
    "connections_per_address",
    "connections_per_user",
    "create_topics",
    "credential",
    "dead_letter_limit",
    "definitions",
    "drain",
    "env",
    "epoch",
    "events",
    "file",
    "frame",
    "frames_per_second",
    "grants_claim",
    "handshake",
    "heartbeat",
    "history",
    "instance",
    "issuer",
    "jwks_url",
    "keep_finished",
    "kind",
    "lease",
    "leeway",
    "limit",
    "linger",
    "listen",
    "next",
    "on_refused",
    "outcome",
    "pong",
    "prefix",
    "queue",
    "saga",
    "service",
    "since",
    "socket",
    "state_directory",
    "subscriptions",
    "trusted_proxies",
    "unauthenticated",
    "url",
    "user_claim",
    "version",
];

/// Keys that everybody may see although nobody may see their values.
const SECRET: [&str; 4] = ["key", "password", "secret", "pem"];

/// First words of the file's table headers.
const TABLES: [&str; 6] = ["admin", "kafka", "push", "relay", "sagas", "sources"];

/// Parameters of a database URL whose values may be shown.
const SHOWN_PARAMETERS: [&str; 12] = [
    "application_name",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

/// Byte ranges of `text` to hide, in order and disjoint. `strict`: the text is not TOML, so a piece that could be
/// anything (a key nobody knows, a stray word) is hidden, too.
pub(super) fn hidden(text: &str, strict: bool) -> Vec<Range<usize>> {
    let mut scan = Scan {
        text,
        at: 0,
        strict,
        hidden: Vec::new(),
    };
    while scan.at < text.len() {
        let before = scan.at;
        scan.line();
        // Every line moves on; this only says so to a reader who doubts it.
        scan.at = scan.at.max(before + 1);
    }
    scan.hidden
}

/// Whether the value of a key may be shown. `segments`: the key, split at its dots.
fn may_show(segments: &[String]) -> bool {
    let whole = segments.join(".");
    let last = segments.last().map_or("", String::as_str);
    !librdkafka::looks_secret(&whole)
        && (SHOWN.contains(&last) || librdkafka::is_public(last) || librdkafka::is_public(&whole))
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    strict: bool,
    hidden: Vec<Range<usize>>,
}

impl Scan<'_> {
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn slice(&self, range: Range<usize>) -> &str {
        self.text.get(range).unwrap_or_default()
    }

    fn skip(&mut self, of: impl Fn(u8) -> bool) -> Range<usize> {
        let from = self.at;
        while self.byte().is_some_and(&of) {
            self.at += 1;
        }
        from..self.at
    }

    fn hide(&mut self, range: Range<usize>) {
        if self
            .text
            .get(range.clone())
            .is_none_or(|text| !text.trim().is_empty())
        {
            self.hidden.push(range);
        }
    }

    /// Hides what is left of the line, comments included.
    fn hide_line(&mut self) {
        self.skip(|c| matches!(c, b' ' | b'\t'));
        let rest = self.skip(|c| c != b'\n');
        self.hide(rest);
    }

    /// One line at the top level, or several when a value goes on.
    fn line(&mut self) {
        self.skip(|c| c.is_ascii_whitespace());
        match self.byte() {
            Some(b'#') => self.hide_line(),
            Some(b'[') => self.header(),
            Some(_) => {
                self.pair();
                self.hide_line();
            }
            None => {}
        }
    }

    /// `[table]` or `[[table]]`.
    fn header(&mut self) {
        let from = self.at;
        self.skip(|c| c == b'[' || c == b' ');
        let (segments, place) = self.key(b"]");
        let known = segments
            .first()
            .is_some_and(|first| TABLES.contains(&first.as_str()));
        let closed = !self.skip(|c| c == b']').is_empty();
        if self.strict && !(known && closed && self.is_key(&place)) {
            self.hide(from..self.at);
        }
        self.hide_line();
    }

    /// A key up to one of `ends`, a line's end or the text's: its segments and its place.
    fn key(&mut self, ends: &[u8]) -> (Vec<String>, Range<usize>) {
        let from = self.at;
        let mut segments = vec![String::new()];
        while let Some(c) = self.byte().filter(|c| !ends.contains(c) && *c != b'\n') {
            let start = self.at;
            match c {
                b'"' | b'\'' => {
                    let inner = self.string(false);
                    let inner = self.slice(inner).to_owned();
                    if let Some(last) = segments.last_mut() {
                        last.push_str(&inner)
                    }
                }
                b'.' => {
                    self.at += 1;
                    segments.push(String::new());
                }
                b' ' | b'\t' => self.at += 1,
                _ => {
                    self.skip(|c| {
                        !ends.contains(&c)
                            && !matches!(c, b'"' | b'\'' | b'.' | b' ' | b'\t' | b'\n')
                    });
                    let piece = self.slice(start..self.at).to_owned();
                    if let Some(last) = segments.last_mut() {
                        last.push_str(&piece)
                    }
                }
            }
        }
        (segments, from..self.at)
    }

    /// Whether a stretch has a key's characters only: anything else could be a value that lost its sign of equality.
    fn is_key(&self, place: &Range<usize>) -> bool {
        let legal = |c: u8| c.is_ascii_alphanumeric() || b"_-.\"'".contains(&c);
        self.slice(place.clone()).trim().bytes().all(legal)
    }

    /// `key = value`.
    fn pair(&mut self) {
        let (segments, place) = self.key(b"=,}");
        let legal = self.is_key(&place);
        let show = legal && may_show(&segments);
        if self.byte() != Some(b'=') {
            return self.hide(self.trimmed(place));
        }
        let last = segments.last().map_or("", String::as_str);
        let known = SECRET.contains(&last) || librdkafka::SECRETS.contains(&last);
        if self.strict && !show && !(legal && known) {
            self.hide(self.trimmed(place));
        }
        self.at += 1;
        self.value(show, false);
    }

    /// A value; `inside`: of an array.
    fn value(&mut self, show: bool, inside: bool) {
        self.skip(|c| matches!(c, b' ' | b'\t'));
        match self.byte() {
            Some(b'"' | b'\'') => {
                let inner = self.string(true);
                // One that does not end, or not on its line, may have swallowed anything; so may
                // one with the signs of a table in it when the text is not TOML.
                let text = self.slice(inner.clone());
                let whole = self.at > inner.end && !text.contains('\n');
                if show && whole && !(self.strict && text.contains(['"', '\'', '{', '}', '=', '#']))
                {
                    self.hide_credentials(inner)
                } else {
                    self.hide(inner)
                }
            }
            Some(b'{') => self.inline_table(),
            Some(b'[') => self.array(show),
            Some(b'\n') | None => {}
            Some(_) => {
                let stop = |c: u8| matches!(c, b',' | b'}' | b']' | b'#' | b'\n');
                let word =
                    |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'+' | b'-');
                let from = self.at;
                self.skip(word);
                if !show || (self.strict && inside) {
                    self.at = from;
                }
                let rest = self.skip(|c| !stop(c));
                self.hide(self.trimmed(rest));
            }
        }
    }

    fn trimmed(&self, range: Range<usize>) -> Range<usize> {
        let text = self.slice(range.clone());
        let from = range.start + (text.len() - text.trim_start().len());
        from..from.max(range.start + text.trim_end().len())
    }

    /// Skips a string and returns what is between its quotes; `value`: it may be one of several lines.
    fn string(&mut self, value: bool) -> Range<usize> {
        let quote = self.byte().unwrap_or(b'"');
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let long = value && rest.starts_with(&[quote; 3]);
        let width = if long { 3 } else { 1 };
        self.at += width;
        let from = self.at;
        while let Some(c) = self.byte() {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            if c == quote && (!long || rest.starts_with(&[quote; 3])) {
                // A long string may end in up to two quotes of its own.
                let extra = rest
                    .iter()
                    .skip(width)
                    .take(2)
                    .take_while(|c| long && **c == quote)
                    .count();
                let end = self.at + extra;
                self.at = end + width;
                return from..end;
            }
            if c == b'\n' && !long {
                break;
            }
            let escaped =
                c == b'\\' && quote == b'"' && rest.get(1).is_some_and(|c| *c != b'\n' || long);
            self.at += if escaped { 2 } else { 1 };
        }
        self.at = self.at.min(self.text.len());
        from..self.at
    }

    fn inline_table(&mut self) {
        self.at += 1;
        loop {
            self.skip(|c| c.is_ascii_whitespace() || c == b',');
            match self.byte() {
                Some(b'}') => {
                    self.at += 1;
                    return;
                }
                Some(b'#') => self.hide_line(),
                Some(_) => {
                    self.pair();
                    self.stray();
                }
                None => return,
            }
        }
    }

    fn array(&mut self, show: bool) {
        let from = self.at;
        self.at += 1;
        loop {
            self.skip(|c| c.is_ascii_whitespace() || c == b',');
            match self.byte() {
                Some(b']') => {
                    self.at += 1;
                    return;
                }
                Some(b'#') => self.hide_line(),
                Some(_) => {
                    let before = self.at;
                    // One that was never closed swallows the lines after it.
                    let same_line = !self.slice(from..self.at).contains('\n');
                    self.value(show && (same_line || !self.strict), true);
                    self.stray();
                    self.at = self.at.max(before + 1);
                }
                None => return,
            }
        }
    }

    /// Hides what stands between a value and the comma, bracket or line's end after it.
    fn stray(&mut self) {
        let rest = self.skip(|c| !matches!(c, b',' | b'}' | b']' | b'#' | b'\n'));
        self.hide(self.trimmed(rest));
    }

    /// Hides the password of a URL, also of one that is badly written, and the values of its unknown parameters.
    fn hide_credentials(&mut self, inner: Range<usize>) {
        let text = self.slice(inner.clone()).to_owned();
        let from = text.find("://").map_or(0, |at| at + 3);
        let begin = text.find('?').unwrap_or(text.len());
        // Up to the last @: a password may hold anything, even another @ or a question mark.
        if let Some(at) = text.rfind('@') {
            let colon = text.get(from.min(at)..at).and_then(|head| head.find(':'));
            if let Some(colon) = colon {
                self.hide(inner.start + from + colon + 1..inner.start + at);
                return self.hide_parameters(&text, at, inner.start);
            }
        } else if text.contains("://") {
            let authority = text.get(from..begin).unwrap_or_default();
            let authority = authority.split('/').next().unwrap_or_default();
            let port = authority.rfind(':').filter(|_| !authority.ends_with(']'));
            let port = port.map(|colon| (colon, authority.get(colon + 1..).unwrap_or_default()));
            if let Some((colon, port)) = port
                && !port.bytes().all(|c| c.is_ascii_digit())
            {
                let start = inner.start + from + colon + 1;
                self.hide(start..start + port.len());
            }
        }
        self.hide_parameters(&text, 0, inner.start);
    }

    fn hide_parameters(&mut self, text: &str, from: usize, offset: usize) {
        let Some(begin) = text.get(from..).and_then(|rest| rest.find('?')) else {
            return;
        };
        let mut at = from + begin + 1;
        for parameter in text.get(at..).unwrap_or_default().split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or(("", parameter));
            if !SHOWN_PARAMETERS.contains(&name) {
                let start = offset + at + parameter.len() - value.len();
                self.hide(start..start + value.len());
            }
            at += parameter.len() + 1;
        }
    }
}
