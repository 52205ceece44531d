//! A target that owns its segment may write anything into it, at any time. Whatever it does, the consumer must come to an
//! end, stay inside the ring and never panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::atomic::{AtomicU64, Ordering};
use tierscope_wire::event::{MAX_BUILD_ID_BYTES, MAX_TEXT_BYTES};
use tierscope_wire::hello::Hello;
use tierscope_wire::options::Options;
use tierscope_wire::{Consumer, Event, Header, MAX_EVENT_WORDS, MAX_FRAMES, RingHeader, StackId, StackTable};

/// Words of the fuzzed ring.
const RING_WORDS: usize = 1024;
/// Bytes of a ring header, as words.
const HEADER_WORDS: usize = size_of::<RingHeader>() / 8;

/// A ring header made of arbitrary words, aligned as it is in a segment.
#[repr(C, align(64))]
struct Page([u64; HEADER_WORDS]);

fuzz_target!(|data: &[u8]| {
    let mut words: Vec<u64> =
        data.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().expect("eight bytes"))).collect();
    words.resize(HEADER_WORDS + RING_WORDS, 0);
    let mut page = Page([0; HEADER_WORDS]);
    page.0.copy_from_slice(&words[..HEADER_WORDS]);
    // SAFETY: as large and as aligned as a ring header, which is made of atomics: any bytes are valid.
    let header = unsafe { &*(&raw const page).cast::<RingHeader>() };
    let ring: Vec<AtomicU64> = words[HEADER_WORDS..][..RING_WORDS].iter().map(|word| AtomicU64::new(*word)).collect();

    let consumer = Consumer::new(header, &ring).expect("a power of two");
    let mut buffer = [0; MAX_EVENT_WORDS];
    let mut text = [0; MAX_TEXT_BYTES + MAX_BUILD_ID_BYTES];
    let mut events = 0;
    while let Ok(Some(length)) = consumer.pop(&mut buffer) {
        let _ = Event::decode(&buffer[..length], &mut text);
        events += 1;
        assert!(events <= RING_WORDS, "more events than a ring has words");
    }
    let _ = header.state();
    let _ = header.losses();

    let used = AtomicU64::new(words[0]);
    let table = StackTable::new(&used, &ring);
    for word in &words {
        let _ = table.read(StackId(*word as u32), &mut [0; MAX_FRAMES]);
    }
    let _ = table.append(&words, 1);
    for id in 0..RING_WORDS {
        assert!(table.read(StackId(id as u32), &mut [0; MAX_FRAMES]).is_none_or(|(frames, _)| frames <= MAX_FRAMES));
    }

    let mut page = vec![0_u64; 512];
    page.iter_mut().zip(&words).for_each(|(to, from)| *to = *from);
    // SAFETY: a page long and 8-byte aligned; the header is made of atomics.
    let segment = unsafe { &*page.as_ptr().cast::<Header>() };
    let _ = segment.geometry(words.last().map_or(0, |word| word % (1 << 32)));
    let _ = Hello::from_bytes(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Options::parse(text);
    }
    used.store(0, Ordering::Relaxed);
});
