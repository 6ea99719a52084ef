//! Tests of memtable.
