//! What clients send: one frame, and a whole session of frames, signs of life and silence.

use std::sync::Arc;
use std::time::{Duration, Instant};

use outboxd::logic::event::Timestamp;
use outboxd::logic::push::frames::Request;
use outboxd::logic::push::session::{Access, Input, NoAccess, Output, Session, Settings};
use outboxd::logic::rights::Rights;
use outboxd::logic::saga::SagaKey;
use serde_json::{Value, json};

const SUBSCRIPTIONS: usize = 4;
const PARTITIONS: usize = 2;

/// Lines as clients send them: what is taken for a frame is one, and what is not is answered by its id.
pub fn frames(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for line in text.lines() {
        let value: Option<Value> = serde_json::from_str(line).ok();
        let object = value.as_ref().and_then(Value::as_object);
        match Request::read(line) {
            Ok(_) => {
                let fields = object.expect("a frame is an object");
                let known = ["auth", "subscribe", "unsubscribe"];
                assert!(known.iter().any(|known| fields["type"] == *known), "{line}");
            }
            Err(Some(id)) => {
                // What is no text, such as half of a surrogate pair, in a field that is not looked at spoils only the whole.
                if let Some(fields) = object {
                    assert_eq!(fields["id"], id, "{line}");
                }
            }
            Err(None) => {}
        }
    }
}

/// A session by lines: what begins with `{` is a message of the client, `;` divides its frames; `+N` lets N seconds pass;
/// `ok USER GRANT…`, `expired`, `wrong`, `many` and `later` say what became of a token; `wrote`, `blocked`, `ping`, `pong`, `binary`,
/// `big`, `drain N`, `rotated`, `kicked`, `done N` and `lost ID` happen.
pub fn session(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let start = Instant::now();
    let mut bench = Bench {
        session: Session::new(settings(), start),
        now: start,
        closed: false,
        verifying: false,
    };
    for line in text.lines().take(2_000) {
        bench.line(line);
        bench.check();
    }
}

fn settings() -> Arc<Settings> {
    Arc::new(Settings {
        epoch: "7f3a".into(),
        partitions: PARTITIONS,
        heartbeat: Duration::from_secs(25),
        pong: Duration::from_secs(10),
        auth: Duration::from_secs(5),
        subscriptions: SUBSCRIPTIONS,
        frames_per_second: 10,
    })
}

struct Bench {
    session: Session,
    now: Instant,
    closed: bool,
    verifying: bool,
}

impl Bench {
    fn line(&mut self, line: &str) {
        let mut words = line.split(' ');
        let word = words.next().unwrap_or_default();
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
        let message = line.replace(';', "\n");
        let lost;
        let input = match word {
            "ok" => {
                let user = words.next().map(str::to_owned);
                let grants: Vec<_> = words.map(|of| json!({"saga_type": of})).collect();
                Input::Verified(Ok(access(user, &grants.into())))
            }
            "expired" => Input::Verified(Err(NoAccess::Expired)),
            "wrong" => Input::Verified(Err(NoAccess::Wrong)),
            "many" => Input::Verified(Err(NoAccess::TooMany)),
            "later" => Input::Verified(Err(NoAccess::Unchecked)),
            "wrote" => Input::Wrote,
            "blocked" => Input::Blocked,
            "ping" => Input::Ping,
            "pong" => Input::Pong,
            "binary" => Input::Binary,
            "big" => Input::TooBig,
            "rotated" => Input::Rotated,
            "kicked" => Input::Kicked,
            "drain" => {
                let seconds = number(words.next()).unwrap_or_default();
                Input::Drain(Duration::from_secs(seconds.into()))
            }
            "done" => Input::Done(number(words.next()).unwrap_or_default().into()),
            "lost" => {
                lost = SagaKey::new("t", words.next().unwrap_or_default());
                Input::Lost(&lost)
            }
            _ if line.starts_with('{') => {
                // Nobody reads on before.
                if self.session.read_from().is_none() {
                    return;
                }
                Input::Message(&message)
            }
            _ => {
                let seconds = word.strip_prefix('+');
                let seconds = number(seconds).unwrap_or_default().min(100_000);
                self.now += Duration::from_secs(seconds.into());
                return self.session.tick(self.now);
            }
        };
        if matches!(input, Input::Verified(_)) && !std::mem::take(&mut self.verifying) {
            return;
        }
        self.session.handle(self.now, input);
    }

    fn check(&mut self) {
        while let Some(output) = self.session.poll_output() {
            assert!(!self.closed, "{output:?} after the end");
            match output {
                Output::Send(frame) => {
                    let text = frame.text();
                    let value: Value = serde_json::from_str(text).expect("a frame is JSON");
                    assert_eq!(value["type"], frame.kind());
                    assert!(!text.contains('\n'), "{text} has more than a line");
                }
                Output::Verify(_) => {
                    assert!(!self.verifying, "one token at a time");
                    self.verifying = true;
                }
                Output::Subscribe { .. } | Output::SubscribeType { .. } => {
                    assert!(self.session.rights().is_some(), "nothing without a token");
                }
                Output::Close(_) => self.closed = true,
                Output::Unsubscribe { .. }
                | Output::UnsubscribeType { .. }
                | Output::Renew(_)
                | Output::Hit(_)
                | Output::Ping => {}
            }
        }
        assert!(self.session.subscriptions() <= SUBSCRIPTIONS);
        assert_eq!(
            self.closed,
            self.session.deadline().is_none(),
            "it has something to wait for, or it is over"
        );
        if self.verifying && !self.closed {
            assert_eq!(
                self.session.read_from(),
                None,
                "nothing is read while a token is looked at"
            );
        }
    }
}

fn access(user: Option<String>, grants: &Value) -> Access {
    Access {
        rights: Arc::new(Rights::new(user, Some(grants))),
        token_id: None,
        expires_at: Timestamp(0),
        expires_in: Duration::from_secs(300),
        believed_for: Duration::from_secs(330),
    }
}
