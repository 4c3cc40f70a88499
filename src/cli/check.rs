//! `outboxd check`: what would keep a daemon from working. Reads files only, unless told to connect.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Exit, Failure, connect, load};
use crate::auth::Verifier;
use crate::config::push::Keys;
use crate::config::{Config, Property, Secret};
use crate::push;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  outboxd check --config ./outboxd.toml --connect")]
pub struct Args {
    /// Visit every database and Kafka as well, and say of each finding what to do.
    #[arg(long)]
    connect: bool,
}

pub(super) async fn execute(file: &Path, args: Args) -> Result<(), Failure> {
    let config = load(file)?;
    let definitions = config.definitions();
    let mut errors: Vec<String> = Vec::new();
    errors.extend(definitions.as_ref().err().map(ToString::to_string));
    let findings = findings(&config);
    if !findings.is_empty() {
        let list: Vec<_> = findings.iter().map(|it| format!("error: {it}\n")).collect();
        let count = counted(findings.len(), "error");
        errors.push(format!(
            "{}\n{count} in what {} names",
            list.join(""),
            file.display()
        ));
    }
    if !errors.is_empty() {
        return Err(Failure {
            exit: Exit::Config,
            message: errors.join("\n\n"),
        });
    }
    let mut found = vec![counted(config.sources.len(), "source")];
    found.push(
        if config.push.is_some() {
            "push"
        } else {
            "no push"
        }
        .to_owned(),
    );
    if config.saga_definitions.is_some() {
        found.push(counted(definitions?.all().count(), "saga definition"));
    }
    writeln!(
        io::stdout().lock(),
        "{}: ok ({})",
        file.display(),
        found.join(", ")
    )?;
    if args.connect {
        connect::execute(config).await?;
    }
    Ok(())
}

/// "no sources", "1 source", "2 sources".
fn counted(count: usize, of: &str) -> String {
    match count {
        0 => format!("no {of}s"),
        1 => format!("1 {of}"),
        count => format!("{count} {of}s"),
    }
}

/// What is wrong with the files and secrets that the configuration names, each with its key.
fn findings(config: &Config) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, property) in &config.kafka.properties {
        match property {
            Property::Secret(reference) => {
                findings.extend(secret(&format!("kafka.properties.\"{name}\""), reference));
            }
            Property::Plain(path) if name.ends_with(".location") && path != "probe" => {
                findings.extend(readable(
                    &format!("kafka.properties.\"{name}\""),
                    Path::new(path),
                ));
            }
            Property::Plain(_) => {}
        }
    }
    for source in &config.sources {
        let key = |key: &str| format!("sources.{}.{key}", source.name);
        findings.extend(
            source
                .database
                .password
                .iter()
                .filter_map(|it| secret(&key("password"), it)),
        );
        let tls = &source.database.tls;
        findings.extend(
            tls.root
                .iter()
                .filter_map(|root| readable(&key("url, sslrootcert"), root)),
        );
        if let Some((certificate, private)) = &tls.client {
            findings.extend(readable(&key("url, sslcert"), certificate));
            findings.extend(private_key(&key("url, sslkey"), private));
        }
    }
    if let Some(ours) = &config.push {
        if let Some(tls) = &ours.tls {
            findings.extend(push::examine_tls(tls).err().map(|error| error.to_string()));
        }
        findings.extend(match &ours.auth.keys {
            // Nothing that is a file.
            Keys::Jwks(_) => None,
            Keys::Pem(_) | Keys::Secret(_) => Verifier::new(&ours.auth)
                .err()
                .map(|error| error.to_string()),
        });
    }
    findings
}

fn secret(key: &str, reference: &Secret) -> Option<String> {
    let error = reference.read().err()?;
    let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})"));
    Some(format!("{key}: {error}{}", cause.unwrap_or_default()))
}

fn readable(key: &str, path: &Path) -> Option<String> {
    // A directory is fine: OpenSSL takes one of authorities.
    let error = File::open(path).err()?;
    Some(format!(
        "{key}: cannot read {}: {error}; create it, or mend the path",
        path.display()
    ))
}

fn private_key(key: &str, path: &Path) -> Option<String> {
    let open = path
        .metadata()
        .is_ok_and(|metadata| metadata.mode() & 0o004 != 0);
    let path_shown = path.display();
    let open = open.then(|| {
        format!("{key}: {path_shown} can be read by everybody; run: chmod o-r {path_shown}")
    });
    open.or_else(|| readable(key, path))
}
