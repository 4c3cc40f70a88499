//! The control socket and its client, and the command that asks it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use outboxd::admin::{self, ControlError, ControlSocket, Done, Fault, Refusal, Report, Request};
use outboxd::logic::status::Phase;
use outboxd::tasks::{Attached, attached};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::world::World;

async fn serve(world: &World, path: &Path) -> Attached<()> {
    let socket = ControlSocket::bind(path).await.unwrap();
    attached(socket.serve(world.view.clone(), world.orders.clone(), world.stop.clone()))
}

async fn status(path: &Path) -> Result<Report, ControlError> {
    admin::ask(path, &Request::Status).await
}

async fn say(path: &Path, request: &[u8]) -> Value {
    let mut stream = BufReader::new(UnixStream::connect(path).await.unwrap());
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_line(&mut answer).await.unwrap();
    serde_json::from_str(&answer).unwrap()
}

#[tokio::test]
async fn the_daemon_tells_how_each_source_is_doing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctl.sock");
    let world = World::with(&[("orders", Phase::Leading)]);
    let _control = serve(&world, &path).await;
    let report = status(&path).await.unwrap();
    assert_eq!(report.instance, "here:9464");
    assert_eq!(report.sources, [world.sources[0].borrow().clone()]);
    assert!(!report.draining);
    world.draining.cancel();
    assert!(status(&path).await.unwrap().draining);
}

#[tokio::test]
async fn several_questions_may_be_asked_one_after_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctl.sock");
    let _control = serve(&World::with(&[]), &path).await;
    let mut stream = BufReader::new(UnixStream::connect(&path).await.unwrap());
    let twice = b"{\"command\":\"status\"}\n{\"command\":\"status\"}\n";
    stream.write_all(twice).await.unwrap();
    for _ in 0..2 {
        let mut answer = String::new();
        stream.read_line(&mut answer).await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["instance"], "here:9464");
    }
}

#[tokio::test]
async fn a_bad_request_is_answered_and_harms_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctl.sock");
    let _control = serve(&World::with(&[]), &path).await;
    for bad in [
        &b"{\"command\":\"explode\"}\n"[..],
        b"hello\n",
        b"\n",
        b"{\"command\":\xff}\n",
    ] {
        let answer = say(&path, bad).await;
        assert!(answer["error"].is_string(), "{answer}");
    }
    let mut long = vec![b' '; (64 << 10) + 1];
    long.push(b'\n');
    let answer = say(&path, &long).await;
    assert_eq!(answer["error"], "a request has at most 64 KiB");
    assert!(status(&path).await.is_ok());
}

#[tokio::test]
async fn an_order_goes_to_the_daemon_and_its_answer_to_whoever_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctl.sock");
    let world = World::with(&[]);
    let _control = serve(&world, &path).await;
    let pause = Request::Pause {
        source: "orders".to_owned(),
    };
    let answers = [
        Ok(Done {
            done: "paused".to_owned(),
        }),
        Err(Refusal::new(Fault::Configuration, "line 7")),
    ];
    for answer in answers {
        let carry_out = async {
            let order = world.ordered.lock().await.recv().await.unwrap();
            assert_eq!(order.request, pause);
            order.answer.send(answer.clone()).unwrap();
        };
        let (asked, ()) = tokio::join!(admin::ask::<Done>(&path, &pause), carry_out);
        match (asked, answer) {
            (Ok(done), Ok(expected)) => assert_eq!(done, expected),
            (Err(ControlError::Refused(refusal)), Err(expected)) => assert_eq!(refusal, expected),
            (asked, _) => panic!("{asked:?}"),
        }
    }
}

#[tokio::test]
async fn a_daemon_that_takes_no_orders_any_more_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctl.sock");
    let world = World::with(&[]);
    let _control = serve(&world, &path).await;
    world.ordered.lock().await.close();
    let answer = say(&path, b"{\"command\":\"log\",\"filter\":\"info\"}\n").await;
    assert_eq!(answer["error"], "the daemon is ending");
}

#[tokio::test]
async fn a_client_that_says_nothing_holds_up_nobody_and_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctl.sock");
    let _control = serve(&World::with(&[]), &path).await;
    let mut silent = UnixStream::connect(&path).await.unwrap();
    silent.write_all(b"{").await.unwrap();
    let quick = tokio::time::timeout(Duration::from_secs(3), status(&path)).await;
    assert!(matches!(quick, Ok(Ok(_))), "{quick:?}");
    let left = tokio::time::timeout(Duration::from_secs(20), silent.read(&mut [0])).await;
    assert!(matches!(left, Ok(Ok(0))), "{left:?}");
}

#[tokio::test]
async fn a_daemon_without_clients_says_that_it_cannot_kick_any() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctl.sock");
    let _control = serve(&World::with(&[]), &path).await;
    let answer = say(&path, b"{\"command\":\"kick\",\"user\":\"c-7\"}\n").await;
    let said = answer["error"].as_str().unwrap();
    assert!(said.contains("[push] is missing"), "{said}");
}

#[tokio::test]
async fn owner_and_group_may_ask_and_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctl.sock");
    let _control = serve(&World::with(&[]), &path).await;
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctl.sock");
    // As a killed daemon leaves it.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let world = World::with(&[]);
    let _control = serve(&world, &path).await;
    assert!(status(&path).await.is_ok());
    let second = ControlSocket::bind(&path).await;
    assert!(
        matches!(second, Err(ControlError::Taken { .. })),
        "{second:?}"
    );
    assert!(
        status(&path).await.is_ok(),
        "the second daemon must not harm the first"
    );
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_never_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("precious");
    fs::write(&path, "data").unwrap();
    let error = ControlSocket::bind(&path).await.unwrap_err();
    assert!(matches!(error, ControlError::InTheWay { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "data");
}

#[tokio::test]
async fn the_file_goes_with_the_daemon_unless_it_is_another_ones_by_then() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctl.sock");
    let world = World::with(&[]);
    let control = serve(&world, &path).await;
    world.stop.cancel();
    control.await.unwrap();
    assert!(!path.exists());
    let aborted = ControlSocket::bind(&path).await.unwrap();
    drop(attached(aborted.serve(
        world.view.clone(),
        world.orders.clone(),
        World::with(&[]).stop,
    )));
    tokio::time::timeout(Duration::from_secs(5), async {
        while path.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("an aborted daemon leaves its file");
    let first = ControlSocket::bind(&path).await.unwrap();
    fs::remove_file(&path).unwrap();
    let _second = ControlSocket::bind(&path).await.unwrap();
    drop(first);
    assert!(path.exists());
}

#[tokio::test]
async fn a_missing_directory_and_a_missing_daemon_are_named() {
    let nowhere = Path::new("/nonexistent/ctl.sock");
    let error = ControlSocket::bind(nowhere).await.unwrap_err().to_string();
    assert!(
        error.contains("directory /nonexistent does not exist"),
        "{error}"
    );
    let error = status(nowhere).await.unwrap_err();
    assert!(matches!(error, ControlError::Nobody { .. }), "{error}");
    assert!(
        error.to_string().contains("/nonexistent/ctl.sock"),
        "{error}"
    );
}

#[tokio::test]
async fn a_daemon_that_does_not_answer_is_not_waited_for_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctl.sock");
    let _deaf = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let error = status(&path).await.unwrap_err();
    assert!(matches!(error, ControlError::Silent { .. }), "{error}");
}

fn outboxd_status(directory: &Path, json: bool) -> std::process::Output {
    let config = directory.join("outboxd.toml");
    let socket = directory.join("ctl.sock");
    let text = format!(
        "[kafka]\nbootstrap_servers = \"127.0.0.1:1\"\n[admin]\nsocket = {:?}\n",
        socket.to_str().unwrap()
    );
    fs::write(&config, text).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_outboxd"));
    command.arg("status").arg("--config").arg(config);
    if json {
        command.arg("--json");
    }
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_prints_a_table_or_json() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::with(&[("orders", Phase::Leading)]);
    let _control = serve(&world, &directory.path().join("ctl.sock")).await;
    let table = outboxd_status(directory.path(), false);
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(
        text.lines().any(|line| line.starts_with("orders  leading")),
        "{text}"
    );
    assert_eq!(table.status.code(), Some(0));
    let json = outboxd_status(directory.path(), true);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["sources"][0]["source"], "orders");
}

#[test]
fn without_a_daemon_the_command_says_so_and_exits_69() {
    let directory = tempfile::tempdir().unwrap();
    let output = outboxd_status(directory.path(), false);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{error}");
    assert!(
        error.contains("is outboxd running") && error.contains("ctl.sock"),
        "{error}"
    );
}
