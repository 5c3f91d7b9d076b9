#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    spanhook_fuzz::message(data);
});
