//! What a process that dies or sleeps leaves.

use std::task::Poll;

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;

use super::*;

#[test]
fn a_place_is_a_number_a_side_and_what_it_is_counted_from() {
    let place = |from_start, writes, side| Some(Place { from_start, writes, side });
    assert_eq!(Place::parse("3"), place(false, 3, Side::Before));
    assert_eq!(Place::parse("3+"), place(false, 3, Side::After));
    assert_eq!(Place::parse("start:0"), place(true, 0, Side::Before));
    assert_eq!(Place::parse("start:12+"), place(true, 12, Side::After));
    for text in ["", "+", "start:", "start", "-1", "3++"] {
        assert_eq!(Place::parse(text), None, "{text}");
    }
}

/// Does what can be done without waiting.
async fn poll_once<T>(work: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    match futures::poll!(work) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_slow_process_does_late_what_it_had_begun() {
    for (side, is_there) in [(Side::Before, false), (Side::After, true)] {
        let (inner, fuse) = (Arc::new(InMemory::new()), Fuse::new(side, Death::Silence));
        let store = FusedStore::new(Arc::clone(&inner) as Arc<dyn ObjectStore>, Arc::clone(&fuse));
        fuse.light(1);
        let [first, last, next] = ["first", "last", "next"].map(Path::from);
        store.put(&first, "1".into()).await.unwrap();
        let mut put = Box::pin(store.put(&last, "2".into()));
        assert!(poll_once(&mut put).await.is_none());
        fuse.burnt().await;
        let mut another = Box::pin(store.put(&next, "3".into()));
        let mut read = Box::pin(store.get(&first));
        assert!(poll_once(&mut another).await.is_none() && poll_once(&mut read).await.is_none());
        assert_eq!(inner.head(&last).await.is_ok(), is_there, "{side:?}");
        assert!(inner.head(&next).await.is_err());
        assert_eq!(fuse.last().unwrap(), "put of last");
        fuse.awake();
        put.await.unwrap();
        another.await.unwrap();
        read.await.unwrap();
        assert!(inner.head(&last).await.is_ok() && inner.head(&next).await.is_ok());
    }
}
