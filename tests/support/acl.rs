//! Gives rights in Kafka and takes them away, for a broker with an authoriser. Speaks two requests of the protocol itself, since
//! the client library's Rust half does not know them.

use std::io::{Read, Write};
use std::net::TcpStream;

/// What a right is about.
#[derive(Clone, Copy)]
pub(crate) enum On<'a> {
    /// A topic.
    Topic(&'a str),
    /// All topics whose names begin so.
    Topics(&'a str),
    /// A consumer group.
    Group(&'a str),
    /// All transactional ids that begin so.
    Transactions(&'a str),
}

/// What may be done, by the numbers of the protocol.
#[derive(Clone, Copy)]
pub(crate) enum May {
    Read = 3,
    Write = 4,
    Create = 5,
    Describe = 8,
    DescribeConfigs = 10,
}

const CREATE: i16 = 30;
const DELETE: i16 = 31;
/// The last version whose fields have plain sizes.
const VERSION: i16 = 1;
const ALLOW: u8 = 3;

/// Lets a user do this, from any host.
pub(crate) fn grant(bootstrap: &str, user: &str, may: May, on: On<'_>) {
    ask(bootstrap, CREATE, user, may, on);
}

/// Takes exactly that right away.
pub(crate) fn revoke(bootstrap: &str, user: &str, may: May, on: On<'_>) {
    ask(bootstrap, DELETE, user, may, on);
}

fn ask(bootstrap: &str, key: i16, user: &str, may: May, on: On<'_>) {
    // The kinds of resources and patterns have numbers, too.
    let (kind, name, pattern) = match on {
        On::Topic(name) => (2, name, 3),
        On::Topics(name) => (2, name, 4),
        On::Group(name) => (3, name, 3),
        On::Transactions(name) => (5, name, 4),
    };
    let mut request = [key, VERSION].map(i16::to_be_bytes).concat();
    request.extend(7_i32.to_be_bytes());
    text(&mut request, "tests");
    request.extend(1_i32.to_be_bytes());
    request.push(kind);
    text(&mut request, name);
    request.push(pattern);
    text(&mut request, &format!("User:{user}"));
    text(&mut request, "*");
    request.extend([may as u8, ALLOW]);
    let mut stream = TcpStream::connect(bootstrap).expect("the broker listens");
    let size = i32::try_from(request.len()).expect("small").to_be_bytes();
    stream
        .write_all(&[&size[..], &request].concat())
        .expect("the broker reads");
    let mut size = [0; 4];
    stream.read_exact(&mut size).expect("an answer");
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size)).expect("positive")];
    stream.read_exact(&mut answer).expect("an answer");
    // After correlation id and throttle time: one result, which begins with its error code.
    assert_eq!(
        answer.get(8..14),
        Some(&[0, 0, 0, 1, 0, 0][..]),
        "{answer:?}"
    );
}

fn text(request: &mut Vec<u8>, text: &str) {
    request.extend(i16::try_from(text.len()).expect("short").to_be_bytes());
    request.extend(text.as_bytes());
}
