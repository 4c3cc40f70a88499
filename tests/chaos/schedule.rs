//! Which faults come in which order, how long each lasts and what rests lie between: all drawn from the seed before anything
//! starts. When exactly each of them falls depends on the machine, and is not part of it.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::writers::Dice;

/// What is done to the deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Kill,
    Freeze,
    Stop,
    BrokerKill,
    BrokerFreeze,
    Cut,
    LateCommit,
    Crash,
    Terminate,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Kill,
        Self::Freeze,
        Self::Stop,
        Self::BrokerKill,
        Self::BrokerFreeze,
        Self::Cut,
        Self::LateCommit,
        Self::Crash,
        Self::Terminate,
    ];

    /// What the report calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "daemon: SIGKILL",
            Self::Freeze => "daemon: SIGSTOP past its lease, SIGCONT",
            Self::Stop => "daemon: clean stop",
            Self::BrokerKill => "Kafka: SIGKILL and restart",
            Self::BrokerFreeze => "Kafka: SIGSTOP for 5 to 20 s",
            Self::Cut => "Kafka: all connections cut",
            Self::LateCommit => "Kafka: a commit held back, delivered late",
            Self::Crash => "PostgreSQL: immediate stop and restart",
            Self::Terminate => "PostgreSQL: sessions of outboxd terminated",
        }
    }

    /// By which sign it is known to have had an effect.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Kill => "it led a source, and the lease was taken with a new epoch",
            Self::Freeze => "the other daemon took the lease meanwhile",
            Self::Stop => "it ended with 0, and the lease was taken with a new epoch",
            Self::BrokerKill => "a new process served, and events were published again",
            Self::BrokerFreeze => "no source published meanwhile, and then again",
            Self::Cut => "the proxy cut open connections, and events were published again",
            Self::LateCommit => "the proxy kept a commit, and delivered it after others",
            Self::Crash => "a new postmaster, and every source was taken with a new epoch",
            Self::Terminate => "a session ended, and the source was taken with a new epoch",
        }
    }
}

/// One fault, and the rest before it.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Step {
    pub(crate) kind: Kind,
    pub(crate) rest: Duration,
    /// How long what is done lasts, where that is ours to say.
    pub(crate) length: Duration,
    /// Whom it meets, modulo how many there are.
    pub(crate) target: usize,
}

/// One queue for each thread that inflicts faults.
#[derive(Debug, Hash)]
pub(crate) struct Schedule {
    /// Faults of each deployment's daemons.
    pub(crate) lanes: Vec<VecDeque<Step>>,
    /// Faults of Kafka.
    pub(crate) kafka: VecDeque<Step>,
    /// Faults of PostgreSQL.
    pub(crate) postgres: VecDeque<Step>,
}

impl Schedule {
    pub(crate) fn draw(seed: u64, kills: usize, others: usize, lanes: usize) -> Self {
        let mut dice = Dice(seed);
        let mut draw = |kinds: &[(Kind, usize)], rests: [u64; 2]| -> VecDeque<Step> {
            let mut steps: Vec<Step> = Vec::new();
            for (kind, count) in kinds {
                steps.extend((0..*count).map(|_| step(&mut dice, *kind, rests)));
            }
            for last in (1..steps.len()).rev() {
                let other = usize::try_from(dice.below(last as u64 + 1)).unwrap();
                steps.swap(last, other);
            }
            steps.into()
        };
        let share = |count: usize, lane: usize| (count + lanes - 1 - lane) / lanes;
        let daemons = |lane| {
            [
                (Kind::Kill, share(kills, lane)),
                (Kind::Freeze, share(others, lane)),
                (Kind::Stop, share(others, lane)),
            ]
        };
        Self {
            lanes: (0..lanes)
                .map(|lane| draw(&daemons(lane), [300, 3000]))
                .collect(),
            kafka: draw(
                &[
                    (Kind::BrokerKill, others),
                    (Kind::BrokerFreeze, others),
                    (Kind::Cut, others),
                    (Kind::LateCommit, others),
                ],
                [6000; 2],
            ),
            postgres: draw(
                &[(Kind::Crash, others), (Kind::Terminate, others)],
                [30_000; 2],
            ),
        }
    }

    /// Tells two schedules apart.
    pub(crate) fn digest(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// Rests are below the one or the other bound, each in half of the cases.
fn step(dice: &mut Dice, kind: Kind, rests: [u64; 2]) -> Step {
    let rest = rests[usize::from(dice.one_in(2))];
    let length_ms = match kind {
        Kind::BrokerFreeze => 5000 + dice.below(15_000),
        Kind::LateCommit => 200 + dice.below(2800),
        // Mostly it is back at once; sometimes so late that the other daemon has taken over.
        Kind::Kill if dice.one_in(4) => dice.below(5000),
        Kind::Kill
        | Kind::Freeze
        | Kind::Stop
        | Kind::BrokerKill
        | Kind::Cut
        | Kind::Crash
        | Kind::Terminate => 0,
    };
    Step {
        kind,
        rest: Duration::from_millis(dice.below(rest)),
        length: Duration::from_millis(length_ms),
        target: usize::try_from(dice.below(1000)).unwrap(),
    }
}
