//! The semantics of [`crate::kv`] as tests that every backend must pass.
//!
//! Invariants:
//! - A case keeps to the keys under the scope that it is given, so that all may run on one store, and it
//!   assumes no revision to begin with.
//! - Limits come from the backend; none is a constant here.
//!
//! A backend's tests call [`conformance_tests!`](crate::conformance_tests) with an expression that makes a
//! fresh `(guard, Arc<dyn KvBackend>)`; the guard lives as long as the test (a temporary folder, or `()`).

#[cfg(feature = "etcd")]
pub mod etcd;
#[doc(hidden)]
pub mod leases;
#[doc(hidden)]
pub mod reads;
#[doc(hidden)]
pub mod txns;
#[doc(hidden)]
pub mod watches;

use std::pin::Pin;
use std::sync::Arc;

use tessera_manifest::error::ErrorClass;

use crate::kv::{Key, KeyRange, KvBackend, KvError, Op, Revision, Txn};

/// The key `name` in `scope`.
#[must_use]
pub fn key(scope: &str, name: &str) -> Key {
    format!("{scope}/{name}").into()
}

/// All keys of `scope`.
#[must_use]
pub fn whole(scope: &str) -> KeyRange {
    KeyRange::prefix(format!("{scope}/"))
}

/// Puts one key and answers the revision.
///
/// # Errors
/// As the backend.
pub async fn put(kv: &dyn KvBackend, scope: &str, name: &str, value: &str) -> Result<Revision, KvError> {
    let answer = kv.txn(Txn::new().then([Op::put(key(scope, name), value.to_owned())])).await?;
    Ok(answer.revision)
}

/// Deletes one key and answers the revision.
///
/// # Errors
/// As the backend.
pub async fn delete(kv: &dyn KvBackend, scope: &str, name: &str) -> Result<Revision, KvError> {
    Ok(kv.txn(Txn::new().then([Op::delete(key(scope, name))])).await?.revision)
}

/// The values of all keys of `scope`, in key order, joined by spaces.
///
/// # Errors
/// As the backend.
pub async fn values(kv: &dyn KvBackend, scope: &str) -> Result<String, KvError> {
    let entries = crate::kv::range_all(kv, whole(scope)).await?;
    let texts: Vec<String> = entries.iter().map(|entry| String::from_utf8_lossy(&entry.value).into_owned()).collect();
    Ok(texts.join(" "))
}

/// A case, ready to run on the keys of a scope.
pub type Case = fn(Arc<dyn KvBackend>, String) -> Pin<Box<dyn Future<Output = Result<(), KvError>> + Send>>;

/// Every case, by name.
pub const CASES: &[(&str, Case)] = crate::conformance_tests!(@all table ());

/// Attempts of a case while servers fail.
const ATTEMPTS_MAX: usize = 5;

/// Runs one case. While servers are killed a call may have no answer, or an unknown one; a case that it hits
/// proves nothing, and begins again on other keys. What a case asserts must hold always.
///
/// # Errors
/// When the backend fails otherwise, or too often.
pub async fn run_while_servers_fail(kv: &Arc<dyn KvBackend>, name: &str, case: Case) -> Result<(), KvError> {
    let mut attempt = 1;
    loop {
        match case(Arc::clone(kv), format!("{name}-{attempt}")).await {
            Err(error) if error.class() == ErrorClass::Unavailable && attempt < ATTEMPTS_MAX => attempt += 1,
            done => return done,
        }
    }
}

/// One test for each case of the suite.
#[macro_export]
macro_rules! conformance_tests {
    ($make:expr) => {
        $crate::conformance_tests!(@all tests $make);
    };
    (@all $what:ident $make:expr) => {
        $crate::conformance_tests! { @$what $make;
            reads::an_absent_key_is_answered_as_none,
            reads::a_put_stamps_revisions_and_counts_versions,
            reads::a_deleted_key_starts_again_at_version_one,
            reads::an_empty_value_is_a_value,
            reads::multi_get_answers_in_the_order_asked,
            reads::a_range_has_a_first_but_no_last_key_and_byte_order,
            reads::pages_join_to_the_whole_range,
            reads::an_inverted_range_is_empty,
            reads::binary_keys_and_values_survive,
            reads::a_value_of_the_largest_size_survives_and_one_byte_more_is_refused,
            txns::each_compare_holds_exactly_when_documented,
            txns::an_empty_prefix_has_no_key_at_all,
            txns::an_absent_key_equals_no_value,
            txns::a_failed_compare_runs_the_else_branch_only,
            txns::operations_see_those_before_them,
            txns::one_branch_may_not_write_a_key_twice,
            txns::the_branch_not_taken_is_checked_too,
            txns::deletes_may_overlap,
            txns::delete_range_counts_what_it_deletes,
            txns::what_changes_nothing_makes_no_revision,
            txns::a_put_of_the_same_value_makes_a_revision,
            txns::all_writes_of_a_transaction_share_its_revision,
            txns::too_many_parts_are_refused_and_nothing_is_written,
            txns::an_empty_key_is_refused_everywhere,
            txns::concurrent_increments_are_all_counted,
            txns::of_concurrent_creates_one_wins,
            txns::values_that_fill_a_transaction_survive,
            watches::a_watch_delivers_whole_transactions_in_order,
            watches::a_watch_from_the_past_is_gapless,
            watches::a_watch_from_the_future_waits_for_it,
            watches::a_watch_sees_only_its_range,
            watches::a_snapshot_and_a_watch_after_it_miss_nothing,
            watches::the_distant_past_is_delivered_whole_or_refused,
            watches::what_is_compacted_is_refused_and_the_rest_is_delivered,
            watches::a_watch_outlives_a_compaction,
            watches::a_large_backlog_is_delivered_whole,
            watches::an_empty_range_has_no_changes,
            watches::a_mark_comes_after_the_changes_before_it,
            leases::the_keys_of_an_expired_lease_are_deleted_in_one_transaction,
            leases::a_revoked_lease_takes_its_keys_along,
            leases::a_lease_that_has_ended_is_not_found,
            leases::an_expired_lease_cannot_be_kept_alive,
            leases::a_lease_that_is_kept_alive_lasts,
            leases::a_put_replaces_the_attachment,
            leases::deleting_a_key_detaches_it,
            leases::only_the_leases_of_the_branch_that_runs_are_looked_at,
            leases::a_lease_without_keys_makes_no_revision,
            leases::a_time_to_live_is_granted_in_full_or_refused,
            leases::watchers_and_readers_see_the_lease_of_a_key,
        }
    };
    (@table $make:expr; $($module:ident::$case:ident,)*) => {
        &[$((stringify!($case), |kv, scope| Box::pin(async move { $module::$case(kv, &scope).await })),)*]
    };
    (@tests $make:expr; $($module:ident::$case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                let (_guard, kv) = $make;
                $crate::conformance::$module::$case(kv, stringify!($case)).await.unwrap();
            }
        )*
    };
}
