//! `sql install`, `sql show` and `sql grants`: by an owner, twice, at once, against locks, and where they must refuse.

use std::thread;
use std::time::{Duration, Instant};

use crate::site::{Site, VERSIONS, outboxd};
use crate::support::postgres::Postgres;
use crate::support::{block_on, postgres};

/// All that an installation makes, as text: tables, columns, constraints, indexes, functions, rights, contents.
const PRINT: &str = "select string_agg(line, e'\\n' order by line) from (
    select format('%s %s %s %s', c.oid::regclass, c.relkind, c.relacl, c.reloptions) as line
      from pg_class c where relnamespace = 'outbox'::regnamespace
    union all select format('%s.%s %s %s %s', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod),
        a.attacl, pg_get_expr(d.adbin, d.adrelid))
      from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where a.attrelid in (select oid from pg_class where relnamespace = 'outbox'::regnamespace) and a.attnum > 0
    union all select format('%s %s', conname, pg_get_constraintdef(oid))
      from pg_constraint where connamespace = 'outbox'::regnamespace
    union all select format('%s %s %s', p.oid::regprocedure, p.proacl, p.prosrc || pg_get_functiondef(p.oid))
      from pg_proc p where pronamespace = 'outbox'::regnamespace
    union all select format('schema %s', nspacl) from pg_namespace where nspname = 'outbox'
    union all select format('migration %s', version) from outbox.migration
    union all select format('slot %s', slot_seconds) from outbox.relay) as lines";

#[test]
fn an_owner_installs_who_is_no_superuser_and_once_more_changes_nothing() {
    for version in VERSIONS {
        let site = Site::new(postgres(version), "install");
        let ended = site.install(&[]);
        assert_eq!(ended.code, 0, "{version}: {ended:?}");
        assert!(
            ended.out.contains("installed the outbox schema, version 1"),
            "{ended:?}"
        );
        // An owner may not change another role's settings.
        assert!(ended.out.contains("plan_cache_mode"), "{ended:?}");
        let first = print(&site);
        let files = "select string_agg(relfilenode::text, ' ' order by oid) || (select relay::text from outbox.relay)
            from pg_class where relnamespace = 'outbox'::regnamespace";
        let before = site.text(files);
        // Roles that are not named keep their rights; nothing is rewritten, no position moves.
        let again = site.install_as("owner", &[]);
        assert_eq!(again.code, 0, "{version}: {again:?}");
        assert!(again.out.contains("version 1 was there"), "{again:?}");
        same(&print(&site), &first, version);
        assert_eq!(site.text(files), before, "{version}");
    }
}

#[test]
fn the_position_begins_where_the_installation_was() {
    let site = Site::installed(postgres(16), "position");
    let query = "select (system_identifier = (select system_identifier from pg_control_system())
        and database_oid = (select oid from pg_database where datname = current_database())
        and not pg_visible_in_snapshot(pg_current_xact_id(), seen) and source is null and epoch = 0)::text
        from outbox.relay";
    assert_eq!(site.text(query), "true");
}

#[test]
fn a_superuser_pins_the_plans_of_the_relay() {
    for version in [14, 16, 18] {
        let site = Site::new(postgres(version), "pin");
        // A name that has to be quoted everywhere.
        let relay = format!("Relay \"{}\" it's $$", site.database);
        site.execute(&format!(
            "create role \"{}\" login",
            relay.replace('"', "\"\"")
        ));
        let ended = site.install_as("postgres", &["--relay-role", &relay]);
        assert_eq!(
            (ended.code, ended.out.contains("note:")),
            (0, false),
            "{ended:?}"
        );
        let settings = "select array_to_string(setconfig, ' ') from pg_db_role_setting
            where setrole <> 0 and setdatabase = (select oid from pg_database where datname = current_database())";
        assert_eq!(
            site.text(settings),
            "enable_seqscan=off plan_cache_mode=force_generic_plan jit=off max_parallel_workers_per_gather=0"
        );
    }
}

#[test]
fn several_installations_at_once_are_one() {
    for version in VERSIONS {
        let site = Site::new(postgres(version), "race");
        let ended = thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| site.install(&[]))).collect();
            all.into_iter()
                .map(|one| one.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert!(
            ended.iter().all(|one| one.code == 0),
            "{version}: {ended:?}"
        );
        let news = ended.iter().filter(|one| one.out.contains("installed"));
        assert_eq!(news.count(), 1, "{ended:?}");
    }
}

#[test]
fn a_lock_is_waited_for_two_seconds_and_nothing_is_changed() {
    let site = Site::installed(postgres(16), "lock");
    let before = print(&site);
    block_on(async {
        let mut holder = site.connect("postgres").await;
        let transaction = holder.transaction().await.unwrap();
        let lock = "lock table outbox.event in row exclusive mode";
        transaction.batch_execute(lock).await.unwrap();
        let begun = Instant::now();
        let ended = site.install(&["--slot", "1h"]);
        assert_eq!(ended.code, 69, "{ended:?}");
        assert!(ended.err.contains("nothing was changed"), "{ended:?}");
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(1900), "{took:?}");
        assert!(took < Duration::from_secs(15), "{took:?}");
        // With nothing to change no lock is asked for.
        assert_eq!(site.install(&["--slot", "30m"]).code, 0);
    });
    same(&print(&site), &before, 16);
}

#[test]
fn another_installation_is_waited_for_two_seconds() {
    let site = Site::new(postgres(17), "wait");
    block_on(async {
        let holder = site.connect("postgres").await;
        let lock = "select pg_advisory_lock(1870034018, 2)";
        holder.batch_execute(lock).await.unwrap();
        let ended = site.install(&[]);
        assert_eq!(ended.code, 69, "{ended:?}");
    });
    assert_eq!(
        site.text("select (to_regnamespace('outbox') is null)::text"),
        "true"
    );
}

#[test]
fn the_slot_changes_for_new_rows_and_stays_until_it_is_named() {
    let site = Site::installed(postgres(15), "slot");
    let insert = "insert into outbox.event (topic, event_type) values ('t', 'e')";
    site.execute(insert);
    assert_eq!(site.install(&["--slot", "1h"]).code, 0);
    assert_eq!(site.install(&[]).code, 0);
    site.execute(insert);
    assert_eq!(
        site.text("select slot_seconds::text from outbox.relay"),
        "3600"
    );
    assert_eq!(site.text("select count(*)::text from outbox.event"), "2");
    let now = "select bool_or(slot = floor(extract(epoch from created_at))::bigint / 3600 % 4)::text from outbox.event";
    assert_eq!(site.text(now), "true");
    for slot in ["0s", "1500ms", "8d", "-1s", "soon"] {
        assert_eq!(site.install(&["--slot", slot]).code, 64, "{slot}");
    }
}

#[test]
fn what_cannot_be_installed_is_refused_with_advice() {
    let postgres = postgres(16);
    let refused = |site: &Site<'_>, role: &str, arguments: &[&str], code: i32, advice: &str| {
        let ended = site.install_as(role, arguments);
        assert_eq!(ended.code, code, "{advice}: {ended:?}");
        assert!(ended.err.contains(advice), "{advice}: {ended:?}");
        ended.err
    };
    let site = Site::new(postgres, "refused");
    refused(
        &site,
        "owner",
        &["--relay-role", "nobody_is"],
        65,
        "create role \"nobody_is\" login",
    );
    refused(
        &site,
        "owner",
        &["--app-role", "nobody_is"],
        65,
        "create role \"nobody_is\" login",
    );
    refused(
        &site,
        "owner",
        &["--relay-role", "postgres"],
        65,
        "a role of its own",
    );
    refused(
        &site,
        "owner",
        &["--relay-role", &site.role("owner")],
        65,
        "a role of its own",
    );
    let app = site.role("app");
    refused(
        &site,
        "owner",
        &["--relay-role", &app, "--app-role", &app],
        65,
        "two roles",
    );
    refused(&site, "app", &[], 77, "as the owner");
    refused(&site, "nobody", &[], 77, "does not exist");
    let url = postgres.url("postgres", "no_such_database");
    let ended = outboxd(&["sql", "install", "--url", &url]);
    assert_eq!(ended.code, 65, "{ended:?}");
    let ended = outboxd(&[
        "sql",
        "install",
        "--url",
        "postgres://postgres@127.0.0.1:1/x",
    ]);
    assert_eq!(ended.code, 69, "{ended:?}");
    assert_eq!(
        site.text("select (to_regnamespace('outbox') is null)::text"),
        "true"
    );

    let owner = site.role("owner");
    site.execute(&format!(
        "create schema outbox authorization {owner}; create table outbox.event (id bigint)"
    ));
    refused(&site, "owner", &[], 65, "alter schema outbox rename");

    let site = Site::installed(postgres, "newer");
    site.execute("insert into outbox.migration (version) values (2)");
    refused(&site, "owner", &[], 65, "update outboxd");
    refused(&site, "relay", &["--slot", "1h"], 65, "update outboxd");
    site.execute("delete from outbox.migration where version = 2");
    refused(&site, "relay", &["--slot", "1h"], 77, "as the owner");
    refused(&site, "app", &[], 77, "as the owner");
}

#[test]
fn an_empty_schema_of_the_owner_is_taken() {
    for version in [14, 18] {
        let site = Site::new(postgres(version), "given");
        let (app, database) = (site.role("app"), &site.database);
        site.execute(&format!(
            "create schema outbox authorization {app}; revoke create on database {database} from public"
        ));
        let ended = site.install_as("app", &["--relay-role", &site.role("relay")]);
        assert_eq!(ended.code, 0, "{ended:?}");
    }
}

#[test]
fn a_standby_is_refused() {
    let postgres = Postgres::start(16);
    postgres.stop_fast();
    std::fs::write(postgres.directory().join("data/standby.signal"), "").unwrap();
    postgres.start_again();
    let url = postgres.url("postgres", "postgres");
    let ended = outboxd(&["sql", "install", "--url", &url]);
    assert_eq!(ended.code, 69, "{ended:?}");
    assert!(ended.err.contains("standby"), "{ended:?}");
}

/// Settings that make SQL mean something else, or sessions refuse to write.
const ODD: &str = "alter database {database} set search_path = evil, pg_catalog;
    alter database {database} set default_transaction_read_only = on;
    alter database {database} set default_transaction_isolation = 'serializable';
    alter database {database} set standard_conforming_strings = off;
    alter database {database} set escape_string_warning = off;
    alter database {database} set backslash_quote = on;
    alter database {database} set datestyle = 'German';
    alter database {database} set timezone = 'Asia/Kathmandu';
    alter database {database} set check_function_bodies = off;
    alter database {database} set client_min_messages = 'error';
    create schema evil;
    create function evil.jsonb_typeof(jsonb) returns text language sql as $$ select 'object' $$;
    create function evil.jsonb_path_exists(jsonb, jsonpath) returns boolean language sql as $$ select false $$;
    create function evil.pg_current_xact_id() returns xid8 language sql as $$ select '3'::xid8 $$;
    create domain evil.json as text;
    grant usage on schema evil to public";

#[test]
fn odd_settings_of_the_database_change_nothing() {
    let plain = Site::installed(postgres(16), "plain");
    for version in VERSIONS {
        let site = Site::new(postgres(version), "odd");
        site.execute(&ODD.replace("{database}", &site.database));
        let ended = site.install(&[]);
        assert_eq!(ended.code, 0, "{version}: {ended:?}");
        block_on(async {
            let app = site.connect("app").await;
            app.batch_execute("set default_transaction_read_only = off")
                .await
                .unwrap();
            let insert =
                "insert into outbox.event (topic, event_type, payload, headers) values ('t', 'e', ";
            let good = format!("{insert} '{{\"a\": [1]}}', '{{\"a\": \"b\"}}')");
            app.batch_execute(&good).await.unwrap();
            for bad in ["'{no}', null)", "null, '[]')", "null, '{\"a\": 1}')"] {
                let refused = app.batch_execute(&format!("{insert} {bad}")).await;
                let code = refused.unwrap_err().code().unwrap().code().to_owned();
                assert_eq!(code, "23514", "{version}: {bad}");
            }
        });
        assert_eq!(
            site.text("select bool_and(txid > '3')::text from outbox.event"),
            "true"
        );
        if version == 16 {
            same(&print(&site), &print(&plain), version);
        }
    }
}

#[test]
fn what_show_prints_makes_the_same_schema() {
    for version in VERSIONS {
        let (shown, installed) = (
            Site::new(postgres(version), "shown"),
            Site::new(postgres(version), "shown"),
        );
        assert_eq!(installed.install(&["--slot", "10m"]).code, 0);
        let (relay, app) = (shown.role("relay"), shown.role("app"));
        let roles = ["--relay-role", &relay, "--app-role", &app];
        let show = ["sql", "show", "--slot", "10m"];
        let file = outboxd(&[&show[..], &roles].concat());
        assert_eq!(file.code, 0, "{file:?}");
        // As a tool would run it: by the owner, in one transaction, and whatever the database's settings are.
        shown.execute(&ODD.replace("{database}", &shown.database));
        block_on(async {
            let owner = shown.connect("owner").await;
            let write = "set default_transaction_read_only = off";
            owner.batch_execute(write).await.unwrap();
            owner.batch_execute(&file.out).await.unwrap();
        });
        same(&print(&shown), &print(&installed), version);
        // Installing over it finds it, and its grants.
        assert_eq!(shown.install_as("owner", &[]).code, 0);
        same(&print(&shown), &print(&installed), version);

        // Grants alone, over rights that are too many.
        let bare = Site::new(postgres(version), "granted");
        assert_eq!(bare.install_as("owner", &["--slot", "10m"]).code, 0);
        let (relay, app) = (bare.role("relay"), bare.role("app"));
        bare.execute(&format!(
            "grant all on all tables in schema outbox to {app}, {relay}, public"
        ));
        let grants = outboxd(&["sql", "grants", "--relay-role", &relay, "--app-role", &app]);
        block_on(async {
            let owner = bare.connect("owner").await;
            owner.batch_execute(&grants.out).await.unwrap();
        });
        same(&print(&bare), &print(&installed), version);
    }
}

fn print(site: &Site<'_>) -> String {
    site.text(PRINT).replace(&site.database, "")
}

/// Shows the lines that differ, not all of them.
fn same(ours: &str, theirs: &str, version: u16) {
    let only = |these: &str, those: &str| -> Vec<String> {
        let those: Vec<&str> = those.lines().collect();
        let lines = these.lines().filter(|line| !those.contains(line));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(only(ours, theirs), only(theirs, ours), "{version}");
}
