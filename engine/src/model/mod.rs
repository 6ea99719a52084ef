//! Random operations on a real region against a naive model of its table.
//!
//! Each case draws a schema, a merge mode and a list of operations; every scan on the way must give what the model
//! gives, be it of now or of a version of the past. `TESSERA_MODEL_CASES` sets the number of cases, `PROPTEST_RNG_SEED`
//! the seed.

mod look;
mod naive;
mod node;
mod op;
mod table;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::options::MergeMode;

fn cases() -> u32 {
    std::env::var("TESSERA_MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(150)
}

fn agrees(mode: MergeMode) {
    let config = ProptestConfig { cases: cases(), max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let outcome =
        TestRunner::new(config).run(&op::history(mode), |history| runtime.block_on(node::run(mode, &history)).map_err(TestCaseError::fail));
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn a_region_agrees_with_a_naive_model_in_last_row_mode() {
    agrees(MergeMode::LastRow);
}

#[test]
fn a_region_agrees_with_a_naive_model_in_last_non_null_mode() {
    agrees(MergeMode::LastNonNull);
}

#[test]
fn a_region_agrees_with_a_naive_model_in_append_mode() {
    agrees(MergeMode::Append);
}
