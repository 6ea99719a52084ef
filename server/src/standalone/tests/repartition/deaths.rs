//! Processes that die at chosen steps of a repartition, and what their successors do at once or refuse.

use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use tessera_metaclient::procedure::{Phase, Record};

use super::super::failing::{FailingStore, Put};
use super::held::{At, Hold};
use super::*;

/// Where the references of the table's first region are.
const SEGMENTS: &str = "0000001024/0000000000/manifest/seg";

async fn filled(session: &Session) {
    session.run(&create("")).await;
    session.run("INSERT INTO t VALUES ('a', 1, 1, 1), ('g', 1, 2, 2), ('z', 1, 3, 3)").await;
    session.rows("ADMIN flush_table('t')").await;
}

/// Runs a split until its process is held, which dies there.
async fn die(session: Session, hold: &Hold) {
    tokio::select! {
        answer = session.execute(SPLIT) => panic!("it was answered: {:?}", answer.map(|_| ())),
        () = hold.reached() => {}
    }
}

async fn last(session: &Session) -> Record {
    let client = session.server.procedures().client();
    let id = client.list(None, 1000).await.unwrap().pop().unwrap().id;
    client.wait(&id).await.unwrap()
}

/// A process that dies between the creation of the new regions and the fence, or right after the decision, leaves regions
/// that no route leads to: its successor opens none of them when it starts, and has to before it admits writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_takes_rows_for_new_regions_as_soon_as_the_commit_admits_them() {
    for at in [At::Before("prepare"), At::Before("stage"), At::After("decide")] {
        let (world, hold) = (World::new(), Hold::new(at));
        let session = world.open_held(&hold).await;
        filled(&session).await;
        die(session, &hold).await;
        let hold = Hold::new(At::Before("drain"));
        let session = world.open_held(&hold).await;
        hold.reached().await;
        let table = session.server.catalogs.table("public", "t").await.unwrap();
        let new: Vec<_> = table.write_routes().iter().filter(|route| route.region.number().0 == 2).collect();
        assert_eq!(new.len(), 1, "{at:?}: admitted, and nothing more: {:?}", table.write_routes());
        assert!(!table.sets.is_settled(), "{at:?}");
        // Nobody but the fence has opened it. It takes rows at once, without another try.
        assert!(session.server.catalogs.engine.region(new[0].region).is_ok(), "{at:?}: {} is not open", new[0].region);
        assert_eq!(session.run("INSERT INTO t VALUES ('b', 1, 4, 4), ('h', 1, 5, 5), ('y', 1, 6, 6)").await, 3);
        hold.free();
        assert_eq!(last(&session).await.phase, Phase::Done, "{at:?}");
        assert_eq!(session.all().await.len(), 6, "{at:?}");
        session.expect_settled().await;
        session.server.close().await.unwrap();
    }
}

/// What may become of an object while nobody looks.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Harm {
    Damage,
    Loss,
}

fn damaged(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x5a;
    bytes
}

/// Asserts that a text names a segment, what is wrong with it, and says what to do.
fn expect_advice(harm: Harm, text: &str) {
    let what = if harm == Harm::Damage { "checksum" } else { "it is not there, although the manifest names it" };
    let parts = [SEGMENTS, what, "bring that object back from a backup"];
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
}

/// Retries the blocked procedure, and looks at all rows.
async fn retry(session: &Session, id: &tessera_metaclient::procedure::ProcedureId) {
    session.rows(&format!("ADMIN retry_procedure('{id}')")).await;
    assert_eq!(session.server.procedures().client().wait(id).await.unwrap().phase, Phase::Done);
    session.expect_settled().await;
    assert_eq!(session.all().await, ["a|1|1|1", "b|1|4|4", "g|1|2|2", "h|1|5|5", "z|1|3|3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_that_the_store_damages_block_a_repartition_until_it_damages_them_no_more() {
    let store = Arc::new(FailingStore::default());
    let world = World { store: Arc::clone(&store) as Arc<dyn ObjectStore>, ..World::new() };
    let session = world.open().await;
    filled(&session).await;
    store.on_put(move |name, bytes| if name.starts_with(SEGMENTS) { Put::Altered(damaged(bytes)) } else { Put::Taken });
    let (_, message) = session.refused(SPLIT).await;
    assert!(message.contains("is blocked: remove the cause, then ADMIN retry_procedure('"), "{message}");
    expect_advice(Harm::Damage, &message);
    assert_eq!(session.all().await.len(), 3, "what was written before is read");
    assert_eq!(session.run("INSERT INTO t VALUES ('b', 1, 4, 4), ('h', 1, 5, 5)").await, 2);
    let blocked = last(&session).await;
    // As long as it damages them, another try ends as the first.
    session.rows(&format!("ADMIN retry_procedure('{}')", blocked.id)).await;
    let again = last(&session).await;
    assert!(again.phase.is_blocked(), "{again:?}");
    expect_advice(Harm::Damage, again.error.as_deref().unwrap());
    store.heal();
    retry(&session, &blocked.id).await;
    session.server.close().await.unwrap();
}

/// A remap whose references the store loses before they are taken is made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_that_the_store_loses_at_once_are_made_anew() {
    let store = Arc::new(FailingStore::default());
    let world = World { store: Arc::clone(&store) as Arc<dyn ObjectStore>, ..World::new() };
    let session = world.open().await;
    filled(&session).await;
    let mut lost = 0;
    store.on_put(move |name, _| {
        let loses = name.starts_with(SEGMENTS) && lost < 3;
        lost += i32::from(loses);
        if loses { Put::Lost } else { Put::Taken }
    });
    // Who waits may be told that it takes longer.
    let _answer = session.execute(SPLIT).await.map(|_| ());
    assert_eq!(last(&session).await.phase, Phase::Done);
    session.expect_settled().await;
    assert_eq!(session.all().await.len(), 3);
    assert_eq!(session.rules().await.len(), 3, "it was done");
    session.server.close().await.unwrap();
}

/// References that a region has taken are needed to open it: here the object itself is damaged or gone, and brought back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_that_are_damaged_or_lost_once_they_were_taken_block_a_repartition_until_they_are_back() {
    for harm in [Harm::Damage, Harm::Loss] {
        let (world, hold) = (World::new(), Hold::new(At::Before("resolve")));
        let session = world.open_held(&hold).await;
        filled(&session).await;
        let writes = async {
            // Rows of the new rules, which the commit admitted.
            hold.reached().await;
            session.run("INSERT INTO t VALUES ('b', 1, 4, 4), ('h', 1, 5, 5)").await;
            session.rows("ADMIN flush_table('t')").await;
        };
        tokio::select! {
            answer = session.execute(SPLIT) => panic!("{:?}", answer.map(|_| ())),
            () = writes => {}
        }
        drop(session);
        let objects: Vec<ObjectMeta> = world.store.list(Some(&Path::from("0000001024/0000000000"))).try_collect().await.unwrap();
        let mut sound = Vec::new();
        for object in objects.into_iter().filter(|object| object.location.as_ref().starts_with(SEGMENTS)) {
            let bytes = world.store.get(&object.location).await.unwrap().bytes().await.unwrap();
            match harm {
                Harm::Damage => drop(world.store.put(&object.location, damaged(&bytes).into()).await.unwrap()),
                Harm::Loss => world.store.delete(&object.location).await.unwrap(),
            }
            sound.push((object.location, bytes));
        }
        assert!(!sound.is_empty());
        let session = world.open().await;
        let blocked = last(&session).await;
        assert!(blocked.phase.is_blocked(), "{blocked:?}");
        expect_advice(harm, blocked.error.as_deref().unwrap());
        for (location, bytes) in sound {
            world.store.put(&location, bytes.into()).await.unwrap();
        }
        retry(&session, &blocked.id).await;
        session.server.close().await.unwrap();
    }
}

/// A decimal in a rule is a number of units of its column's last digit: once the column has more digits, it is another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repartition_that_waited_while_its_column_got_more_digits_is_refused() {
    let (world, hold) = (World::new(), Hold::new(At::Before("prepare")));
    let session = world.open_held(&hold).await;
    session
        .run(
            "CREATE TABLE t (host STRING, ts TIMESTAMP(3) TIME INDEX, v BIGINT, w DECIMAL(10, 2), PRIMARY KEY (host)) \
             PARTITION ON COLUMNS (host) (host < 'm', host >= 'm') WITH (append_mode = 'true')",
        )
        .await;
    session.run("INSERT INTO t VALUES ('a', 1, 1, '4.99'), ('g', 1, 2, '5.00'), ('z', 1, 3, '49.00')").await;
    session.rows(&format!("{SPLIT} WITH (wait = false)")).await;
    hold.reached().await;
    let client = session.server.procedures().client();
    let submitted = async |all: usize| {
        while client.list(None, 1000).await.unwrap().len() < all {
            tessera_manifest::env::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let before = client.list(None, 1000).await.unwrap().len();
    let on_digits = "ALTER TABLE t PARTITION ON COLUMNS (w) (w < 5.00, w >= 5.00)";
    let (altered, refused, ()) = tokio::join!(
        session.execute("ALTER TABLE t MODIFY COLUMN w DECIMAL(20, 3)"),
        async {
            submitted(before + 1).await;
            session.refused(on_digits).await
        },
        async {
            submitted(before + 2).await;
            hold.free();
        }
    );
    altered.map(|_| ()).unwrap();
    assert_eq!(refused.0, Code::InvalidArguments, "{refused:?}");
    let told = "column 'w' was decimal(10,2) when the statement was submitted and is decimal(20,3) now";
    assert!(refused.1.contains(told) && refused.1.contains("run the statement again"), "{refused:?}");
    assert_eq!(session.rules().await.len(), 3, "only the first was done");
    session.repartition(on_digits).await;
    assert_eq!(session.rows("SELECT v FROM t WHERE w < 5.00 ORDER BY v").await, ["1"]);
    assert_eq!(session.rows("SELECT v FROM t WHERE w >= 5.00 ORDER BY v").await, ["2", "3"]);
    session.expect_settled().await;
    session.server.close().await.unwrap();
}
