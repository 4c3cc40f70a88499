//! Where log lines go and how they look: to stderr, as text on a terminal and as JSON elsewhere.
//!
//! Never decides what is worth a line.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Level of everything that `OUTBOXD_LOG` does not name.
const LEVEL: &str = "info";

/// librdkafka says much at info that the relay says better; `OUTBOXD_LOG=info,librdkafka=debug` brings it back.
const QUIET: &str = "librdkafka=warn";

/// What should be a filter is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "this is not a log filter; write a level (error, warn, info, debug, trace) or \
     target=level pairs, such as info,outboxd::kafka=debug"
)]
pub struct LogError;

/// How the filter of the running log is changed.
type Change = Box<dyn Fn(EnvFilter) + Send + Sync>;

/// Set once the process logs.
static CHANGE: OnceLock<Change> = OnceLock::new();

/// Begins to log, once in a process. `filter` is what `OUTBOXD_LOG` holds.
///
/// # Errors
/// When the filter is none.
pub fn start(filter: Option<&str>) -> Result<(), LogError> {
    let filter = parse(filter)?;
    // A second start changes nothing; only tests have one.
    if std::io::stderr().is_terminal() {
        let (subscriber, change) = text(filter, std::io::stderr, true);
        begin(subscriber, change);
    } else {
        let (subscriber, change) = json(filter, std::io::stderr);
        begin(subscriber, change);
    }
    Ok(())
}

fn begin(subscriber: impl Subscriber + Send + Sync, change: Change) {
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let _ = CHANGE.set(change);
    }
}

/// Logs what another filter says, from now on.
///
/// # Errors
/// When the filter is none; the old one goes on.
pub fn change(filter: &str) -> Result<(), LogError> {
    let filter = parse(Some(filter))?;
    if let Some(change) = CHANGE.get() {
        change(filter);
    }
    Ok(())
}

fn parse(filter: Option<&str>) -> Result<EnvFilter, LogError> {
    let filter = filter.unwrap_or_default().trim();
    let words = filter
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    let mut directives = vec![LEVEL, QUIET];
    for word in words {
        if !word.contains(['=', '[']) {
            // A bare word could be a target, too, but is a misspelt level as a rule, and would silence the log.
            let level: LevelFilter = word.parse().map_err(|_| LogError)?;
            if level < LevelFilter::WARN {
                directives.retain(|directive| *directive != QUIET);
            }
        }
        directives.push(word);
    }
    // A later directive for the same target wins.
    EnvFilter::builder()
        .parse(directives.join(","))
        .map_err(|_| LogError)
}

fn text<W>(filter: EnvFilter, writer: W, ansi: bool) -> (impl Subscriber + Send + Sync, Change)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        .with_writer(writer)
        .with_filter_reloading();
    let handle = builder.reload_handle();
    // It fails when nobody logs any more.
    let change = move |filter: EnvFilter| drop(handle.reload(filter));
    (builder.finish(), Box::new(change))
}

fn json<W>(filter: EnvFilter, writer: W) -> (impl Subscriber + Send + Sync, Change)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(writer)
        .with_filter_reloading();
    let handle = builder.reload_handle();
    let change = move |filter: EnvFilter| drop(handle.reload(filter));
    (builder.finish(), Box::new(change))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn logged(filter: Option<&str>) -> Vec<serde_json::Value> {
            let lines = Self::default();
            let writer = lines.clone();
            let (subscriber, _) = json(parse(filter).unwrap(), move || writer.clone());
            tracing::subscriber::with_default(subscriber, || {
                tracing::info!(source = "orders", "leads");
                tracing::debug!("detail");
                tracing::info!(target: "librdkafka", "chatter");
                tracing::warn!(target: "librdkafka", "trouble");
            });
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }
    }

    fn messages(filter: Option<&str>) -> Vec<String> {
        let message = |line: &serde_json::Value| line["message"].as_str().unwrap().to_owned();
        Lines::logged(filter).iter().map(message).collect()
    }

    #[test]
    fn a_line_is_json_with_its_fields_at_the_top() {
        let lines = Lines::logged(None);
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[0]["message"], "leads");
        assert_eq!(lines[0]["source"], "orders");
        assert!(lines[0]["timestamp"].is_string());
    }

    #[test]
    fn librdkafka_is_heard_from_warnings_on_unless_asked_for() {
        assert_eq!(messages(None), ["leads", "trouble"]);
        assert_eq!(messages(Some("debug")), ["leads", "detail", "trouble"]);
        assert_eq!(
            messages(Some("info,librdkafka=info")),
            ["leads", "chatter", "trouble"]
        );
        assert_eq!(messages(Some("warn")), ["trouble"]);
        assert_eq!(messages(Some("off")), [""; 0]);
        assert_eq!(messages(Some(" ")), ["leads", "trouble"]);
        assert_eq!(messages(Some("elsewhere=debug")), ["leads", "trouble"]);
    }

    #[test]
    fn the_filter_of_a_running_log_is_changed() {
        let lines = Lines::default();
        let writer = lines.clone();
        let (subscriber, change) = json(parse(None).unwrap(), move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("before");
            change(parse(Some("debug")).unwrap());
            tracing::debug!("between");
            change(parse(Some("warn")).unwrap());
            tracing::info!("after");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("between"), "{text}");
        assert!(
            !text.contains("before") && !text.contains("after"),
            "{text}"
        );
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for filter in ["loud", "info,outboxd=very", "="] {
            assert!(parse(Some(filter)).is_err(), "{filter}");
        }
    }
}
