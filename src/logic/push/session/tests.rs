//! Holds a session to the contract's words on tokens, limits, signs of life and the end. Never waits: time is given.

use proptest::prelude::*;

use super::*;
use crate::logic::event::Timestamp;

fn settings() -> Arc<Settings> {
    Arc::new(Settings {
        epoch: "7f3a".into(),
        partitions: 2,
        heartbeat: secs(25),
        pong: secs(10),
        auth: secs(5),
        subscriptions: 2,
        frames_per_second: 10,
    })
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn access(user: &str, grants: &[&str], expires_in_s: u64) -> Access {
    let grants: Vec<_> = grants
        .iter()
        .map(|grant| serde_json::json!({"saga_type": grant}))
        .collect();
    Access {
        rights: Arc::new(Rights::new(Some(user.to_owned()), Some(&grants.into()))),
        token_id: None,
        expires_at: Timestamp(0),
        expires_in: secs(expires_in_s),
        believed_for: secs(expires_in_s + 30),
    }
}

struct Bench {
    session: Session,
    start: Instant,
}

impl Bench {
    fn new() -> Self {
        let start = Instant::now();
        let session = Session::new(settings(), start);
        Self { session, start }
    }

    fn in_session(grants: &[&str]) -> Self {
        let start = Instant::now();
        let session = Session::with_token(settings(), start, Ok(access("c-7", grants, 300)));
        let mut bench = Self { session, start };
        bench.outputs();
        bench
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + secs(seconds)
    }

    fn takes(&mut self, input: Input<'_>) -> Vec<String> {
        self.session.handle(self.start, input);
        self.outputs()
    }

    fn says(&mut self, text: &str) -> Vec<String> {
        self.takes(Input::Message(text))
    }

    fn at_tick(&mut self, seconds: u64) -> Vec<String> {
        self.session.tick(self.at(seconds));
        self.outputs()
    }

    /// What it asks for, in short.
    fn outputs(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.session.poll_output())
            .map(short)
            .collect()
    }

    fn deadline(&self) -> u64 {
        self.session
            .deadline()
            .map_or(9999, |at| (at - self.start).as_secs())
    }
}

fn short(output: Output) -> String {
    match output {
        Output::Verify(token) => format!("verify {token}"),
        Output::Send(frame) => {
            let frame: serde_json::Value = serde_json::from_str(frame.text()).unwrap();
            let detail =
                ["code", "mode", "in_s", "refresh_in_s"].map(|name| frame[name].to_string());
            let detail = detail.iter().filter(|text| *text != "null");
            let detail: String = detail
                .map(|text| format!(" {}", text.trim_matches('"')))
                .collect();
            let id = frame["id"]
                .as_u64()
                .map_or(String::new(), |id| format!(" #{id}"));
            format!("{}{id}{detail}", frame["type"].as_str().unwrap())
        }
        Output::Subscribe { key, has, .. } => format!("subscribe {} {has:?}", key.saga_id),
        Output::Unsubscribe { key, .. } => format!("unsubscribe {}", key.saga_id),
        Output::SubscribeType { saga_type, tag } => format!("subscribe all {saga_type} {tag}"),
        Output::UnsubscribeType { saga_type, tag } => format!("unsubscribe all {saga_type} {tag}"),
        Output::Renew(_) => "renew".into(),
        Output::Ping => "ping".into(),
        Output::Hit(limit) => format!("hit {limit:?}"),
        Output::Close(close) => format!("close {}", close.code()),
    }
}

const AUTH: &str = r#"{"type":"auth","id":1,"token":"T"}"#;

fn subscribe(id: u64, saga: &str) -> String {
    format!(r#"{{"type":"subscribe","id":{id},"saga_type":"t","saga_id":"{saga}"}}"#)
}

const ALL: &str = r#"{"type":"subscribe","id":9,"saga_type":"t"}"#;

#[test]
fn a_token_and_a_request_may_come_in_one_message() {
    let mut bench = Bench::new();
    let both = format!("{AUTH}\n{}\n", subscribe(2, "a"));
    assert_eq!(bench.says(&both), ["verify T"]);
    assert_eq!(bench.session.read_from(), None, "nothing is read meanwhile");
    let seen = bench.takes(Input::Verified(Ok(access("c-7", &[], 300))));
    assert_eq!(seen, ["ready #1 210", "subscribe a None"]);
}

#[test]
fn without_a_token_nothing_is_shown_and_time_runs_out() {
    let mut bench = Bench::new();
    assert_eq!(bench.says(&subscribe(2, "a")), ["error #2 bad_request"]);
    assert_eq!(bench.deadline(), 5);
    assert_eq!(bench.at_tick(4), [""; 0]);
    assert_eq!(bench.at_tick(5), ["bye 4028", "close 4028"]);
    assert_eq!(bench.says(AUTH), [""; 0], "closed is closed");
}

#[test]
fn each_refusal_has_its_code() {
    let refusals = [
        (NoAccess::Expired, "4101"),
        (NoAccess::Unchecked, "4029"),
        (NoAccess::Wrong, "4201"),
        (NoAccess::TooMany, "4229"),
    ];
    for (why, code) in refusals {
        let mut bench = Bench::new();
        bench.says(AUTH);
        let seen = bench.takes(Input::Verified(Err(why)));
        assert_eq!(seen, [format!("bye {code}"), format!("close {code}")]);
    }
}

#[test]
fn a_version_of_another_epoch_is_none() {
    let mut bench = Bench::in_session(&[]);
    let with = |epoch: &str| {
        format!(r#"{{"type":"subscribe","saga_type":"t","saga_id":"a",{epoch}"version":8}}"#)
    };
    assert_eq!(
        bench.says(&with(r#""epoch":"7f3a","#)),
        ["subscribe a Some(8)"]
    );
    assert_eq!(
        bench.says(&with(r#""epoch":"beef","#)),
        ["subscribe a None"]
    );
    assert_eq!(bench.says(&with("")), ["subscribe a None"]);
}

#[test]
fn there_is_a_limit_of_subscriptions_and_repeating_one_is_none() {
    let mut bench = Bench::in_session(&[]);
    bench.says(&subscribe(1, "a"));
    bench.says(&subscribe(2, "b"));
    assert_eq!(bench.says(&subscribe(3, "b")), ["subscribe b None"]);
    assert_eq!(
        bench.says(&subscribe(4, "c")),
        ["hit Subscriptions", "error #4 too_many_subscriptions"]
    );
    bench.says(r#"{"type":"unsubscribe","id":5,"saga_type":"t","saga_id":"a"}"#);
    assert_eq!(bench.says(&subscribe(6, "c")), ["subscribe c None"]);
    let lost = SagaKey::new("t", "b");
    bench.takes(Input::Lost(&lost));
    assert_eq!(bench.session.subscriptions(), 1);
}

#[test]
fn a_whole_type_needs_a_grant_and_lives_when_every_partition_is_done() {
    let mut bench = Bench::in_session(&[]);
    assert_eq!(bench.says(ALL), ["error #9 forbidden"]);
    let mut bench = Bench::in_session(&["t"]);
    assert_eq!(bench.says(ALL), ["subscribe all t 1"]);
    assert_eq!(bench.takes(Input::Done(1)), [""; 0]);
    assert_eq!(bench.takes(Input::Done(1)), ["subscribed #9 live"]);
    assert_eq!(bench.takes(Input::Done(1)), [""; 0]);
}

#[test]
fn a_type_that_is_asked_for_again_or_ended_meanwhile_lives_once_or_never() {
    let mut bench = Bench::in_session(&["t"]);
    bench.says(ALL);
    bench.takes(Input::Done(1));
    assert_eq!(bench.says(ALL), ["subscribe all t 2"]);
    assert_eq!(bench.takes(Input::Done(1)), [""; 0]);
    bench.takes(Input::Done(2));
    let end = r#"{"type":"unsubscribe","id":10,"saga_type":"t"}"#;
    assert_eq!(bench.says(end), ["unsubscribe all t 3"]);
    assert_eq!(bench.takes(Input::Done(2)), [""; 0]);
    bench.takes(Input::Done(3));
    assert_eq!(bench.takes(Input::Done(3)), ["unsubscribed #10"]);
}

#[test]
fn another_token_renews_and_ends_what_it_has_no_grant_for() {
    let mut bench = Bench::in_session(&["t"]);
    bench.says(ALL);
    bench.says(AUTH);
    let seen = bench.takes(Input::Verified(Ok(access("c-7", &[], 600))));
    assert_eq!(seen, ["ready #1 420", "unsubscribe all t 2", "renew"]);
    bench.takes(Input::Done(2));
    assert_eq!(bench.takes(Input::Done(2)), ["error forbidden"]);
    assert_eq!(bench.session.subscriptions(), 0);
    for quarter in 1..=22 {
        bench.session.handle(bench.at(quarter * 25), Input::Wrote);
        bench.session.handle(bench.at(quarter * 25), Input::Pong);
        bench.session.tick(bench.at(quarter * 25));
    }
    assert!(!bench.outputs().iter().any(|seen| seen.starts_with("close")));
}

#[test]
fn an_expiring_token_is_announced_and_its_end_is_the_sessions() {
    let mut bench = Bench::in_session(&[]);
    let mut seen = Vec::new();
    for second in 1..=330 {
        bench.session.handle(bench.at(second), Input::Pong);
        seen.extend(bench.at_tick(second).into_iter().map(|what| (second, what)));
    }
    seen.retain(|(_, what)| what != "ping" && what != "heartbeat");
    let expected = [(270, "expiring 30"), (330, "bye 4101"), (330, "close 4101")];
    assert_eq!(seen, expected.map(|(at, what)| (at, what.to_owned())));
}

#[test]
fn a_token_that_lasts_for_ever_is_taken() {
    let mut bench = Bench::new();
    bench.says(AUTH);
    let mut forever = access("c-7", &[], 0);
    (forever.expires_in, forever.believed_for) = (Duration::MAX, Duration::MAX);
    bench.takes(Input::Verified(Ok(forever)));
    assert_eq!(bench.deadline(), 25);
}

#[test]
fn silence_is_broken_by_a_heartbeat_and_no_pong_is_the_end() {
    let mut bench = Bench::in_session(&[]);
    assert_eq!(bench.deadline(), 25);
    bench.session.handle(bench.at(20), Input::Wrote);
    assert_eq!(bench.at_tick(25), ["ping"], "a frame was sent at 20");
    assert_eq!(bench.deadline(), 35);
    assert_eq!(bench.at_tick(34), [""; 0]);
    bench.session.handle(bench.at(34), Input::Pong);
    assert_eq!(bench.at_tick(45), ["heartbeat"]);
    assert_eq!(bench.at_tick(50), ["ping"]);
    assert_eq!(bench.at_tick(60), ["bye 4009", "close 4009"]);
}

#[test]
fn who_takes_nothing_is_neither_asked_nor_missed_until_it_is_too_late() {
    let mut bench = Bench::in_session(&[]);
    bench.session.handle(bench.at(24), Input::Blocked);
    bench.session.handle(bench.at(30), Input::Blocked);
    assert_eq!(bench.at_tick(53), [""; 0]);
    assert_eq!(bench.deadline(), 54);
    assert_eq!(bench.at_tick(54), ["bye 4008", "close 4008"]);
    let mut bench = Bench::in_session(&[]);
    assert_eq!(bench.at_tick(25), ["heartbeat", "ping"]);
    bench.session.handle(bench.at(25), Input::Blocked);
    bench.session.handle(bench.at(50), Input::Wrote);
    assert_eq!(bench.at_tick(59), ["ping"], "the first reached it at 50");
    assert_eq!(bench.at_tick(60), ["bye 4009", "close 4009"]);
}

#[test]
fn a_token_in_its_leeway_is_believed_no_longer_for_being_shown_late() {
    let mut bench = Bench::new();
    bench.says(AUTH);
    let mut late = access("c-7", &[], 0);
    late.believed_for = secs(7);
    bench.takes(Input::Verified(Ok(late)));
    assert_eq!(bench.at_tick(6), ["expiring 0"]);
    assert_eq!(bench.at_tick(7), ["bye 4101", "close 4101"]);
}

#[test]
fn pings_count_towards_the_rate() {
    let mut bench = Bench::in_session(&[]);
    for _ in 0..150 {
        assert_eq!(bench.takes(Input::Ping), [""; 0]);
    }
    assert_eq!(bench.takes(Input::Ping), ["hit Rate"]);
    assert_eq!(bench.takes(Input::Ping), [""; 0], "once each time");
    assert!(bench.session.read_from().unwrap() > bench.start);
}

#[test]
fn the_tenth_frame_that_is_none_is_the_last() {
    let mut bench = Bench::in_session(&[]);
    for _ in 1..10 {
        assert_eq!(
            bench.says(r#"{"type":"dance","id":3}"#),
            ["error #3 bad_request"]
        );
    }
    assert_eq!(
        bench.says("}"),
        ["error bad_request", "bye 4200", "close 4200"]
    );
}

#[test]
fn what_is_no_text_or_too_big_is_the_end() {
    let cases = [
        (Input::Binary, 4200),
        (Input::TooBig, 4213),
        (Input::Rotated, 4010),
        (Input::Kicked, 4102),
    ];
    for (input, code) in cases {
        let seen = Bench::in_session(&[]).takes(input);
        assert_eq!(seen, [format!("bye {code}"), format!("close {code}")]);
    }
}

#[test]
fn a_draining_daemon_sends_each_away_at_its_turn() {
    let mut bench = Bench::in_session(&[]);
    assert_eq!(bench.takes(Input::Drain(secs(7))), [""; 0]);
    assert_eq!(bench.deadline(), 7);
    assert_eq!(bench.at_tick(7), ["bye 4001", "close 4001"]);
}

#[test]
fn a_client_may_send_a_burst_and_is_then_read_slower() {
    let mut bench = Bench::in_session(&[]);
    for _ in 0..150 {
        assert!(bench.session.read_from().unwrap() <= bench.start);
        bench.says(&subscribe(1, "a"));
    }
    let next = bench.session.read_from().unwrap() - bench.start;
    assert_eq!(next, Duration::ZERO, "the burst is just used up");
    bench.says(&subscribe(1, "a"));
    let next = bench.session.read_from().unwrap() - bench.start;
    assert_eq!(next, Duration::from_millis(100));
}

#[test]
fn a_new_token_is_due_with_a_third_of_the_time_left_but_not_at_once() {
    let due = [
        (300, 210),
        (3600, 2520),
        (120, 60),
        (60, 10),
        (5, 3),
        (0, 0),
    ];
    for (left, refresh) in due {
        assert_eq!(refresh_in_s(left), refresh, "{left}");
    }
}

proptest! {
    /// Whatever a client sends: no panic, and at most one end, which is the last thing.
    #[test]
    fn any_text_is_answered(texts in prop::collection::vec("[ -~\n]{0,60}|\\{\"type\":\"(auth|subscribe|unsubscribe)\"[^\n]{0,40}", 0..20)) {
        let mut bench = Bench::in_session(&["t"]);
        let mut seen = Vec::new();
        for text in texts {
            seen.extend(bench.says(&text));
        }
        let end = seen.iter().position(|what| what.starts_with("close"));
        prop_assert!(end.is_none_or(|end| end == seen.len() - 1));
    }
}
