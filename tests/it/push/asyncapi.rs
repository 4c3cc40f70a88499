//! The AsyncAPI document: the parser of those who make AsyncAPI takes it, and it describes every frame of a real session, field by
//! field. Never compared with anything written by hand.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::log::{SagaLog, TOLD, Told};
use super::site::Site;
use crate::support::socket::Socket;
use crate::support::{block_on, kafka, npm, unique};

/// By it the saga of the session is stuck once, and has something to undo.
const DEFINITION: &str = r#"
saga = "create-order"
[states]
PENDING = { kind = "initial", limit = "1ms", next = ["DONE"] }
DONE = { kind = "terminal", outcome = "rejected" }
[steps]
ticket = { service = "kitchen", kind = "compensatable", compensation = "CancelTicket" }
"#;

/// Both sides of a session, as lines.
struct Heard {
    socket: Socket,
    lines: Vec<String>,
}

impl Heard {
    async fn send(&mut self, frame: Value) {
        self.lines.push(frame.to_string());
        self.socket.send(&frame).await.unwrap();
    }

    /// Listens until a frame has these fields.
    async fn until(&mut self, wanted: &Value) {
        let wanted = wanted.as_object().unwrap();
        loop {
            let frame = self.socket.next().await.unwrap();
            self.lines.push(frame.to_string());
            if wanted.iter().all(|(name, value)| frame[name] == *value) {
                return;
            }
        }
    }
}

#[test]
fn the_document_is_valid_and_describes_every_frame_of_a_session() {
    let kafka = kafka();
    let prefix = unique("asyncapi");
    let definition = ("sagas/create-order.toml".to_owned(), DEFINITION.to_owned());
    let site = Site::defined(kafka, &prefix, &[], &[definition], "heartbeat = \"1s\"");
    site.daemon.wait_ready();
    let answer = site.get("/v1/asyncapi.json", &[]);
    let (head, document) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    let lines = session(&site, &SagaLog::plain(kafka, &prefix));
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = files.path().join(name);
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (document, frames) = (
        file("asyncapi.json", document),
        file("frames", &lines.join("\n")),
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/push/asyncapi");
    npm::install(&folder);
    npm::run(&folder, "node", &["check.mjs", &document, &frames], &[]);
}

/// Every frame that there is, with every field that it can have.
fn session(site: &Site, log: &SagaLog) -> Vec<String> {
    let token = |grants: &[&str], lasts| site.token_for("c-7", grants, Duration::from_secs(lasts));
    let news = [
        Told { event: 1, ..TOLD },
        Told {
            event: 2,
            state: None,
            step: Some(("ticket", "pending")),
            source: "kitchen",
            ..TOLD
        },
        Told {
            event: 3,
            state: None,
            step: Some(("ticket", "done")),
            source: "kitchen",
            ..TOLD
        },
        Told {
            event: 4,
            source: "kitchen",
            ..TOLD
        },
        Told {
            event: 5,
            state: Some("DONE"),
            outcome: Some("rejected"),
            ..TOLD
        },
        Told {
            event: 6,
            state: Some("AGAIN"),
            ..TOLD
        },
    ];
    let subscribe = |id: u64, saga: &str| json!({"type": "subscribe", "id": id, "saga_type": "create-order", "saga_id": saga});
    block_on(async {
        let socket = Socket::open(site.address(), &[]).await.unwrap();
        let mut heard = Heard {
            socket,
            lines: Vec::new(),
        };
        heard
            .send(json!({"type": "auth", "id": 1, "token": token(&["create-order"], 3600)}))
            .await;
        heard.until(&json!({"type": "ready"})).await;
        heard.send(subscribe(2, "o-42")).await;
        heard.until(&json!({"mode": "waiting"})).await;
        for told in &news {
            log.tell(told);
            heard.until(&json!({"saga_id": "o-42"})).await;
            if told.event == 2 {
                // Everybody is published beyond its limit.
                for source in ["orders", "kitchen"] {
                    let until = json!({"v": 1, "source": source, "published_until": "2999-01-01T00:00:00Z"});
                    log.raw("o-42", until.to_string().as_bytes());
                }
                log.flush();
                heard.until(&json!({"saga_id": "o-42"})).await;
            }
        }
        // The first of them was told by a snapshot.
        heard.send(subscribe(3, "o-42")).await;
        heard
            .until(&json!({"type": "snapshot", "outcome": "rejected"}))
            .await;
        heard
            .send(json!({"type": "subscribe", "id": 4, "saga_type": "create-order"}))
            .await;
        heard.until(&json!({"mode": "live"})).await;
        heard.send(json!({"type": "unsubscribe", "id": 5, "saga_type": "create-order", "saga_id": "o-42"})).await;
        heard.until(&json!({"type": "unsubscribed"})).await;
        heard
            .socket
            .send(&json!({"type": "dance", "id": 6}))
            .await
            .unwrap();
        heard.until(&json!({"code": "bad_request"})).await;
        heard.until(&json!({"type": "heartbeat"})).await;
        // The grant is gone, and so is the subscription that it was for.
        heard
            .send(json!({"type": "auth", "token": token(&[], 3)}))
            .await;
        heard
            .until(&json!({"code": "forbidden", "saga_type": "create-order"}))
            .await;
        heard.until(&json!({"type": "bye"})).await;
        heard.lines
    })
}
