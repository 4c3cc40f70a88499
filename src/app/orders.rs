//! Carries out what operators ask of the whole daemon, by the control socket or by SIGHUP. Never does half of a reload.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::signal::unix::Signal;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::sources::Sources;
use super::{GRACE, Half, halved};
use crate::admin::{Done, Fault, Order, Refusal, Request};
use crate::clock;
use crate::config::{Config, Source, SourceChanges};
use crate::logging;
use crate::logic::saga::Definitions;
use crate::logic::status::{Phase, SourceStatus};
use crate::metrics::Metrics;
use crate::push;
use crate::relay::Handle;
use crate::systemd;

/// A new source's database has so long to answer before a reload is refused.
const VISIT: Duration = Duration::from_secs(15);
/// What is on its way when a source pauses or is released has so long to arrive.
const ARRIVE: Duration = Duration::from_secs(60);

/// Where orders arrive, and what they are about.
pub(super) struct Orders {
    /// Its file, and how long a leader may be silent: no reload changes them.
    pub(super) file: PathBuf,
    pub(super) lease: Duration,
    /// What is in force. Held for the length of a reload, so that there is one at a time.
    pub(super) config: Mutex<Config>,
    pub(super) only: Option<Half>,
    pub(super) sources: Sources,
    pub(super) push: Option<push::Control>,
    /// What sagas should look like that begin from now on.
    pub(super) definitions: watch::Sender<Arc<Definitions>>,
    pub(super) metrics: Metrics,
    pub(super) draining: CancellationToken,
}

impl Orders {
    /// Carries orders out as they come, several at a time, until `stop`.
    pub(super) async fn serve(
        self,
        mut orders: mpsc::Receiver<Order>,
        mut hangup: Signal,
        stop: CancellationToken,
    ) {
        let mut busy = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(order) = orders.recv() => busy.push(self.carry_out(Some(order))),
                _ = hangup.recv() => busy.push(self.carry_out(None)),
                Some(()) = busy.next() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Carries one order out; none is a hang-up, which nobody hears the answer of.
    async fn carry_out(&self, order: Option<Order>) {
        let Some(Order { request, answer }) = order else {
            // Its outcome is in the log.
            let _ = self.reload().await;
            return;
        };
        let result = match request {
            Request::Reload { file, wait } => match self.is_own(&file) {
                Err(refusal) => Err(refusal),
                Ok(()) if wait => self.reload().await,
                Ok(()) => {
                    let asked =
                        "the daemon reads its configuration again; its log tells how that went";
                    let _ = answer.send(Ok(done(asked)));
                    let _ = self.reload().await;
                    return;
                }
            },
            Request::Pause { source } => self.pause(&source).await,
            Request::Resume { source } => self.resume(&source).await,
            Request::Release { source } => self.release(&source).await,
            Request::Log { filter } => change_log(&filter),
            Request::Status | Request::Kick(_) => Err(Refusal::new(Fault::Usage, "not an order")),
        };
        // Whoever asked may have gone.
        let _ = answer.send(result);
    }

    /// Whether `file` is what this daemon was started with. Another daemon's would be a mistake with consequences.
    fn is_own(&self, file: &Path) -> Result<(), Refusal> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if real(&self.file) == real(file) {
            return Ok(());
        }
        Err(Refusal::new(
            Fault::Usage,
            format_args!(
                "this daemon runs with {}, not with {}; name its file with --config",
                self.file.display(),
                file.display()
            ),
        ))
    }

    /// All of the new configuration, or nothing.
    async fn reload(&self) -> Result<Done, Refusal> {
        let mut config = self.config.lock().await;
        systemd::reloading();
        let reloaded = self.try_reload(&config).await;
        let at = reloaded.is_ok().then(|| clock::now().as_seconds());
        self.metrics.reloaded(at);
        systemd::reloaded();
        match reloaded {
            Ok((new, what)) => {
                let text = format!("reloaded {}: {what}", new.file.display());
                info!("{text}");
                *config = new;
                Ok(done(text))
            }
            Err(refusal) => {
                warn!(
                    "the configuration was not reloaded, the old one goes on: {}",
                    refusal.error
                );
                Err(refusal)
            }
        }
    }

    /// Parses, proves, connects, and only then changes anything.
    async fn try_reload(&self, old: &Config) -> Result<(Config, String), Refusal> {
        if self.draining.is_cancelled() {
            return Err(Refusal::new(Fault::Other, "the daemon is ending"));
        }
        let configuration = |error: &dyn ToString| Refusal {
            error: error.to_string(),
            fault: Fault::Configuration,
        };
        let new = Config::load(&old.file).map_err(|errors| configuration(&errors))?;
        let definitions = new.definitions().map_err(|errors| configuration(&errors))?;
        let new = halved(new, self.only);
        let fixed = old.fixed_differences(&new);
        if !fixed.is_empty() {
            return Err(configuration(&format_args!(
                "error: a reload cannot change {}: restart the daemon for that, or change it back; nothing was applied",
                listed(&fixed)
            )));
        }
        let changes = old.source_changes(&new);
        let (visited, renewal) = tokio::join!(self.visit(old, &changes), self.renewal(&new));
        let mut errors = visited;
        let fault = match &renewal {
            Ok(_) => Fault::Other,
            Err(error) => {
                errors.push(format!("error: {error}"));
                Fault::Configuration
            }
        };
        let (true, Ok(renewal)) = (errors.is_empty(), renewal) else {
            errors.push("nothing was applied".to_owned());
            return Err(Refusal::new(fault, errors.join("\n")));
        };
        if let (Some(push), Some(renewal)) = (&self.push, renewal) {
            push.apply(renewal);
        }
        self.definitions.send_replace(Arc::new(definitions));
        let SourceChanges {
            removed,
            changed,
            added,
        } = &changes;
        let going = changed.iter().map(|source| source.name.as_str());
        let going: Vec<&str> = removed.iter().map(String::as_str).chain(going).collect();
        self.sources.end(&going, GRACE).await;
        let coming: Vec<Source> = changed.iter().chain(added).cloned().collect();
        self.sources.start(&coming, &new.sources);
        Ok((new, told(&changes)))
    }

    /// What keeps new sources, and those whose database is another one, from being led.
    async fn visit(&self, old: &Config, changes: &SourceChanges) -> Vec<String> {
        let known = |source: &&Source| {
            let mut others = old.sources.iter();
            others.any(|other| other.name == source.name && other.database == source.database)
        };
        let visits = changes.added.iter().chain(&changes.changed);
        let visits = visits.filter(|source| !known(source)).map(async |source| {
            let name = &source.name;
            match timeout(VISIT, self.sources.visit(source)).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("error: source {name}: {error}")),
                Err(_) => Some(format!(
                    "error: source {name}: {} does not answer",
                    source.database.display
                )),
            }
        });
        join_all(visits).await.into_iter().flatten().collect()
    }

    async fn renewal(&self, new: &Config) -> Result<Option<push::Renewal>, push::PushError> {
        match (&self.push, &new.push) {
            (Some(push), Some(config)) => Ok(Some(push.prepare(config.clone()).await?)),
            // That there are both or none has been seen to.
            (Some(_), None) | (None, _) => Ok(None),
        }
    }

    async fn pause(&self, name: &str) -> Result<Done, Refusal> {
        let source = self.source(name)?;
        if timeout(ARRIVE, source.pause()).await.is_err() {
            return Err(late(name, "publishes what is on its way, and pauses then"));
        }
        let status = source.status().borrow().clone();
        let text = match led_elsewhere(&status) {
            Some(leader) => format!(
                "source {name} is paused here, but {leader} leads it: pause it there as well"
            ),
            None => format!(
                "source {name} is paused: this daemon keeps its lease and publishes nothing of it until: outboxd ctl resume {name}"
            ),
        };
        Ok(done(text))
    }

    async fn resume(&self, name: &str) -> Result<Done, Refusal> {
        let source = self.source(name)?;
        if timeout(ARRIVE, source.resume()).await.is_err() {
            return Err(late(name, "is about to go on"));
        }
        Ok(done(format!("source {name} is no longer paused here")))
    }

    async fn release(&self, name: &str) -> Result<Done, Refusal> {
        let source = self.source(name)?;
        let status = source.status().borrow().clone();
        if let Some(leader) = led_elsewhere(&status) {
            let error = format!("{leader} leads source {name}; ask its daemon");
            return Err(Refusal::new(Fault::Other, error));
        }
        if timeout(ARRIVE, source.release()).await.is_err() {
            return Err(late(name, "publishes what is on its way, and leaves then"));
        }
        let lease = self.lease.as_secs_f64();
        Ok(done(format!(
            "source {name} is left to other daemons for {lease} s; if none takes it, this one does again"
        )))
    }

    fn source(&self, name: &str) -> Result<Arc<Handle>, Refusal> {
        self.sources.handle(name).ok_or_else(|| {
            let names = self.sources.names();
            let there = match names.as_slice() {
                [] => "this daemon has none".to_owned(),
                names => format!("there are {}", names.join(", ")),
            };
            Refusal::new(Fault::Usage, format!("no source is called {name}; {there}"))
        })
    }
}

fn done(text: impl Into<String>) -> Done {
    Done { done: text.into() }
}

fn late(name: &str, still: &str) -> Refusal {
    let waited = ARRIVE.as_secs();
    let error = format!("source {name} was busy for {waited} s; it {still}: see outboxd status");
    Refusal::new(Fault::Other, error)
}

fn change_log(filter: &str) -> Result<Done, Refusal> {
    logging::change(filter).map_err(|error| Refusal::new(Fault::Usage, error))?;
    info!(filter, "the log's filter was changed");
    Ok(done(format!(
        "the daemon logs {filter} until it is restarted"
    )))
}

/// Another daemon that leads the source, if one does.
fn led_elsewhere(status: &SourceStatus) -> Option<&str> {
    let leader = status.leader.as_deref();
    leader.filter(|_| status.phase == Phase::Standby)
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [some @ .., last] => format!("{} and {last}", some.join(", ")),
    }
}

/// What a reload did to sources, for people.
fn told(changes: &SourceChanges) -> String {
    let names = |sources: &[Source]| sources.iter().map(|source| source.name.clone()).collect();
    let told = |what: &str, names: Vec<String>| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        (!names.is_empty()).then(|| format!("{what} {}", listed(&names)))
    };
    let parts = [
        told("added", names(&changes.added)),
        told("changed", names(&changes.changed)),
        told("removed", changes.removed.clone()),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        return "every source goes on as before".to_owned();
    }
    format!("sources {}", parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_as_people_do() {
        assert_eq!(listed(&["a"]), "a");
        assert_eq!(listed(&["a", "b"]), "a and b");
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
    }

    #[test]
    fn a_reload_says_what_became_of_sources() {
        let changes = SourceChanges {
            removed: vec!["a".to_owned(), "b".to_owned()],
            ..SourceChanges::default()
        };
        assert_eq!(told(&changes), "sources removed a and b");
        assert_eq!(
            told(&SourceChanges::default()),
            "every source goes on as before"
        );
    }
}
