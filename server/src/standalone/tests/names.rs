//! Tests of names and LIKE patterns.

use super::super::matches_like;

#[test]
fn like_patterns_match_as_in_sql() {
    for (name, pattern, expected) in [
        ("cpu", "cpu", true),
        ("cpu", "c%", true),
        ("cpu", "%p%", true),
        ("cpu", "_p_", true),
        ("cpu", "_p", false),
        ("cpu", "%%", true),
        ("", "%", true),
        ("", "_", false),
        ("abcabd", "%ab_", true),
        ("abcabd", "%abc", false),
    ] {
        assert_eq!(matches_like(name, Some(pattern)), expected, "{name} LIKE {pattern}");
    }
    assert!(matches_like("anything", None));
}
