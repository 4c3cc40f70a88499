//! Pages that show a saga whatever happens to them; each test is a script of the same name. Never two scripts in one world.

use super::steward::play;

#[test]
fn a_page_that_is_loaded_again_goes_on() {
    play("reload", "");
}

#[test]
fn a_page_that_was_offline_goes_on() {
    play("offline", "");
}

#[test]
fn a_laptop_that_slept_goes_on_with_a_new_token() {
    play("sleep", "");
}

#[test]
fn a_token_is_renewed_before_it_ends() {
    play("token", "");
}

#[test]
fn a_daemon_that_comes_back_is_found_again() {
    play("restart", "drain = \"1s\"");
}

#[test]
fn a_proxy_that_cuts_idle_connections_costs_no_change() {
    play("cut", "");
}

#[test]
fn heartbeats_keep_a_connection_through_such_a_proxy() {
    play("kept", "heartbeat = \"1s\"");
}

#[test]
fn a_page_whose_websocket_is_blocked_takes_another_way() {
    play("blocked", "");
}

#[test]
fn tabs_do_not_disturb_each_other() {
    play("tabs", "[push.limits]\nconnections_per_user = 2");
}

#[test]
fn whole_types_are_shown_by_every_way() {
    play("types", "");
}

#[test]
fn the_console_shows_what_sagas_are_doing() {
    play("console", "");
}
