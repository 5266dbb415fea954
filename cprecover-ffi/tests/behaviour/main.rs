//! One suite of behaviour for every way into the library: the Rust API and the C ABI.
//!
//! `cases.rs` says what must be true of any [`surface::Cprecover`]; it runs against `native.rs` and
//! against `c.rs`, which calls the exported functions as a C program does. `schema` makes the JSON Schemas
//! from the sources and keeps every document, for `schema-check` to hold it to its schema.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a failing test may panic")]

mod c;
mod cases;
#[path = "../../../cprecover/tests/executable/mod.rs"]
mod executable;
mod native;
mod node;
mod regeneration;
mod schema;
mod surface;

use c::C;
use native::Native;

/// Runs each case against both.
macro_rules! on_every_surface {
    ($($case:ident),+ $(,)?) => {
        mod rust_api {
            $(#[test] fn $case() { super::cases::$case::<super::Native>(); })+
        }
        mod c_abi {
            $(#[test] fn $case() { super::cases::$case::<super::C>(); })+
        }
    };
}

on_every_surface!(
    a_root_must_be_absolute_and_a_config_whole,
    the_options_in_force_are_those_of_the_config,
    health_answers_are_judged,
    a_free_port_and_a_held_one,
    only_a_proven_orphan_is_ended,
    a_snapshot_is_made_listed_and_verified,
    damage_is_found_and_never_restored,
    a_restore_is_all_or_nothing,
    another_nodes_files_are_restored_only_on_purpose,
    what_is_held_can_be_released,
    policies_are_shipped_or_files_with_their_digest,
    a_policy_is_trusted_by_key_and_taken_from_the_cache,
    pod_folders_are_judged_by_the_runtime_alone,
    a_running_member_is_saved,
    data_of_etcd_are_judged_at_rest,
    a_support_bundle_is_a_new_file,
    a_node_is_looked_at_and_diagnosed,
    a_plan_is_bound_by_its_digest,
    a_dry_run_changes_nothing,
    a_watch_tells_each_turn,
    regeneration_needs_a_kubeadm,
    a_config_or_assumed_defaults_make_up_for_unknown_values,
    the_callers_word_lets_an_added_etcd_member_start,
    without_effects_there_is_no_audit_log,
    a_broken_audit_log_stops_everything,
    a_cancelled_call_ends,
    time_can_be_up,
    a_store_in_use_is_busy,
    the_drills_node_is_recovered,
    the_drills_node_is_recovered_by_an_approved_plan,
);

/// What both answer is the same, but for what differs between any two runs.
#[test]
fn both_answer_the_same() {
    cases::same::<Native, C>();
}
