//! What waits for one client: frames that partitions put in and the connection's task takes out. Never waits, never grows past its
//! bounds of bytes and age.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::logic::push::frames::Frame;
use crate::logic::push::partition::Sink;
use crate::logic::saga::SagaKey;

/// Behind a frame that has waited for so long no other one queues: a snapshot will be news, and it would not.
const AGE: Duration = Duration::from_secs(10);

/// The queue of one connection.
#[derive(Debug)]
pub(super) struct Queue {
    limit_bytes: usize,
    waiting: Mutex<Waiting>,
    /// Something was put in.
    pub(super) filled: Notify,
}

#[derive(Debug)]
struct Waiting {
    frames: VecDeque<(Instant, Arc<Frame>)>,
    bytes: usize,
    /// When the client took something, or could have.
    taken_at: Instant,
    /// Nobody waits for the client any more.
    given_up: bool,
    /// Partitions that left something out.
    behind: BTreeSet<i32>,
    notes: Vec<Note>,
}

/// What a partition says to a session, or an operator.
#[derive(Debug)]
pub(super) enum Note {
    /// It has done what this tag was given for.
    Done(u64),
    /// It has ended a subscription.
    Lost(SagaKey),
    /// An operator sends the client away.
    Kicked,
}

impl Queue {
    /// An empty one that takes so many bytes.
    pub(super) fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            limit_bytes,
            waiting: Mutex::new(Waiting::since(Instant::now())),
            filled: Notify::new(),
        })
    }

    /// Takes out the oldest frames: at least one if there is one, and no further one past `bytes`.
    pub(super) fn take(&self, bytes: usize) -> Vec<Arc<Frame>> {
        let mut waiting = self.waiting();
        let mut taken = Vec::new();
        let mut left = bytes;
        while let Some((_, frame)) = waiting.frames.front()
            && (taken.is_empty() || frame.text().len() <= left)
        {
            left = left.saturating_sub(frame.text().len());
            let frame = waiting.frames.pop_front();
            taken.extend(frame.map(|(_, frame)| frame));
        }
        waiting.taken_at = Instant::now();
        waiting.bytes -= taken.iter().map(|frame| frame.text().len()).sum::<usize>();
        if waiting.frames.is_empty() {
            // Most connections are idle most of the time.
            waiting.frames = VecDeque::new();
        }
        taken
    }

    /// The bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.waiting().bytes
    }

    /// Whether the client should first take what it has asked for, before it asks for more.
    pub(super) fn is_full(&self) -> bool {
        self.bytes() >= self.limit_bytes
    }

    /// Partitions that left something out, once half of the queue is free and nothing old waits in it.
    pub(super) fn take_behind(&self) -> BTreeSet<i32> {
        let mut waiting = self.waiting();
        if waiting.bytes > self.limit_bytes / 2 || waiting.is_old(Instant::now()) {
            return BTreeSet::new();
        }
        std::mem::take(&mut waiting.behind)
    }

    /// Tells the session.
    pub(super) fn note(&self, note: Note) {
        self.waiting().notes.push(note);
        self.filled.notify_one();
    }

    /// What the session has been told.
    pub(super) fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut self.waiting().notes)
    }

    /// Throws everything away: the client will not read it.
    pub(super) fn clear(&self) {
        *self.waiting() = Waiting::since(Instant::now());
    }

    /// Whether something waits that the client has not taken for so long.
    pub(super) fn is_stuck(&self, patience: Duration) -> bool {
        let waiting = self.waiting();
        let since = waiting
            .frames
            .front()
            .map(|(put, _)| waiting.taken_at.max(*put));
        since.is_some_and(|since| since.elapsed() >= patience)
    }

    /// Throws everything away and takes nothing any more: nobody will read it.
    pub(super) fn give_up(&self) {
        let mut waiting = self.waiting();
        *waiting = Waiting::since(Instant::now());
        waiting.given_up = true;
    }

    /// Whether it was given up.
    pub(super) fn is_given_up(&self) -> bool {
        self.waiting().given_up
    }

    fn put(&self, frame: Arc<Frame>, now: Instant, may_wait: bool) -> bool {
        let mut waiting = self.waiting();
        let length = frame.text().len();
        // What is larger than the whole queue has to go some time.
        let fits = waiting.bytes == 0
            || (waiting.bytes + length <= self.limit_bytes && !waiting.is_old(now));
        let taken = (fits || may_wait) && !waiting.given_up;
        if taken {
            waiting.bytes += length;
            waiting.frames.push_back((now, frame));
            self.filled.notify_one();
        }
        taken
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn since(now: Instant) -> Self {
        Self {
            frames: VecDeque::new(),
            bytes: 0,
            taken_at: now,
            given_up: false,
            behind: BTreeSet::new(),
            notes: Vec::new(),
        }
    }

    fn is_old(&self, now: Instant) -> bool {
        let oldest = self.frames.front();
        oldest.is_some_and(|(put, _)| now.duration_since(*put) >= AGE)
    }
}

impl Sink for Arc<Queue> {
    fn offer(&self, frame: &Arc<Frame>) -> bool {
        self.put(Arc::clone(frame), Instant::now(), false)
    }

    fn answer(&self, frame: Arc<Frame>) {
        self.put(frame, Instant::now(), true);
    }

    fn behind(&self, partition: i32) {
        self.waiting().behind.insert(partition);
        self.filled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize) -> Arc<Frame> {
        Frame::of(&"x".repeat(length))
    }

    #[test]
    fn what_does_not_fit_is_refused_but_answers_and_the_first_always_fit() {
        let queue = Queue::new(10);
        assert!(queue.offer(&frame(11)), "alone");
        assert!(!queue.offer(&frame(1)));
        queue.answer(frame(5));
        assert_eq!(queue.bytes(), 16);
        assert!(queue.is_full());
        assert_eq!(queue.take(100).len(), 2);
        assert!(queue.offer(&frame(10)));
        assert!(!queue.offer(&frame(1)));
    }

    #[test]
    fn frames_leave_in_order_and_no_more_than_asked_for() {
        let queue = Queue::new(100);
        for length in [5, 6, 7] {
            queue.offer(&frame(length));
        }
        let lengths = |frames: Vec<Arc<Frame>>| -> Vec<usize> {
            frames.iter().map(|frame| frame.text().len()).collect()
        };
        assert_eq!(lengths(queue.take(11)), [5, 6]);
        assert_eq!(lengths(queue.take(1)), [7], "at least one");
        assert_eq!(lengths(queue.take(1)), [0; 0]);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn nothing_queues_behind_what_is_old_but_answers() {
        let queue = Queue::new(100);
        let start = Instant::now();
        assert!(queue.put(frame(1), start, false));
        let late = start + AGE;
        assert!(queue.put(frame(1), late - Duration::from_millis(1), false));
        assert!(!queue.put(frame(1), late, false));
        assert!(queue.put(frame(1), late, true));
        queue.take(1);
        assert!(queue.put(frame(1), late, false), "the next is younger");
    }

    #[test]
    fn who_takes_nothing_is_stuck_only_while_something_waits() {
        let queue = Queue::new(100);
        assert!(!queue.is_stuck(Duration::ZERO));
        queue.offer(&frame(1));
        assert!(queue.is_stuck(Duration::ZERO));
        assert!(!queue.is_stuck(Duration::from_secs(60)));
        queue.give_up();
        assert!(queue.is_given_up() && !queue.is_stuck(Duration::ZERO));
        assert!(!queue.offer(&frame(1)));
    }

    #[test]
    fn who_left_something_out_is_named_once_there_is_room() {
        let queue = Queue::new(10);
        queue.offer(&frame(10));
        queue.behind(3);
        assert!(queue.take_behind().is_empty());
        queue.take(100);
        assert_eq!(queue.take_behind(), BTreeSet::from([3]));
        assert!(queue.take_behind().is_empty());
    }
}
