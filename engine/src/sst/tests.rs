//! Tests of sst.
