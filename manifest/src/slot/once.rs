//! An object that is created once: whoever comes first decides what is in it, and everybody learns which it was.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::attempt::{Attempt, PutAnswer, ReadAnswer, Step};
use super::store::{Tuning, pause};
use crate::error::Error;

/// What came of creating an object.
#[derive(Debug)]
pub(crate) enum Once {
    /// It holds the bytes, put by this call or by another with the same.
    Ours,
    /// It holds these.
    Theirs(Bytes),
    /// It is not known what it holds or will hold.
    Unknown(Error),
}

/// Creates the object with these bytes, unless there is one. See [`Attempt`] for the rules: nothing but a clean success
/// is believed without reading the object back.
pub(crate) async fn create_once(store: &Arc<dyn ObjectStore>, path: &Path, bytes: Bytes) -> Once {
    let tuning = Tuning::default();
    let mut attempt = Attempt::new(bytes, tuning.tries);
    let (mut step, mut last, mut backoff) = (Step::Put, None, tuning.backoff_min);
    loop {
        step = match step {
            Step::Put => {
                let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                match store.put_opts(path, attempt.bytes().clone().into(), options).await {
                    Ok(_) => attempt.on_put(PutAnswer::Created),
                    Err(error) => {
                        last = Some(error);
                        attempt.on_put(PutAnswer::Unclear)
                    }
                }
            }
            Step::Read => {
                let found = async { store.get(path).await?.bytes().await };
                let answer = match found.await {
                    Ok(bytes) => ReadAnswer::Found(bytes),
                    Err(object_store::Error::NotFound { .. }) => ReadAnswer::Missing,
                    Err(error) => {
                        last = Some(error);
                        ReadAnswer::Failed
                    }
                };
                if !matches!(answer, ReadAnswer::Found(_)) {
                    pause(backoff).await;
                    backoff = (backoff * 2).min(tuning.backoff_max);
                }
                attempt.on_read(answer)
            }
            Step::Ours => return Once::Ours,
            Step::Theirs(bytes) => return Once::Theirs(bytes),
            Step::Unknown => return Once::Unknown(Error::Unknown { path: path.to_string(), source: last.map(Box::new) }),
        };
    }
}
