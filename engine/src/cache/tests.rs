//! Caches stay within their bytes.

use super::Counted;

#[test]
fn a_cache_never_keeps_more_bytes_than_allowed() {
    let cache: Counted<u64, Vec<u8>> = Counted::new("test", 10_000, Vec::len);
    for key in 0..1_000 {
        cache.insert(key, vec![0; 900]);
    }
    assert!(cache.weight() <= 10_000, "{} bytes", cache.weight());
    cache.insert(5_000, vec![0; 20_000]);
    assert!(cache.weight() <= 10_000 && cache.get(&5_000).is_none(), "what exceeds the capacity is not kept");
}
