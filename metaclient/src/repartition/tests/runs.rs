//! Repartitions from submit to end, with writes at every request.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_split_moves_no_row_and_loses_none() {
    let cluster = Cluster::with_rows(&["a < 10", "a >= 10"], &[0]).await;
    let request = Request::Split { rule: rule_of("a < 10"), into: rules_of(&["a < -20", "a >= -20 AND a < 10"]) };
    let record = cluster.run("p", request).await;
    assert_eq!(record.phase, Phase::Done, "{record:?}");
    let outcome = outcome(&record);
    assert!(outcome.groups[0].committed && outcome.failure().is_none(), "{outcome:?}");
    assert_eq!(cluster.view().await.write.len(), 3);
    assert!(cluster.ledger.book.lock().unwrap().acknowledged.values().map(Vec::len).sum::<usize>() > 60);
}

#[tokio::test(start_paused = true)]
async fn a_merge_retires_the_other_regions() {
    let cluster = Cluster::with_rows(&["a < 0", "a >= 0 AND a < 10", "a >= 10"], &[0]).await;
    let record = cluster.run("p", Request::Merge { rules: rules_of(&["a < 0", "a >= 0 AND a < 10"]) }).await;
    assert_eq!(record.phase, Phase::Done, "{record:?}");
    assert_eq!(outcome(&record).groups[0].retired.len(), 1);
    assert_eq!(cluster.view().await.write.len(), 2);
}
