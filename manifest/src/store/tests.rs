//! Tests of opening stores, and of where requests go. None needs a server.

#[cfg(feature = "network")]
use std::error::Error as _;

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions};

use super::routed::Routed;
use super::*;
use crate::testing::FaultStore;

#[test]
fn a_folder_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let error = open(missing.to_str().unwrap(), &Options::explicit()).unwrap_err();
    assert!(error.to_string().contains("create it"), "{error}");
    assert!(!missing.exists());
}

#[tokio::test]
async fn a_folder_is_the_store_and_memory_may_have_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let local = open(dir.path().to_str().unwrap(), &Options::explicit()).unwrap();
    assert_eq!(local.root, Root::default());
    local.store.put(&Path::from("a/b"), "x".into()).await.unwrap();
    assert_eq!(std::fs::read(dir.path().join("a/b")).unwrap(), b"x");
    assert_eq!(open("memory:///c1", &Options::explicit()).unwrap().root, Root::new(Path::from("c1")));
}

#[cfg(not(feature = "aws"))]
#[test]
fn without_its_feature_a_bucket_is_refused_with_the_feature_to_build_with() {
    let error = open("s3://bucket/x", &Options::explicit()).unwrap_err();
    assert!(error.to_string().contains("--features aws"), "{error}");
}

#[cfg(not(feature = "azure"))]
#[test]
fn without_its_feature_a_container_is_refused_with_the_feature_to_build_with() {
    let error = open("az://container/x", &Options::explicit()).unwrap_err();
    assert!(error.to_string().contains("--features azure"), "{error}");
}

#[test]
fn options_show_their_keys_and_never_their_values() {
    let options = Options::from_environment().with_pairs(["secret_access_key=hunter2", "region=x=y"]).unwrap();
    let shown = format!("{options:?}");
    assert!(shown.contains("secret_access_key") && !shown.contains("hunter2"), "{shown}");
    let error = Options::explicit().with_pairs(["hunter2"]).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn only_an_exclusive_create_goes_to_the_client_that_repeats_nothing() {
    let (once, again) = (FaultStore::default(), FaultStore::default());
    let store = Routed { name: "x".into(), once: Arc::new(once.clone()), again: Arc::new(again.clone()) };
    let path = Path::from("a");
    let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    store.put_opts(&path, "x".into(), create).await.unwrap();
    assert_eq!((once.take_requests(), again.take_requests()), (vec!["put"], vec![]));
    store.put(&path, "x".into()).await.unwrap();
    store.get(&path).await.unwrap();
    assert_eq!((once.take_requests(), again.take_requests()), (vec![], vec!["put", "get"]));
}

#[cfg(feature = "network")]
#[tokio::test]
async fn deletes_without_an_answer_are_sent_again_once() {
    use object_store::Error;
    use object_store::client::{HttpError, HttpErrorKind};
    let reset = || HttpError::new(HttpErrorKind::Interrupted, std::io::Error::other("connection reset"));
    let lost = || Err(Error::Generic { store: "x", source: Box::new(reset()) });
    let refused = || Err(Error::Generic { store: "x", source: "503, after 8 retries".into() });
    let missing = |path: &Path| Err(Error::NotFound { path: path.to_string(), source: "gone".into() });
    let [a, b, c] = ["a", "b", "c"].map(Path::from);
    let all = vec![a.clone(), b.clone(), c.clone()];
    let asked = std::sync::Mutex::new(Vec::new());
    // Answers in turns; an answer for each path, or one error for all that follow.
    let deleted = async |answers: &[&dyn Fn() -> Vec<object_store::Result<Path>>]| {
        asked.lock().unwrap().clear();
        let delete = |paths: Vec<Path>| {
            asked.lock().unwrap().push(paths);
            let answer = answers[asked.lock().unwrap().len() - 1]();
            async { answer }
        };
        super::routed::delete_again(all.clone(), delete).await.into_iter().map(|answer| answer.ok()).collect::<Vec<_>>()
    };
    let clear = || vec![Ok(a.clone()), missing(&b), Ok(c.clone())];
    assert_eq!(deleted(&[&clear]).await, [Some(a.clone()), None, Some(c.clone())], "what was not there is said once");
    // One request had both, and its second try does not find what the first deleted.
    let (broken, again) = (|| vec![Ok(a.clone()), lost()], || vec![missing(&b), Ok(c.clone())]);
    assert_eq!(deleted(&[&broken, &again]).await, [Some(a.clone()), Some(b.clone()), Some(c.clone())]);
    assert_eq!(*asked.lock().unwrap(), [all.clone(), vec![b.clone(), c.clone()]]);
    assert_eq!(deleted(&[&broken, &|| vec![lost()]]).await, [Some(a.clone()), None], "and no third time");
    let (last, again) = (|| vec![lost(), Ok(c.clone())], || vec![Ok(a.clone()), refused()]);
    assert_eq!(deleted(&[&last, &again]).await, [Some(a.clone()), None, Some(c.clone())], "in the order of the paths");
    // What the client has repeated itself, as often as it may, is not sent anew.
    let tired = || vec![Ok(a.clone()), refused(), Ok(c.clone())];
    assert_eq!(deleted(&[&tired]).await, [Some(a.clone()), None, Some(c.clone())]);
}

#[cfg(feature = "network")]
/// All that an error shows: its message, its causes, its debug form.
fn all_words(error: &OpenError) -> String {
    let mut words = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words} {cause}");
        source = cause.source();
    }
    words
}

#[cfg(feature = "aws")]
#[test]
fn an_s3_client_shows_its_bucket_and_no_key() {
    let options = Options::explicit().with("access_key_id", "AKEXAMPLE").with("secret_access_key", "hunter2hunter2");
    let opened = open("s3://bucket/c1", &options).unwrap();
    let shown = format!("{opened:?} {}", opened.store);
    assert!(shown.contains("s3://bucket") && !shown.contains("hunter2") && !shown.contains("AKEXAMPLE"), "{shown}");
}

#[cfg(feature = "azure")]
#[test]
fn an_azure_client_shows_its_container_and_no_key() {
    let options = Options::explicit().with("access_key", "aHVudGVyMmh1bnRlcjI=");
    let opened = open("az://box@account/c1", &options).unwrap();
    let shown = format!("{opened:?} {}", opened.store);
    assert!(shown.contains("az://box@account") && !shown.contains("aHVudGVy"), "{shown}");
}

#[cfg(feature = "aws")]
#[test]
fn plain_http_must_be_allowed() {
    let options = Options::explicit().with("endpoint", "http://127.0.0.1:9");
    let error = open("s3://bucket", &options).unwrap_err();
    assert!(error.to_string().contains("allow_http=true"), "{error}");
    open("s3://bucket", &options.with("allow_http", "true")).unwrap();
}

#[cfg(feature = "aws")]
#[test]
fn an_unknown_option_is_named_and_its_value_is_not() {
    let error = open("s3://bucket", &Options::explicit().with("acces_key", "hunter2")).unwrap_err();
    assert!(error.to_string().contains("acces_key"), "{error}");
    assert!(!all_words(&error).contains("hunter2"));
}

#[cfg(feature = "azure")]
#[test]
fn a_client_that_repeats_a_secret_in_its_refusal_is_not_quoted() {
    let options = Options::explicit().with("account_name", "a").with("endpoint", "not a url hunter2");
    let error = open("az://box", &options).unwrap_err();
    assert!(matches!(&error, OpenError::Client { source: None, .. }), "{error:?}");
    let missing = open("az://box", &Options::explicit()).unwrap_err();
    assert!(all_words(&missing).contains("ccount"), "{}", all_words(&missing));
}
