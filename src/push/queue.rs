//! What waits for one client: frames that partitions put in and the connection's task takes out. Never waits, never grows past its bound.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::logic::push::frames::Frame;
use crate::logic::push::partition::Sink;
use crate::logic::saga::SagaKey;

/// The queue of one connection.
#[derive(Debug)]
pub(super) struct Queue {
    limit_bytes: usize,
    waiting: Mutex<Waiting>,
    /// Something was put in.
    pub(super) filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Arc<Frame>>,
    bytes: usize,
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
            waiting: Mutex::default(),
            filled: Notify::new(),
        })
    }

    /// Takes out the oldest frames: at least one if there is one, and no further one past `bytes`.
    pub(super) fn take(&self, bytes: usize) -> Vec<Arc<Frame>> {
        let mut waiting = self.waiting();
        let mut taken = Vec::new();
        let mut left = bytes;
        while let Some(frame) = waiting.frames.front()
            && (taken.is_empty() || frame.text().len() <= left)
        {
            left = left.saturating_sub(frame.text().len());
            taken.extend(waiting.frames.pop_front());
        }
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

    /// Partitions that left something out, once half of the queue is free.
    pub(super) fn take_behind(&self) -> BTreeSet<i32> {
        let mut waiting = self.waiting();
        if waiting.bytes > self.limit_bytes / 2 {
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
        *self.waiting() = Waiting::default();
    }

    fn put(&self, frame: Arc<Frame>, bound: usize) -> bool {
        let mut waiting = self.waiting();
        let length = frame.text().len();
        // What is larger than the whole queue has to go some time.
        let fits = waiting.bytes == 0 || waiting.bytes + length <= bound;
        if fits {
            waiting.bytes += length;
            waiting.frames.push_back(frame);
            self.filled.notify_one();
        }
        fits
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Arc<Queue> {
    fn offer(&self, frame: &Arc<Frame>) -> bool {
        self.put(Arc::clone(frame), self.limit_bytes)
    }

    fn answer(&self, frame: Arc<Frame>) {
        self.put(frame, usize::MAX);
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
