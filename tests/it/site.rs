//! A service's database whose owner is no superuser, as in real life, with the roles that the contract knows.

use std::process::{Command, Output};

use tokio_postgres::Client;

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::{block_on, unique};
use crate::world::OUTBOXD;

/// Every version that outboxd works with.
pub(crate) const VERSIONS: [u16; 5] = [14, 15, 16, 17, 18];

/// A database and its three roles; nothing is installed by itself.
pub(crate) struct Site<'a> {
    pub(crate) postgres: &'a Postgres,
    pub(crate) database: String,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl<'a> Site<'a> {
    /// Makes a database and its roles.
    pub(crate) fn new(postgres: &'a Postgres, name: &str) -> Self {
        let site = Self {
            postgres,
            database: unique(name),
        };
        for role in ["owner", "app", "relay"] {
            let role = site.role(role);
            postgres.execute("postgres", &format!("create role {role} login"));
        }
        postgres.create_database(&site.database);
        let (database, owner) = (&site.database, site.role("owner"));
        postgres.execute(
            "postgres",
            &format!("alter database {database} owner to {owner}"),
        );
        site
    }

    /// The same with the outbox installed by the owner.
    pub(crate) fn installed(postgres: &'a Postgres, name: &str) -> Self {
        let site = Self::new(postgres, name);
        let ended = site.install(&[]);
        assert_eq!(ended.code, 0, "{ended:?}");
        site
    }

    /// `owner`, `app` or `relay` of this site.
    pub(crate) fn role(&self, role: &str) -> String {
        format!("{}_{role}", self.database)
    }

    /// `sql install` by the owner for both roles.
    pub(crate) fn install(&self, arguments: &[&str]) -> Ended {
        let (relay, app) = (self.role("relay"), self.role("app"));
        let roles = ["--relay-role", &relay, "--app-role", &app];
        self.install_as("owner", &[&roles, arguments].concat())
    }

    /// `sql install` by somebody.
    pub(crate) fn install_as(&self, role: &str, arguments: &[&str]) -> Ended {
        let url = self.url(role);
        outboxd(&[&["sql", "install", "--url", &url], arguments].concat())
    }

    /// Where a role connects; `postgres` is the superuser.
    pub(crate) fn url(&self, role: &str) -> String {
        let role = match role {
            "postgres" => role.to_owned(),
            role => self.role(role),
        };
        self.postgres.url(&role, &self.database)
    }

    /// A session of a role.
    pub(crate) async fn connect(&self, role: &str) -> Client {
        connect(&self.url(role)).await
    }

    /// One text, asked as the superuser.
    pub(crate) fn text(&self, query: &str) -> String {
        block_on(async {
            let client = self.connect("postgres").await;
            let usual = "set datestyle = iso; set timezone = utc; set search_path = pg_catalog";
            client.batch_execute(usual).await.unwrap();
            let row = client.query_one(query, &[]).await.unwrap();
            row.get(0)
        })
    }

    /// Runs statements as the superuser.
    pub(crate) fn execute(&self, statements: &str) {
        self.postgres.execute(&self.database, statements);
    }
}

/// A session.
pub(crate) async fn connect(url: &str) -> Client {
    let connected = tokio_postgres::connect(url, tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    #[expect(
        clippy::disallowed_methods,
        reason = "a test's connection ends with its runtime"
    )]
    tokio::spawn(async move {
        // It ends with an error when a test stops the server.
        let _ = connection.await;
    });
    client
}

/// Runs `outboxd ctl` for a daemon.
pub(crate) fn ctl(daemon: &Daemon, words: &[&str]) -> Ended {
    let config = daemon.config();
    let config = ["--config", config.to_str().unwrap()];
    outboxd(&[&["ctl"], words, &config].concat())
}

/// Runs outboxd to its end.
pub(crate) fn outboxd(arguments: &[&str]) -> Ended {
    outboxd_with(arguments, &[])
}

/// The same with environment variables.
pub(crate) fn outboxd_with(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(OUTBOXD);
    command.args(arguments).env_remove("PGPASSWORD");
    command.envs(environment.iter().copied());
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    Ended {
        code: status.code().unwrap(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}
