//! One client, one saga: state at once, then every change. Never more than a user would do.

use serde_json::json;

use super::site::Site;
use crate::support::socket::{Known, Socket};
use crate::support::{block_on, kafka, postgres, unique};
use crate::world::{Service, topic};

#[test]
fn a_client_sees_its_sagas_state_at_once_and_then_every_change() {
    let kafka = kafka();
    let service = Service::install(postgres(17), "watch");
    let orders = topic(kafka, "orders", 3, &[]);
    let site = Site::start(kafka, &unique("watch"), &[&service], "");
    site.daemon.wait_ready();
    let token = site.token("c-7", &[]);
    block_on(async {
        let client = service.connect().await;
        let insert = format!(
            "insert into outbox.event (topic, key, event_type, payload, saga_type, saga_id, saga_user, saga_state, saga_outcome) \
             values ('{orders}', 'o-42', $1, '{{}}', 'create-order', 'o-42', 'c-7', $2, $3)"
        );
        let (mut socket, ready) = Socket::authenticated(site.address(), &token).await.unwrap();
        let mut known = Known::default();
        known.ready(&ready);
        socket
            .send(&known.subscribe(2, "create-order", "o-42"))
            .await
            .unwrap();
        let waiting = socket.news().await.unwrap();
        assert_eq!(
            waiting,
            json!({"type": "subscribed", "id": 2, "mode": "waiting"})
        );
        let none: Option<&str> = None;
        client
            .execute(&insert, &[&"OrderCreated", &"APPROVAL_PENDING", &none])
            .await
            .unwrap();
        let snapshot = socket.news().await.unwrap();
        assert_eq!(snapshot["type"], "snapshot", "{snapshot}");
        known.take(&snapshot).unwrap();
        client
            .execute(
                &insert,
                &[&"OrderApproved", &"APPROVED", &Some("completed")],
            )
            .await
            .unwrap();
        let change = socket.news().await.unwrap();
        assert_eq!(change["previous_state"], "APPROVAL_PENDING");
        assert_eq!(change["outcome"], "completed");
        known.take(&change).unwrap();
        assert_eq!((known.snapshots, known.changes), (1, 1));
    });
    assert_eq!(site.daemon.terminate(), 0);
}
