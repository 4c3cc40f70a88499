//! Carries out what a session asks for, whatever its client is connected by. Decides nothing.

use std::sync::Arc;
use std::time::Instant;

use super::feed::{Ask, Mail};
use super::hub::Place;
use super::queue::Note;
use super::visit::Visit;
use crate::logic::push::partition::Sink;
use crate::logic::push::session::{Close, Input, Output, Session};
use crate::metrics::Rejected;

/// What only the transport can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing.
    Nothing,
    /// Send a ping.
    Ping,
    /// The end.
    Close(Close),
}

/// Tells the session what time it is and what partitions have said, and does what it asks for, up to what is left for the transport.
pub(super) async fn carry_out(
    visit: &mut Visit,
    place: &Place,
    session: &mut Session,
    now: Instant,
) -> Left {
    session.tick(now);
    for note in visit.who.queue.take_notes() {
        let input = match &note {
            Note::Done(tag) => Input::Done(*tag),
            Note::Lost(key) => Input::Lost(key),
            Note::Kicked => Input::Kicked,
        };
        session.handle(now, input);
    }
    while let Some(output) = session.poll_output() {
        if let Some(rights) = session.rights()
            && !Arc::ptr_eq(rights, &visit.who.rights)
        {
            visit.identify(Arc::clone(rights), session.token_id());
        }
        match output {
            Output::Verify(token) => {
                // Keys may have to be fetched for it, which takes a few seconds at the most.
                let verdict = visit.hub.access(place, &token).await;
                session.handle(Instant::now(), Input::Verified(verdict));
            }
            Output::Send(frame) => visit.who.queue.answer(frame),
            Output::Ping => return Left::Ping,
            Output::Hit(limit) => visit.hub.metrics.rejected(Rejected::Limit(limit), 1),
            Output::Close(close) => return Left::Close(close),
            Output::Subscribe { id, key, has } => {
                let saga = key.clone();
                let ask = Ask::Subscribe { id, key, has };
                visit
                    .log
                    .send(&saga, Mail::Session(visit.who.clone(), ask))
                    .await;
            }
            Output::Unsubscribe { id, key } => {
                let saga = key.clone();
                let ask = Ask::Unsubscribe { id, key };
                visit
                    .log
                    .send(&saga, Mail::Session(visit.who.clone(), ask))
                    .await;
            }
            Output::SubscribeType { saga_type, tag } => {
                let saga_type: Arc<str> = saga_type.into();
                let ask = || Ask::SubscribeType {
                    saga_type: Arc::clone(&saga_type),
                    tag,
                };
                visit.log.ask_all(&visit.who, ask).await;
            }
            Output::UnsubscribeType { saga_type, tag } => {
                let saga_type: Arc<str> = saga_type.into();
                let ask = || Ask::UnsubscribeType {
                    saga_type: Arc::clone(&saga_type),
                    tag,
                };
                visit.log.ask_all(&visit.who, ask).await;
            }
            Output::Renew(_) => visit.log.ask_all(&visit.who, || Ask::Renew).await,
        }
    }
    visit.count_subscriptions(session.subscriptions());
    Left::Nothing
}

/// Tells partitions that left something out that there is room again.
pub(super) async fn catch_up(visit: &Visit) {
    for partition in visit.who.queue.take_behind() {
        let number = usize::try_from(partition).ok();
        if let Some(mailbox) = number.and_then(|number| visit.log.partitions.get(number)) {
            // Nobody reads it any more when the log has ended.
            let _ = mailbox.send(Mail::Drained(visit.who.session)).await;
        }
    }
}
