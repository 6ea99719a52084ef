//! Tests of merge.
