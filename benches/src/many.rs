//! A node with many small regions, whose requests to the object store are counted.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::stream::{self, StreamExt, TryStreamExt};
use tessera_engine::config::Config;
use tessera_engine::engine::{Engine, Parts};
use tessera_manifest::env::{self, Env, Stopwatch};
use tessera_manifest::id::NodeId;
use tessera_manifest::schema::Schema;

use crate::Result;
use crate::counted::Counted;
use crate::node::{self, region_id, region_meta};

/// The node; its engine runs only while it is asked for something.
#[derive(Debug, Clone, Copy)]
pub struct ManyRegions<'a> {
    /// Its folder.
    pub dir: &'a FilePath,
    /// The schema of all regions.
    pub schema: &'a Arc<Schema>,
    /// Of the engine.
    pub config: &'a Config,
    /// How many.
    pub regions: u32,
}

impl ManyRegions<'_> {
    /// Creates the regions, puts a row into each, and closes them.
    ///
    /// # Errors
    /// The engine's.
    pub async fn create(&self, row: RecordBatch) -> Result<()> {
        let (engine, _) = self.start().await?;
        let create = |number| {
            let (engine, meta, row) = (engine.clone(), region_meta(number, self.schema), row.clone());
            let created = env::spawn(async move { node::put(&engine.create_region(meta).await?, row).await });
            async move { created.await? }
        };
        stream::iter(0..self.regions).map(create).buffer_unordered(self.config.open_parallelism).try_collect::<()>().await?;
        close(engine).await
    }

    /// Opens the regions, and closes them again; how long opening took, and its requests.
    ///
    /// # Errors
    /// The engine's, and when a region did not open.
    pub async fn open(&self) -> Result<(Duration, usize)> {
        let (engine, requests) = self.start().await?;
        let before = requests.load(Ordering::Relaxed);
        let watch = Stopwatch::start();
        let opened = engine.open_regions((0..self.regions).map(region_id).collect()).await;
        let elapsed = watch.elapsed();
        let counted = requests.load(Ordering::Relaxed) - before;
        for (_, region) in opened {
            if region?.info().files != 1 {
                return Err("check failed: a region does not have its one file".into());
            }
        }
        close(engine).await?;
        Ok((elapsed, counted))
    }

    async fn start(&self) -> Result<(Engine, Arc<AtomicUsize>)> {
        let requests = Arc::<AtomicUsize>::default();
        let store = Arc::new(Counted::new(node::store(self.dir)?, &requests));
        let wal = node::wal(self.dir).await?;
        let engine = Engine::start(Parts {
            store,
            wal,
            node: NodeId(1),
            env: Env::system(),
            config: self.config.clone(),
            read_set: None,
            reachable: None,
        });
        Ok((engine, requests))
    }
}

async fn close(engine: Engine) -> Result<()> {
    engine.close().await?;
    Ok(engine.wal().close().await?)
}
