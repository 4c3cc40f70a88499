//! A PgBouncer before a cluster, as Debian packages it. Never anybody's but ours.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::guardian::Guardian;
use super::postgres::Postgres;
use super::process::{self, Port};

/// A running PgBouncer; dropping it ends and removes it.
pub(crate) struct Pooler {
    // Ends before its port is given away.
    _guardian: Guardian,
    port: Port,
}

impl Pooler {
    /// Lets a role through to every database of a cluster; `mode` is `session` or `transaction`.
    pub(crate) fn start(postgres: &Postgres, role: &str, mode: &str) -> Self {
        let guardian = Guardian::new("pgbouncer", process::unprivileged(), "KILL");
        let port = Port::claim();
        let file = guardian.directory().join("pgbouncer.ini");
        let users = guardian.directory().join("users.txt");
        fs::write(&users, format!("\"{role}\" \"\"\n")).expect("the directory is writable");
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = {mode}\ndefault_pool_size = 20\n",
            postgres.port(),
            port.number(),
            users.display()
        );
        fs::write(&file, config).expect("the directory is writable");
        let packaged = Path::new("/usr/sbin/pgbouncer");
        let program = if packaged.exists() {
            packaged.display().to_string()
        } else {
            "pgbouncer".to_owned()
        };
        guardian.start(&[program, file.display().to_string()]);
        let connects = || std::net::TcpStream::connect(("127.0.0.1", port.number())).is_ok();
        guardian.wait_ready(Duration::from_secs(60), connects);
        Self {
            _guardian: guardian,
            port,
        }
    }

    /// The TCP port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }
}
