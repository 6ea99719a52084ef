//! Tests of the layers and of the printed file.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;

fn file(text: &str) -> Option<(PathBuf, String)> {
    Some((PathBuf::from("t.toml"), text.to_owned()))
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn each_layer_wins_over_the_ones_below_it() {
    let text = "data_home = '/a'\n[http]\naddr = '127.0.0.1:1'\n[engine]\nzstd_level = 3\n";
    let layers = Layers {
        file: file(text),
        env: env(&[("TESSERA_HTTP_ADDR", "127.0.0.1:2"), ("TESSERA_ENGINE_ZSTD_LEVEL", "4"), ("TESSERA_SEED", "x")]),
        flags: vec![("--http-addr", "http.addr", "127.0.0.1:3".to_owned())],
    };
    let config = layers.resolve().unwrap();
    assert_eq!(config.data_home, PathBuf::from("/a"));
    assert_eq!(config.http.addr.port(), 3);
    assert_eq!(config.engine.zstd_level, 4);
    assert_eq!(config.wal, Wal::default());
}

#[test]
fn an_unknown_key_in_the_file_is_named() {
    for (text, key) in [("dta_home = 'x'", "dta_home"), ("[http]\nadr = '1'", "adr"), ("[htp]\naddr = '1'", "htp")] {
        let error = Layers { file: file(text), ..Layers::default() }.resolve().unwrap_err().to_string();
        assert!(error.contains("t.toml") && error.contains(&format!("unknown field `{key}`")), "{error}");
    }
}

#[test]
fn a_value_that_does_not_fit_names_its_origin_and_key() {
    let error = Layers { env: env(&[("TESSERA_ENGINE_VERIFY_SST", "maybe")]), ..Layers::default() }.resolve().unwrap_err().to_string();
    assert!(error.contains("TESSERA_ENGINE_VERIFY_SST") && error.contains("maybe") && error.contains("engine.verify_sst"), "{error}");
    let flags = vec![("--http-addr", "http.addr", "localhost".to_owned())];
    let error = Layers { flags, ..Layers::default() }.resolve().unwrap_err().to_string();
    assert!(error.starts_with("--http-addr: 'localhost'"), "{error}");
    let flags = vec![("--set", "http.adr", "1".to_owned())];
    assert!(matches!(Layers { flags, ..Layers::default() }.resolve(), Err(ConfigError::UnknownKey { .. })));
}

#[test]
fn values_out_of_bounds_are_refused() {
    for (path, value) in [
        ("engine.zstd_level", "23"),
        ("engine.memtable_bytes_max", "1MiB"),
        ("engine.wal_bytes_max", "1MiB"),
        ("wal.segment_bytes", "0"),
        ("wal.segment_bytes", "65537"),
        ("wal.segment_bytes", "2GiB"),
    ] {
        let flags = vec![("--set", path, value.to_owned())];
        assert!(matches!(Layers { flags, ..Layers::default() }.resolve(), Err(ConfigError::Bounds { key, .. }) if key == path));
    }
}

#[test]
fn sizes_take_binary_units() {
    let flags = vec![("--set", "engine.region_memtable_bytes", "2 MiB".to_owned())];
    assert_eq!(Layers { flags, ..Layers::default() }.resolve().unwrap().engine.region_memtable_bytes, 2 << 20);
    let flags = vec![("--set", "engine.wal_bytes_max", "256MiB".to_owned())];
    assert_eq!(Layers { flags, ..Layers::default() }.resolve().unwrap().engine.to_engine().wal_bytes_max, 256 << 20);
}

#[test]
fn the_printed_file_reads_back_as_the_same_settings() {
    let config = Config {
        data_home: PathBuf::from("/da\"ta\\ü"),
        log: Log { format: LogFormat::Json, ..Log::default() },
        wal: Wal { sync_interval_ms: 5, ..Wal::default() },
        ..Config::default()
    };
    let text = config.to_toml();
    assert_eq!(toml::from_str::<Config>(&text).unwrap(), config, "{text}");
}

#[test]
fn every_setting_is_documented_once() {
    let tree = layers::to_tree(&Config::default());
    let mut leaves = BTreeSet::new();
    for (name, value) in tree.as_object().unwrap() {
        match value.as_object() {
            None => assert!(leaves.insert(name.clone())),
            Some(table) => leaves.extend(table.keys().map(|leaf| format!("{name}.{leaf}"))),
        }
    }
    let listed: BTreeSet<String> = keys::KEYS.iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(listed.len(), keys::KEYS.len(), "a key is listed twice");
    assert_eq!(listed, leaves);
}
