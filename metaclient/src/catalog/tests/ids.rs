//! Table ids and the switches that guard them.

use super::*;
use crate::catalog::SwitchedOn;
use crate::keys::Switch;

async fn recovering() -> Catalog {
    let catalog = memory().await;
    assert!(catalog.turn_on(Switch::Recovery, 5).await.unwrap());
    catalog
}

#[tokio::test]
async fn table_ids_are_exact_and_only_go_up() {
    let catalog = memory().await;
    assert_eq!(catalog.allocate_table_id(None).await.unwrap(), TableId(1024));
    assert_eq!(catalog.allocate_table_id(None).await.unwrap(), TableId(1025));
    assert_eq!(catalog.next_table_id().await.unwrap(), TableId(1026));
    catalog.turn_on(Switch::Recovery, 5).await.unwrap();
    for asked in [0, 1024, 1026] {
        let refused = catalog.set_next_table_id(TableId(asked), None).await;
        assert!(matches!(refused, Err(CatalogError::SequenceBackward { .. })), "{asked}");
    }
    catalog.set_next_table_id(TableId(2048), None).await.unwrap();
    catalog.turn_off(Switch::Recovery).await.unwrap();
    assert_eq!(catalog.allocate_table_id(None).await.unwrap(), TableId(2048));
    catalog.turn_on(Switch::Recovery, 5).await.unwrap();
    catalog.set_next_table_id(TableId(u32::MAX), None).await.unwrap();
    catalog.turn_off(Switch::Recovery).await.unwrap();
    assert!(matches!(catalog.allocate_table_id(None).await, Err(CatalogError::SequenceExhausted)));
}

#[tokio::test]
async fn the_next_id_is_set_only_in_recovery_mode_and_above_what_is_in_use() {
    let catalog = memory().await;
    let refused = catalog.set_next_table_id(TableId(2048), None).await;
    assert!(matches!(refused, Err(CatalogError::NotInRecoveryMode)));
    catalog.turn_on(Switch::Recovery, 5).await.unwrap();
    let refused = catalog.set_next_table_id(TableId(2048), Some(TableId(2048))).await.unwrap_err();
    assert!(matches!(refused, CatalogError::SequenceInUse { highest: TableId(2048), .. }), "{refused}");
    // A table that the sequence never gave, as a restored backup may hold it.
    for (key, highest) in [(MetaKey::Table { id: TableId(3000) }, 3000), (MetaKey::Tombstone { id: TableId(4000) }, 4000)] {
        catalog.kv().txn(Txn::new().then([Op::put(key.to_key(), "")])).await.unwrap();
        let refused = catalog.set_next_table_id(TableId(highest), None).await.unwrap_err();
        assert!(matches!(refused, CatalogError::SequenceInUse { highest: TableId(found), .. } if found == highest), "{refused}");
    }
    assert_eq!(catalog.next_table_id().await.unwrap(), TableId(1024));
    catalog.set_next_table_id(TableId(4001), Some(TableId(2048))).await.unwrap();
    assert_eq!(catalog.next_table_id().await.unwrap(), TableId(4001));
}

#[tokio::test]
async fn in_recovery_mode_nothing_is_created_and_no_id_is_taken() {
    let catalog = memory().await;
    let (info, routes) = table(catalog.allocate_table_id(None).await.unwrap(), "public", "t", 2);
    catalog.turn_on(Switch::Recovery, 5).await.unwrap();
    let before = range_all(&**catalog.kv(), KeyRange::all()).await.unwrap();
    assert!(matches!(catalog.allocate_table_id(None).await, Err(CatalogError::RecoveryMode { what: "table" })));
    assert!(matches!(catalog.create_table(&info, &routes).await, Err(CatalogError::RecoveryMode { what: "table" })));
    assert!(matches!(catalog.create_database("d", 1).await, Err(CatalogError::RecoveryMode { what: "database" })));
    assert_eq!(range_all(&**catalog.kv(), KeyRange::all()).await.unwrap(), before);
    catalog.turn_off(Switch::Recovery).await.unwrap();
    catalog.create_table(&info, &routes).await.unwrap();
    assert_eq!(catalog.next_table_id().await.unwrap(), TableId(1025));
}

#[tokio::test]
async fn an_id_that_is_in_use_elsewhere_is_not_given_and_none_is_lost() {
    let catalog = memory().await;
    let refused = catalog.allocate_table_id(Some(TableId(1024))).await;
    assert!(matches!(refused, Err(CatalogError::SequenceBehind { next: TableId(1024), highest: TableId(1024) })));
    assert_eq!(catalog.raise_next_table_id(Some(TableId(1030))).await.unwrap(), TableId(1031));
    assert_eq!(catalog.raise_next_table_id(Some(TableId(7))).await.unwrap(), TableId(1031), "it never goes back");
    assert_eq!(catalog.allocate_table_id(Some(TableId(1030))).await.unwrap(), TableId(1031));
    let exhausted = catalog.raise_next_table_id(Some(TableId(u32::MAX))).await;
    assert!(matches!(exhausted, Err(CatalogError::SequenceExhausted)));
}

#[tokio::test]
async fn the_highest_id_is_found_wherever_it_lies() {
    let catalog = memory().await;
    assert_eq!(catalog.highest_table_id().await.unwrap(), None);
    for ids in [&[0][..], &[1], &[1024, 1025, 1030], &[5, u32::MAX - 1], &[u32::MAX], &[1 << 31], &[(1 << 31) - 1]] {
        let ops = ids.iter().map(|id| Op::put(MetaKey::Tombstone { id: TableId(*id) }.to_key(), ""));
        catalog.kv().txn(Txn::new().then(ops)).await.unwrap();
        assert_eq!(catalog.highest_table_id().await.unwrap(), ids.last().map(|id| TableId(*id)));
        catalog.kv().txn(Txn::new().then([Op::DeleteRange { range: KeyRange::prefix("table/") }])).await.unwrap();
    }
}

#[tokio::test]
async fn a_switch_remembers_since_when_it_is_on_and_turning_it_twice_changes_nothing() {
    let catalog = memory().await;
    for switch in Switch::ALL {
        assert_eq!(catalog.switch(switch).await.unwrap(), None);
        assert!(!catalog.turn_off(switch).await.unwrap());
        assert!(catalog.turn_on(switch, 5).await.unwrap());
        assert!(!catalog.turn_on(switch, 6).await.unwrap());
        assert_eq!(catalog.switch(switch).await.unwrap(), Some(SwitchedOn { since_unix_ms: 5 }));
        assert!(catalog.turn_off(switch).await.unwrap());
        assert_eq!(catalog.switch(switch).await.unwrap(), None);
    }
}

/// Many take ids while another goes to recovery mode, sets the next id and comes back, over and over.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ids_stay_unique_and_exact_while_the_next_id_is_set() {
    let catalog = recovering().await;
    let takers: Vec<_> = (0..4)
        .map(|_| {
            let catalog = catalog.clone();
            env::spawn(async move {
                let mut taken = Vec::new();
                while taken.len() < 50 {
                    match catalog.allocate_table_id(None).await {
                        Ok(id) => taken.push(id),
                        // All takers and the one who sets change one key: who loses too often is told to try again.
                        Err(CatalogError::RecoveryMode { .. } | CatalogError::Contended { .. }) => tokio::task::yield_now().await,
                        Err(other) => panic!("{other}"),
                    }
                }
                taken
            })
        })
        .collect();
    // All ids below a mark that was set in recovery mode were taken before, all from it on after.
    let mut marks = Vec::new();
    for _ in 0..20 {
        catalog.turn_on(Switch::Recovery, 5).await.unwrap();
        let next = catalog.next_table_id().await.unwrap();
        catalog.set_next_table_id(TableId(next.0 + 1000), None).await.unwrap();
        marks.push((next, TableId(next.0 + 1000)));
        catalog.turn_off(Switch::Recovery).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut all = BTreeSet::new();
    for taker in takers {
        for id in taker.await.unwrap() {
            assert!(all.insert(id), "{id} was given twice");
            assert!(!marks.iter().any(|(next, set)| id >= *next && id < *set), "{id} was skipped over");
        }
    }
    assert_eq!(all.len(), 200);
    let skipped: u32 = marks.iter().map(|(next, set)| set.0 - next.0).sum();
    assert_eq!(catalog.next_table_id().await.unwrap(), TableId(1024 + 200 + skipped), "no id is lost in a batch");
}
