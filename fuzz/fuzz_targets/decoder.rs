#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| throng::fuzz::decoder(data));
