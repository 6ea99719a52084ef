//! See `decoders.rs`.

#![no_main]

#[expect(dead_code, reason = "each target uses one of the decoders")]
#[path = "../decoders.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    decoders::record(bytes);
});
