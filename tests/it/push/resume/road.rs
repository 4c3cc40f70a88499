//! A load balancer before two instances that drops connections in the middle of whatever they carry. Never changes a byte.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The way to the instances, as long as this lives.
pub(super) struct Road {
    address: SocketAddr,
    lanes: Arc<Mutex<Vec<CancellationToken>>>,
    _runtime: Runtime,
}

impl Road {
    /// Takes each connection to the next instance, or to the other one while that does not answer.
    pub(super) fn open(instances: [SocketAddr; 2]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let lanes = Arc::new(Mutex::new(Vec::new()));
        let opened = Arc::clone(&lanes);
        runtime.spawn(async move {
            let turn = Arc::new(AtomicUsize::new(0));
            let mut carried = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while carried.try_join_next().is_some() {}
                let lane = CancellationToken::new();
                opened.lock().unwrap().push(lane.clone());
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                carried.spawn(carry(client, instances, turn, lane));
            }
        });
        Self {
            address,
            lanes,
            _runtime: runtime,
        }
    }

    /// Where it begins.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts so many connections, spread over all that are open; how many there were.
    pub(super) fn cut(&self, count: usize, step: usize) -> usize {
        let mut lanes = self.lanes.lock().unwrap();
        lanes.retain(|lane| !lane.is_cancelled());
        let stride = (lanes.len() / count).max(1);
        let cut: Vec<_> = lanes
            .iter()
            .skip(step % stride)
            .step_by(stride)
            .take(count)
            .collect();
        cut.iter().for_each(|lane| lane.cancel());
        cut.len()
    }
}

/// Carries bytes both ways until either side ends or the lane is cut; then both are gone at once.
async fn carry(
    mut client: TcpStream,
    instances: [SocketAddr; 2],
    turn: usize,
    lane: CancellationToken,
) {
    // One that is over is none to be cut any more.
    let _over = lane.clone().drop_guard();
    for attempt in 0..2 {
        let instance = instances[(turn + attempt) % 2];
        let Ok(mut daemon) = TcpStream::connect(instance).await else {
            continue;
        };
        let _ = client.set_nodelay(true);
        let _ = daemon.set_nodelay(true);
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut daemon) => {}
            () = lane.cancelled() => {}
        }
        return;
    }
}
