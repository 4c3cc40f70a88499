//! Taking over a source: nothing is sent before everything that was published is known to the database.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::pump::Pump;
use super::{Left, Relay, RelayError, Replace};
use crate::failpoint::{self, Point, Sabotage, sabotaged};
use crate::kafka::{ALONE, CheckpointLog, Clients, CreatedTopic, Publisher};
use crate::logic::checkpoint::{self, Reconcile, Settled};
use crate::logic::event::Timestamp;
use crate::logic::health::Beat;
use crate::logic::status::Phase;
use crate::outbox::{Seat, Session, Standing};

impl Relay {
    /// Leads the source until something ends it; `Ok` after the lease was handed back.
    pub(super) async fn lead(
        &mut self,
        mut session: Session,
        seat: Seat,
        epoch: i64,
        stop: &CancellationToken,
    ) -> Result<Left, RelayError> {
        self.status.send_modify(|status| {
            status.phase = Phase::TakingOver;
            status.leader = Some(self.shared.me.instance.clone());
        });
        let incarnation = incarnation(&seat);
        let (publisher, standing, until) =
            match self.take_over(&mut session, epoch, &incarnation).await {
                Ok(taken) => taken,
                Err(error) => {
                    if let RelayError::Halt(halt) = &error {
                        self.halted = Some((seat.incarnation, halt.clone()));
                    }
                    if let Err(error) = self.take_stock(&mut session, epoch).await {
                        debug!(source = %self.source.name, %error, "cannot count what waits");
                    }
                    return Err(error);
                }
            };
        self.halted = None;
        if self.complaint.is_none() {
            info!(source = %self.source.name, epoch, batch = standing.batch, "leading");
        }
        self.metrics.leader.set(1.0);
        let pump = Pump::new(
            self,
            session,
            publisher,
            epoch,
            incarnation,
            standing,
            until,
        )
        .await?;
        let ended = pump.run(stop).await;
        self.metrics.leader.set(0.0);
        ended
    }

    /// From the lease to a database that knows all that was published.
    ///
    /// The new producer comes first: it ends its predecessor's transaction, so that what is read
    /// back afterwards is all there will ever be.
    async fn take_over(
        &self,
        session: &mut Session,
        epoch: i64,
        incarnation: &str,
    ) -> Result<(Publisher, Standing, Option<Timestamp>), RelayError> {
        let hold = self.hold(epoch);
        let publisher = keep(hold, session, async {
            self.ensure_topics(&self.checkpoint_topic()).await?;
            self.open_publisher().await
        });
        let publisher = publisher.await?;
        let (clients, source) = (&self.shared.clients, &self.source.name);
        let (standing, until) = read_back(clients, source, session, incarnation, hold).await?;
        Ok((publisher, standing, until))
    }

    /// Another producer for a leader that goes on, in the same session and with the same epoch, when nothing of what it
    /// published is in doubt; `batch` is the last of it, and settled.
    ///
    /// It is for a producer whose last commit was answered with success, but so late that the library may have asked
    /// twice. That transaction is committed, whichever of the two was answered; only the other one, should it still be
    /// under way, could end the *next* transaction of this producer. It cannot end one of the successor, whose epoch
    /// in Kafka is higher when `open_publisher` returns. Beyond that this is the end of a take-over, and for the same
    /// reasons: the lease may have gone to another daemon before the new producer fenced it, so it is looked at
    /// afterwards; and a leader of the same source in another copy of the database would have left a checkpoint.
    pub(super) async fn replace_publisher(
        &self,
        session: &mut Session,
        epoch: i64,
        incarnation: &str,
        batch: i64,
    ) -> Result<Publisher, RelayError> {
        failpoint::pass(Point::Replace);
        let hold = self.hold(epoch);
        let publisher = keep(hold, session, self.open_publisher()).await?;
        if sabotaged(Sabotage::ReplaceBlindly) {
            return Ok(publisher);
        }
        let (clients, source) = (&self.shared.clients, &self.source.name);
        let (found, _) = read_back(clients, source, session, incarnation, hold).await?;
        if found.batch == batch {
            Ok(publisher)
        } else {
            Err(RelayError::Replace(Replace::Overtaken))
        }
    }

    async fn open_publisher(&self) -> Result<Publisher, RelayError> {
        let clients = &self.shared.clients;
        let id = format!("{}/{}", clients.prefix(), self.source.name);
        let queue = self.metrics.queue_messages.clone();
        Ok(Publisher::open(clients, &id, self.batch_bytes(), queue).await?)
    }

    /// How large the producer's batches may be.
    pub(super) fn batch_bytes(&self) -> usize {
        if self.alone {
            ALONE
        } else {
            self.shared.topics.batch_bytes()
        }
    }

    fn hold(&self, epoch: i64) -> Hold<'_> {
        Hold {
            beat: &self.beat,
            epoch,
            lease: self.shared.lease,
        }
    }

    /// Nothing moves until a take-over succeeds, and what waits grows: operators shall see that.
    async fn take_stock(&self, session: &mut Session, epoch: i64) -> Result<(), RelayError> {
        let standing = session.standing(epoch).await?;
        self.count(session, &standing.position).await?;
        self.rotate(session).await?;
        Ok(())
    }

    pub(super) fn checkpoint_topic(&self) -> String {
        checkpoint_topic(&self.shared.clients, &self.source.name)
    }

    async fn ensure_topics(&self, checkpoints: &str) -> Result<(), RelayError> {
        let topics = &self.shared.topics;
        let retention = [
            ("cleanup.policy", "delete"),
            ("retention.ms", "604800000"),
            ("retention.bytes", "1073741824"),
        ];
        let checkpoints = CreatedTopic {
            name: checkpoints,
            partitions: 1,
            config: &retention,
        };
        topics.ensure(&checkpoints).await?;
        Ok(topics.ensure_sagas().await?)
    }
}

/// The name of a source's checkpoint topic.
pub fn checkpoint_topic(clients: &Clients, source: &str) -> String {
    format!("{}.checkpoints.{source}", clients.prefix())
}

/// What is kept alive while Kafka is waited for: the lease, and the word that we are not stuck.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hold<'a> {
    pub(super) beat: &'a Beat,
    pub(super) epoch: i64,
    pub(super) lease: Duration,
}

/// Includes in the database what was published and not settled; after it nothing is in doubt.
pub(super) async fn read_back(
    clients: &Clients,
    source: &str,
    session: &mut Session,
    incarnation: &str,
    hold: Hold<'_>,
) -> Result<(Standing, Option<Timestamp>), RelayError> {
    let Hold { epoch, lease, .. } = hold;
    let mut standing = session.standing(epoch).await?;
    if sabotaged(Sabotage::NoReadBack) {
        return Ok((standing, None));
    }
    let topic = checkpoint_topic(clients, source);
    let open = CheckpointLog::open(clients, &topic, standing.checkpoint_next);
    let mut log = keep(hold, session, async { Ok(open.await?) }).await?;
    let settled = Settled {
        incarnation: incarnation.to_owned(),
        timeline: session.identity.timeline,
        batch: standing.batch,
        next: standing.checkpoint_next,
    };
    let mut reconcile = Reconcile::new(settled, log.ends)?;
    let mut until = None;
    while let Some(record) = keep(hold, session, async { Ok(log.next().await?) }).await? {
        let Some(found) = reconcile.take(record.offset, &record.value)? else {
            continue;
        };
        let next = record.offset + checkpoint::OFFSETS;
        let lost = session.absorb(epoch, &found, next).await?;
        debug!(%source, batch = found.batch, "found a published batch");
        if lost > 0 {
            warn!(
                %source, batch = found.batch, lost,
                "the database has lost events that are published; was it failed over to a standby that lagged?"
            );
        }
        failpoint::pass(Point::ReadBack);
        standing.batch = found.batch;
        standing.checkpoint_next = next;
        until = Some(found.until);
    }
    reconcile.finish()?;
    session.renew(epoch, lease).await?;
    Ok((standing, until))
}

/// Which database the events come from: its cluster, its place there, and the schema's own mark.
pub(super) fn incarnation(seat: &Seat) -> String {
    format!(
        "{}/{}/{}",
        seat.system_identifier, seat.database_oid, seat.incarnation
    )
}

/// A producer that is being opened fences whoever leads, so that a lease that is lost has to be noticed soon.
const LOOK: Duration = Duration::from_secs(1);

/// Waits for Kafka while the lease is kept alive.
async fn keep<T>(
    hold: Hold<'_>,
    session: &Session,
    work: impl Future<Output = Result<T, RelayError>>,
) -> Result<T, RelayError> {
    let mut work = std::pin::pin!(work);
    loop {
        hold.beat.tick(Instant::now());
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(LOOK.min(hold.lease / 3)) => session.renew(hold.epoch, hold.lease).await?,
        }
    }
}
