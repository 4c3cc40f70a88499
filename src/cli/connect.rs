//! `outboxd check --connect`: visits databases, Kafka and the issuer of tokens as a doctor does, and changes nothing there.

use std::io::Write;

use super::{Exit, Failure};
use crate::auth::Verifier;
use crate::config::Config;
use crate::config::push::{Auth, Keys};
use crate::kafka::{self, Clients};
use crate::logic::finding::{Finding, Level};
use crate::outbox::doctor;

pub(super) async fn execute(config: Config) -> Result<(), Failure> {
    let clients = Clients::new(config.kafka.clone(), &config.relay.instance);
    let names: Vec<String> = config
        .sources
        .iter()
        .map(|source| source.name.clone())
        .collect();
    let mut findings = kafka::examine(&clients, &names).await;
    for source in &config.sources {
        findings.extend(doctor::examine(source).await);
    }
    if let Some(push) = &config.push {
        findings.extend(issuer(&push.auth).await);
    }
    let mut out = std::io::stdout().lock();
    for finding in &findings {
        writeln!(out, "{finding}")?;
    }
    verdict(&findings)
}

/// Whether an issuer that is to be asked for keys has some that do.
async fn issuer(auth: &Auth) -> Option<Finding> {
    let Keys::Jwks(url) = &auth.keys else {
        return None;
    };
    let fetched = async { Verifier::new(auth)?.fetch().await };
    let (level, text) = match fetched.await {
        Ok(0) => {
            let text = format!(
                "{url} has no key that fits push.auth.algorithms; name those that the issuer signs with"
            );
            (Level::Config, text)
        }
        Ok(keys) => (Level::Good, format!("{url} has {keys} keys that fit")),
        Err(error) => (Level::Unreachable, error.to_string()),
    };
    Some(Finding::new("issuer", level, text))
}

/// The worst finding decides about the exit code.
fn verdict(findings: &[Finding]) -> Result<(), Failure> {
    let problems = findings
        .iter()
        .filter(|finding| finding.level > Level::Advice)
        .count();
    let exit = match findings.iter().map(|finding| finding.level).max() {
        None | Some(Level::Good | Level::Advice) => return Ok(()),
        Some(Level::Shape) => Exit::Shape,
        Some(Level::Unreachable) => Exit::Unreachable,
        Some(Level::Privilege) => Exit::Privilege,
        Some(Level::Config) => Exit::Config,
    };
    Err(Failure::new(
        exit,
        format!("{problems} problems found, see above"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides() {
        let findings = |levels: &[Level]| -> Vec<Finding> {
            levels
                .iter()
                .map(|level| Finding::new("t", *level, "x"))
                .collect()
        };
        let exit = |levels: &[Level]| verdict(&findings(levels)).err().map(|failure| failure.exit);
        assert_eq!(exit(&[]), None);
        assert_eq!(exit(&[Level::Good, Level::Advice]), None);
        assert_eq!(exit(&[Level::Good, Level::Shape]), Some(Exit::Shape));
        assert_eq!(
            exit(&[Level::Shape, Level::Unreachable]),
            Some(Exit::Unreachable)
        );
        assert_eq!(
            exit(&[Level::Privilege, Level::Unreachable]),
            Some(Exit::Privilege)
        );
    }
}
