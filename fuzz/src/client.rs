//! A client that knows the rule of `docs/push-protocol.md` and nothing else. Panics at a gap.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use outboxd::logic::push::frames::Frame;
use outboxd::logic::push::partition::Sink;
use serde_json::Value;

/// The queue of one client, and what the client makes of what it takes out.
#[derive(Debug, Clone)]
pub struct Client(Rc<RefCell<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    room: usize,
    queue: Vec<Arc<Frame>>,
    behind: bool,
    /// By id: version and state.
    sagas: HashMap<String, (i64, Value)>,
}

impl Client {
    /// One whose queue takes so many frames.
    pub fn with(room: usize) -> Self {
        Self(Rc::new(RefCell::new(Seen {
            room,
            ..Seen::default()
        })))
    }

    /// Forgets all but these sagas.
    pub fn keep(&self, saga_ids: &[String]) {
        let mut seen = self.0.borrow_mut();
        seen.sagas.retain(|id, _| saga_ids.contains(id));
    }

    /// The version that it has of a saga.
    pub fn version(&self, saga_id: &str) -> Option<i64> {
        self.0
            .borrow()
            .sagas
            .get(saga_id)
            .map(|(version, _)| *version)
    }

    /// What it has of a saga.
    pub fn saga(&self, saga_id: &str) -> Option<(i64, Value)> {
        self.0.borrow().sagas.get(saga_id).cloned()
    }

    /// Takes everything out of its queue; whether something had been left out.
    pub fn read(&self) -> bool {
        let mut seen = self.0.borrow_mut();
        for frame in std::mem::take(&mut seen.queue) {
            assert!(
                !frame.text().contains('\n'),
                "{} has more than a line",
                frame.text()
            );
            let frame: Value = serde_json::from_str(frame.text()).expect("a frame is JSON");
            seen.take(&frame);
        }
        std::mem::take(&mut seen.behind)
    }
}

impl Seen {
    fn take(&mut self, frame: &Value) {
        let Some(version) = frame["version"].as_i64() else {
            return;
        };
        let id = frame["saga_id"]
            .as_str()
            .expect("a saga has an id")
            .to_owned();
        let have = self.sagas.get(&id).map(|(version, _)| *version);
        match frame["type"].as_str() {
            Some("snapshot") if have.is_none_or(|have| have <= version) => {
                self.sagas.insert(id, (version, frame["state"].clone()));
            }
            Some("change") if frame["previous"].as_i64() == have => {
                let saga = self.sagas.entry(id).or_default();
                saga.0 = version;
                if !frame["state"].is_null() {
                    saga.1 = frame["state"].clone();
                }
            }
            Some("change") => assert!(
                have.is_some_and(|have| version <= have),
                "a gap: {frame} after {have:?}"
            ),
            _ => {}
        }
    }
}

impl Sink for Client {
    fn offer(&self, frame: &Arc<Frame>) -> bool {
        let mut seen = self.0.borrow_mut();
        let fits = seen.queue.len() < seen.room;
        if fits {
            seen.queue.push(Arc::clone(frame));
        }
        fits
    }

    fn answer(&self, frame: Arc<Frame>) {
        self.0.borrow_mut().queue.push(frame);
    }

    fn behind(&self, _: i32) {
        self.0.borrow_mut().behind = true;
    }
}
