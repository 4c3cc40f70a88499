//! The command line as its users meet it: the program itself, its exit codes and what it prints.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

#[path = "cli/definitions.rs"]
mod definitions;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run of the program left.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outboxd"));
    command.env_clear().stdin(Stdio::null());
    command
}

fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn outboxd(args: &[&str]) -> Ran {
    ran(program().args(args))
}

/// A directory with a configuration in it.
struct Place(tempfile::TempDir);

impl Place {
    fn with(text: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.file(), text).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("outboxd.toml")
    }

    fn config(&self) -> String {
        self.file().to_str().unwrap().to_owned()
    }

    fn secret(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
}

const WRONG: &str = r#"[kafka]
bootstrap_server = "127.0.0.1:9092"
prefix = "Shop"

[kafka.properties]
"acks" = "1"
"sasl.password" = "tiger"

[relay]
lease = "1s"

[sources.orders]
url = "postgres://outboxd:tiger@db.example/orders"
batch = { linger = "5 ms" }

[sources.payments]
password = { file = "payments" }
"#;

const SAID: &str = r#"error: [kafka] has no key `bootstrap_server`
 --> FILE:2:1
  |
2 | bootstrap_server = "***"
  | ^^^^^^^^^^^^^^^^
  = help: did you mean `bootstrap_servers`?

error: `prefix`: this cannot be part of a topic name
 --> FILE:3:10
  |
3 | prefix = "Shop"
  |          ^^^^^^
  = help: use 1 to 63 of a-z 0-9 . _ - and begin with a letter or digit

error: the property `acks` is not yours to set
 --> FILE:6:1
  |
6 | "acks" = "1"
  | ^^^^^^
  = help: outboxd waits for all replicas, or a broker's crash could lose events

error: `sasl.password` is a secret and does not belong into this file
 --> FILE:7:19
  |
7 | "sasl.password" = "***"
  |                   ^^^^^
  = help: write { file = "…" }, { credential = "…" } or { env = "…" }

error: `lease`: this is too small
  --> FILE:10:9
   |
10 | lease = "1s"
   |         ^^^^
   = help: allowed is "2s" to "1h"

error: `url`: a database URL must not hold a password
  --> FILE:13:7
   |
13 | url = "postgres://outboxd:***@db.example/orders"
   |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   = help: take it out; it goes into a file of its own: password = { file = "…" } beside url, or --password-file on the command line

error: `linger`: this is not a duration
  --> FILE:14:20
   |
14 | batch = { linger = "5 ms" }
   |                    ^^^^^^
   = help: write a whole number and ms, s, m, h or d, such as "250ms" or "10s"

error: `url` is missing in [sources.payments]
  --> FILE:16:10
   |
16 | [sources.payments]
   |          ^^^^^^^^
   = help: add it; config/outboxd.toml explains every key

8 errors in FILE
"#;

#[test]
fn every_error_of_a_file_is_told_at_once_with_its_place() {
    let place = Place::with(WRONG);
    for args in [
        vec!["check"],
        vec!["config", "show"],
        vec!["run"],
        vec!["status"],
    ] {
        let ran = ran(program().args(&args).args(["--config", &place.config()]));
        assert_eq!(ran.code, 78, "{args:?}");
        assert_eq!(ran.err, SAID.replace("FILE", &place.config()), "{args:?}");
        assert_eq!(ran.out, "", "{args:?}");
    }
}

#[test]
fn the_file_is_named_before_or_after_the_command_or_by_a_variable() {
    let (place, wrong) = (Place::with(""), Place::with("colour = 1"));
    let (good, bad) = (place.config(), wrong.config());
    for args in [
        vec!["--config", &good, "check"],
        vec!["check", "--config", &good],
        vec!["--config", &good, "config", "show"],
        vec!["config", "--config", &good, "show"],
        vec!["config", "show", "--config", &good],
    ] {
        assert_eq!(outboxd(&args).code, 0, "{args:?}");
        // What is said on the command line wins.
        assert_eq!(
            ran(program().args(&args).env("OUTBOXD_CONFIG", &bad)).code,
            0,
            "{args:?}"
        );
    }
    assert_eq!(
        ran(program().arg("check").env("OUTBOXD_CONFIG", &good)).code,
        0
    );
    assert_eq!(
        ran(program().arg("check").env("OUTBOXD_CONFIG", &bad)).code,
        78
    );
}

#[test]
fn a_file_that_cannot_be_read_is_a_configuration_error_that_says_so() {
    let place = Place::with("");
    let absent = place.path("absent.toml");
    let ran = outboxd(&["run", "--config", absent.to_str().unwrap()]);
    assert_eq!(ran.code, 78);
    assert!(
        ran.err
            .contains("cannot read the configuration: No such file"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains(absent.to_str().unwrap()), "{}", ran.err);
    assert!(
        ran.err.contains("--config or OUTBOXD_CONFIG"),
        "{}",
        ran.err
    );
    assert_eq!(
        outboxd(&["check", "--config", place.0.path().to_str().unwrap()]).code,
        78
    );
    fs::write(place.file(), b"[kafka]\nprefix = \"\xff\"\n").unwrap();
    let ran = outboxd(&["check", "--config", &place.config()]);
    assert_eq!(ran.code, 78);
    assert!(
        ran.err.contains("line 2 of the configuration is not UTF-8"),
        "{}",
        ran.err
    );
    fs::write(place.file(), vec![b'\n'; (1 << 20) + 1]).unwrap();
    assert!(
        outboxd(&["check", "--config", &place.config()])
            .err
            .contains("more than 1 MiB")
    );
    fs::write(place.file(), vec![b'\n'; 1 << 20]).unwrap();
    assert_eq!(outboxd(&["check", "--config", &place.config()]).code, 0);
}

#[test]
fn wrong_arguments_end_with_64() {
    for args in [
        vec![],
        vec!["relay"],
        vec!["config"],
        vec!["dead-letters"],
        vec!["run", "--only", "both"],
        vec!["run", "now"],
        vec!["check", "--colour"],
        vec!["--config"],
        vec!["dead-letters", "show"],
    ] {
        let ran = outboxd(&args);
        assert_eq!(ran.code, 64, "{args:?}");
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{args:?}");
    }
}

#[test]
fn a_log_filter_that_is_none_is_a_configuration_error() {
    let place = Place::with("");
    let ran = ran(program()
        .args(["check", "--config", &place.config()])
        .env("OUTBOXD_LOG", "loud"));
    assert_eq!(ran.code, 78);
    assert!(
        ran.err.contains("OUTBOXD_LOG: this is not a log filter"),
        "{}",
        ran.err
    );
}

/// Every command with its sub-commands, as words.
fn commands(command: &clap::Command, path: &[String], all: &mut Vec<Vec<String>>) {
    all.push(path.to_vec());
    for inner in command.get_subcommands() {
        let path: Vec<_> = path
            .iter()
            .cloned()
            .chain([inner.get_name().to_owned()])
            .collect();
        commands(inner, &path, all);
    }
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let mut all = Vec::new();
    commands(&outboxd::cli::command(), &[], &mut all);
    assert!(all.len() >= 10, "{all:?}");
    for path in all {
        let ran = ran(program().args(&path).arg("--help"));
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{path:?}");
        let example = ran.out.split_once("Example:\n  outboxd ");
        let (_, example) =
            example.unwrap_or_else(|| panic!("{path:?} has no example:\n{}", ran.out));
        let words: Vec<_> = example.split_whitespace().collect();
        let mut rest = words.iter();
        let of_this = path.iter().all(|word| rest.any(|other| *other == word));
        assert!(
            of_this,
            "the example of {path:?} is of another command: {example}"
        );
        assert!(ran.out.contains("--config <FILE>"), "{path:?}");
    }
    let ran = outboxd(&["--version"]);
    assert_eq!(
        (ran.code, ran.out),
        (0, format!("outboxd {}\n", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn every_command_has_a_manual_page() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().to_str().unwrap();
    assert_eq!(outboxd(&["man", "--out", out]).code, 0);
    let mut all = Vec::new();
    commands(&outboxd::cli::command(), &[], &mut all);
    let mut pages = 0;
    for path in &all {
        let name = [&["outboxd".to_owned()], path.as_slice()]
            .concat()
            .join("-");
        let page = fs::read_to_string(directory.path().join(format!("{name}.1"))).unwrap();
        assert!(page.contains("Example:"), "{name}:\n{page}");
        pages += 1;
    }
    assert_eq!(fs::read_dir(out).unwrap().count(), pages);
    let first = outboxd(&["man"]);
    let written = fs::read_to_string(directory.path().join("outboxd.1")).unwrap();
    assert!(first.out.contains(".SH NAME\noutboxd"), "{}", first.out);
    assert!(written.contains(".SH NAME\noutboxd"), "{written}");
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = outboxd(&["completions", shell]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{shell}");
        for word in ["dead-letters", "reload", "release"] {
            assert!(ran.out.contains(word), "{shell} does not know {word}");
        }
    }
    assert_eq!(outboxd(&["completions", "cmd"]).code, 64);
}

#[test]
fn what_prints_a_table_prints_json_as_well() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli");
    let mut printing = 0;
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() || path.ends_with("table.rs") {
            continue;
        }
        let folder = fs::read_dir(path.with_extension("")).into_iter().flatten();
        let files = folder
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file());
        let command = [path].into_iter().chain(files);
        let command: String = command
            .map(|path| fs::read_to_string(path).unwrap())
            .collect();
        let prints = command.contains("table::render(");
        assert!(!prints || command.contains("json: bool"), "{command}");
        printing += usize::from(prints);
    }
    assert_eq!(printing, 5);
}

#[test]
fn what_config_show_prints_is_a_configuration_that_shows_the_same() {
    let place = Place::with(
        "[kafka.properties]\n\"sasl.password\" = { env = \"KAFKA\" }\n\"client.id\" = \"ä \\\"x\\\" \\\\ \\n\"\n\
         [sources.orders]\nurl = \"postgres://u@db.example/orders?sslrootcert=ca.pem\"\n\
         password = { file = \"orders\" }\n[sagas]\ndefinitions = \"s/*.toml\"\n",
    );
    let first = ran(program()
        .args(["config", "show", "--config", &place.config()])
        .env("KAFKA", "tiger"));
    assert_eq!((first.code, first.err.as_str()), (0, ""));
    assert!(
        first
            .out
            .contains("\"sasl.password\" = { env = \"KAFKA\" }\n"),
        "{}",
        first.out
    );
    assert!(first.out.contains("lease = \"10s\"\n"), "{}", first.out);
    assert!(!first.out.contains("tiger"), "{}", first.out);
    // Elsewhere it means the same: its paths are absolute.
    let elsewhere = Place::with(&first.out);
    let second = outboxd(&["config", "show", "--config", &elsewhere.config()]);
    assert_eq!((second.code, second.out), (0, first.out));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let place = Place::with("");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = ran_into(
        program().args(["config", "show", "--config", &place.config()]),
        writer,
    );
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

fn ran_into(command: &mut Command, out: std::io::PipeWriter) -> Ran {
    let child = command.stdout(out).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::new(),
        err,
    }
}

#[test]
fn check_reads_what_the_file_names_and_tells_all_that_is_amiss() {
    let place = Place::with(
        "[kafka.properties]\n\"sasl.password\" = { env = \"KAFKA\" }\n\"ssl.ca.location\" = \"ca.pem\"\n\
         [sources.orders]\nurl = \"postgres://u@h/orders?sslcert=tls.crt&sslkey=tls.key\"\n\
         password = { file = \"orders\" }\n\
         [sources.payments]\nurl = \"postgres://u@h/payments\"\npassword = { credential = \"payments\" }\n",
    );
    place.secret("orders", "tiger\n", 0o644);
    place.secret("tls.key", "tiger\n", 0o644);
    let check = |variables: &[(&str, &str)]| {
        let mut command = program();
        command
            .args(["check", "--config", &place.config()])
            .envs(variables.iter().copied());
        ran(&mut command)
    };
    let ran = check(&[]);
    assert_eq!((ran.code, ran.out.as_str()), (78, ""));
    for say in [
        "kafka.properties.\"sasl.password\": the variable KAFKA is not set",
        "kafka.properties.\"ssl.ca.location\": cannot read",
        "sources.orders.password: the secret file",
        "can be read by everybody; run: chmod o-r",
        "sources.orders.url, sslcert: cannot read",
        "sources.orders.url, sslkey:",
        "sources.payments.password: there is no credential payments",
        "6 errors in what",
    ] {
        assert!(ran.err.contains(say), "{say}\n{}", ran.err);
    }
    assert!(!ran.err.contains("tiger"), "{}", ran.err);

    for (name, mode) in [
        ("orders", 0o600),
        ("tls.key", 0o600),
        ("payments", 0o400),
        ("ca.pem", 0o644),
        ("tls.crt", 0o644),
    ] {
        place.secret(name, "tiger", mode);
    }
    let directory = place.0.path().to_str().unwrap().to_owned();
    let ran = check(&[("KAFKA", "tiger"), ("CREDENTIALS_DIRECTORY", &directory)]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(
        ran.out,
        format!("{}: ok (2 sources, no push)\n", place.config())
    );
}

const ISSUER: &str = "[push.auth]\nissuer = \"https://id.example\"\n";
/// Thirty-two bytes.
const TIGER: &str = "tigertigertigertigertigertigerti";

/// A place whose tokens are made with a secret.
fn place_with_secret() -> Place {
    let keys = "algorithms = [\"HS256\"]\nkeys = { secret = { file = \"secret\" } }\n";
    let place = Place::with(&format!("{ISSUER}{keys}"));
    place.secret("secret", &format!("{TIGER}\n"), 0o600);
    place
}

fn token(place: &Place, args: &[&str]) -> Ran {
    let mut command = program();
    ran(command
        .args(["token", "--config", &place.config()])
        .args(args))
}

/// Made for a user with these further arguments.
fn created(place: &Place, args: &[&str]) -> String {
    let ran = token(place, &[&["create", "--sub", "c-7"], args].concat());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let token = ran.out.strip_suffix('\n').unwrap();
    assert_eq!(token.split('.').count(), 3, "{token}");
    token.to_owned()
}

#[test]
fn a_token_that_was_created_is_believed() {
    let place = place_with_secret();
    let shown = token(&place, &["check", &created(&place, &[])]);
    assert_eq!((shown.code, shown.err.as_str()), (0, ""));
    for say in [
        "user        c-7\n",
        "grants      none",
        "expires at  2",
        "token id    ",
    ] {
        assert!(shown.out.contains(say), "{say}\n{}", shown.out);
    }
    let lists = [
        "--grant",
        r#"[{"saga_type":"refund"},{"saga_type":"ship"}]"#,
        "--grant",
        r#"{"saga_type":"create-order"}"#,
        "--ttl",
        "365d",
    ];
    let shown = token(&place, &["check", "--json", &created(&place, &lists)]);
    assert_eq!((shown.code, shown.err.as_str()), (0, ""));
    let shown: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(shown["accepted"], true);
    assert_eq!(shown["user"], "c-7");
    assert_eq!(
        shown["grants"],
        serde_json::json!(["create-order", "refund", "ship"])
    );
    let every = created(&place, &["--grant", r#"{"saga_type":"*"}"#]);
    let shown = token(&place, &["check", &every]);
    assert!(shown.out.contains("every saga type"), "{}", shown.out);
}

#[test]
fn a_token_is_read_from_standard_input() {
    let place = place_with_secret();
    fs::write(
        place.path("token"),
        format!("  {}\n\n", created(&place, &[])),
    )
    .unwrap();
    let check = |name: &str| {
        ran(program()
            .args(["token", "check", "-", "--config", &place.config()])
            .stdin(fs::File::open(place.path(name)).unwrap()))
    };
    let shown = check("token");
    assert_eq!((shown.code, shown.err.as_str()), (0, ""));
    assert!(shown.out.contains("c-7"), "{}", shown.out);
    fs::write(place.path("much"), vec![0xff; 1 << 20]).unwrap();
    let shown = check("much");
    assert_eq!((shown.code, shown.out.as_str()), (77, ""));
    assert!(shown.err.contains("more than 8 KiB"), "{}", shown.err);
}

#[test]
fn a_token_that_is_refused_is_told_why_but_not_shown() {
    let place = place_with_secret();
    let good = created(&place, &[]);
    let other = place_with_secret();
    other.secret("secret", &TIGER.replace("ger", "GER"), 0o600);
    let elsewhere = Place::with(
        &fs::read_to_string(place.file())
            .unwrap()
            .replace("id.example", "id.test"),
    );
    elsewhere.secret("secret", TIGER, 0o600);
    for (place, given, why) in [
        (&place, "tiger", "not a signed JSON web token"),
        (&other, good.as_str(), "its signature fits no key"),
        (
            &elsewhere,
            &good,
            "its `iss` is \"https://id.example\", not push.auth.issuer",
        ),
    ] {
        let shown = token(place, &["check", given]);
        assert_eq!((shown.code, shown.out.as_str()), (77, ""));
        assert!(
            shown.err.starts_with("error: the token is refused: ") && shown.err.contains(why),
            "{}",
            shown.err
        );
        assert!(!shown.err.contains(given), "{}", shown.err);
        let shown = token(place, &["check", given, "--json"]);
        assert_eq!((shown.code, shown.err.as_str()), (77, ""));
        let said: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
        assert_eq!(
            (&said["accepted"], &said["expired"]),
            (&false.into(), &false.into())
        );
        assert!(said["why"].as_str().unwrap().contains(why), "{said}");
    }
}

#[test]
fn what_cannot_be_put_into_a_token_is_a_wrong_argument() {
    let place = place_with_secret();
    let many = format!("[{}]", [r#"{"saga_type":"a"}"#; 101].join(","));
    let long = format!(r#"[{{"saga_type":"{}"}}]"#, "a".repeat(8192));
    for (args, say) in [
        (vec!["--grant", "create-order"], "this is not JSON"),
        (vec!["--grant", r#""*""#], "number 1: a grant is an object"),
        (vec!["--grant", r#"{"type":"*"}"#], "needs \"saga_type\""),
        (
            vec![
                "--grant",
                r#"[{"saga_type":"a"},{"saga_type":"b","states":[]}]"#,
            ],
            "number 2: a grant has no field but \"saga_type\"",
        ),
        (vec!["--grant", &many], "at most 100 grants"),
        (vec!["--grant", &long], "more than 8 KiB"),
        (vec!["--ttl", "0s"], "1s to 365d"),
        (vec!["--ttl", "366d"], "1s to 365d"),
        (vec!["--ttl", "1500ms"], "1s to 365d"),
        (vec!["--ttl", "soon"], "this is not a duration"),
        (vec!["--sub", ""], "a value is required"),
    ] {
        let of_somebody = if args.contains(&"--sub") {
            vec!["create"]
        } else {
            vec!["create", "--sub", "c-7"]
        };
        let ran = token(&place, &[of_somebody, args].concat());
        assert_eq!((ran.code, ran.out.as_str()), (64, ""), "{say}");
        assert!(ran.err.contains(say), "{say}\n{}", ran.err);
    }
    assert_eq!(token(&place, &["create"]).code, 64);
    assert_eq!(token(&place, &["check"]).code, 64);
}

#[test]
fn without_the_keys_for_it_no_token_is_made_or_believed() {
    let pem = Place::with(&format!("{ISSUER}keys = {{ pem = \"keys.pem\" }}\n"));
    let jwks = "keys = { jwks_url = \"https://id.example/jwks.json\" }\n";
    let jwks = Place::with(&format!("{ISSUER}{jwks}"));
    let create: &[&str] = &["create", "--sub", "c-7"];
    let check: &[&str] = &["check", "tiger"];
    let short = place_with_secret();
    short.secret("secret", "tiger\n", 0o600);
    for (place, args, say) in [
        (&Place::with(""), create, "has no [push]"),
        (&Place::with(""), check, "has no [push]"),
        (&pem, create, "only a secret makes tokens"),
        (&pem, check, "push.auth.keys: cannot read"),
        (&jwks, create, "only a secret makes tokens"),
        (&short, create, "has 5 bytes and needs 32"),
        (&short, check, "has 5 bytes and needs 32"),
    ] {
        let ran = token(place, args);
        assert_eq!((ran.code, ran.out.as_str()), (78, ""), "{say}");
        assert!(ran.err.contains(say), "{say}\n{}", ran.err);
        assert!(!ran.err.contains("tiger"), "{}", ran.err);
    }
    let nobody = "keys = { jwks_url = \"http://127.0.0.1:1/jwks.json\" }\n";
    let ran = token(&Place::with(&format!("{ISSUER}{nobody}")), check);
    assert_eq!((ran.code, ran.out.as_str()), (69, ""));
    let say = "push.auth.keys: http://127.0.0.1:1/jwks.json: cannot connect";
    assert!(ran.err.contains(say), "{}", ran.err);
}

#[test]
fn check_tells_of_keys_that_cannot_check_a_token() {
    let said = |place: &Place| {
        let ran = outboxd(&["check", "--config", &place.config()]);
        assert!(!ran.err.contains("tiger"), "{}", ran.err);
        (ran.code, ran.err)
    };
    let place = place_with_secret();
    assert_eq!(said(&place), (0, String::new()));
    let refused = |place: &Place, say: &str| {
        let (code, err) = said(place);
        assert_eq!(code, 78, "{say}");
        assert!(
            err.contains(&format!("error: push.auth.keys: {say}")),
            "{err}"
        );
    };
    place.secret("secret", "tiger\n", 0o600);
    refused(&place, "the secret has 5 bytes and needs 32");
    place.secret("secret", TIGER, 0o644);
    refused(&place, "the secret file");
    fs::remove_file(place.path("secret")).unwrap();
    refused(&place, "cannot read the secret file");
    let place = Place::with(&format!("{ISSUER}keys = {{ pem = \"keys.pem\" }}\n"));
    refused(&place, "cannot read");
    fs::write(place.path("keys.pem"), "tiger\n").unwrap();
    refused(
        &place,
        &format!("{} holds no public key", place.path("keys.pem").display()),
    );
    // The key of RFC 8037, appendix A.2.
    let key = "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n");
    fs::write(place.path("keys.pem"), pem).unwrap();
    assert_eq!(said(&place), (0, String::new()));
}

#[test]
fn the_file_that_is_shipped_is_good() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/outboxd.toml");
    let ran = outboxd(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}
