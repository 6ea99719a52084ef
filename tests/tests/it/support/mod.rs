//! What the topics share: servers as processes, their answers, files of a data home, real data.

mod answer;
mod files;
mod procedures;
mod server;

use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand::rngs::StdRng;
use tessera_manifest::env::Env;

pub(crate) use answer::Refusal;
pub(crate) use files::{Objects, files, flip_bit, one_file};
pub(crate) use procedures::{settle, try_settle};
pub(crate) use server::{Ended, Server, binary};

/// The folder of the package.
pub(crate) fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The weather of 2013 at three airports: 26,115 rows.
pub(crate) fn weather_csv() -> PathBuf {
    package().join("data/weather.csv")
}

/// Every flight that left them, if the file is here: `TESSERA_FLIGHTS`, or in the folder `shared` beside the repository.
pub(crate) fn flights_csv() -> Option<PathBuf> {
    let named = std::env::var_os("TESSERA_FLIGHTS").map(PathBuf::from);
    let beside = |folder: &Path| folder.join("shared/data/flights.csv.gz");
    named.into_iter().chain(package().ancestors().map(beside)).find(|path| path.is_file())
}

/// Says on stderr that a test, or a part of one, could not run here.
pub(crate) fn skipped(what: &str, why: &str) {
    eprintln!("SKIPPED {what}: {why}");
}

/// The random numbers of a test; the seed is printed, and `TESSERA_SEED` sets it.
pub(crate) fn random(test: &str) -> StdRng {
    let given = std::env::var("TESSERA_SEED").ok().map(|text| text.parse().expect("TESSERA_SEED is a number"));
    let seed = given.unwrap_or_else(|| (Env::system().nonce().0 >> 64) as u64);
    eprintln!("{test}: TESSERA_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Statements that make the table of the weather, in three regions, and fill it.
pub(crate) fn create_weather() -> &'static str {
    "CREATE TABLE weather (origin STRING, time_hour TIMESTAMP(3) TIME INDEX, year INT, month INT, day INT, hour INT, temp DOUBLE, \
     dewp DOUBLE, humid DOUBLE, wind_dir INT, wind_speed DOUBLE, wind_gust DOUBLE, precip DOUBLE, pressure DOUBLE, visib DOUBLE, \
     PRIMARY KEY (origin)) PARTITION ON COLUMNS (origin) (origin < 'F', origin >= 'F' AND origin < 'L', origin >= 'L')"
}

/// Fills a table with the weather.
pub(crate) fn copy_weather() -> String {
    format!("COPY weather FROM '{}' WITH (null_values = 'NA')", weather_csv().display())
}
