//! Decoding around an address whose function is not known: generated code, stripped assembly.
//!
//! x86 instructions cannot be decoded backwards, but decoding forwards from anywhere falls into step with the
//! real instructions after a few, and almost always within a dozen bytes. So decoding starts some way before the
//! sampled instruction, at each of the offsets within one instruction's length in turn, and the first that arrives
//! exactly on it is taken. Code between there and the first thing that is no instruction is dropped.

use iced_x86::{Decoder, DecoderOptions, Instruction as Decoded};

use super::code::Code;
use super::flow::Flow;

/// Bytes before the sampled instruction that are decoded: two dozen instructions of any usual length.
const BEFORE: u64 = 192;
/// Bytes after it, in which the end of a loop is looked for.
const AFTER: u64 = 320;
const LONGEST_INSTRUCTION: usize = 15;

/// The bytes around one address, and what they decode to.
pub(super) struct Window {
    start: u64,
    bytes: Vec<u8>,
    pub(super) flow: std::rc::Rc<Flow>,
}

impl Window {
    /// Decodes around `ip`; `None` if there is no code.
    pub(super) fn around(ip: u64, code: &mut dyn Code) -> Option<Window> {
        let (start, bytes) = read_around(ip, code)?;
        let at = usize::try_from(ip - start).ok()?;
        let first = synchronise(&bytes, at);
        let end = at + length_of_code(&bytes[at..]);
        let flow = Flow::decode(&bytes[first..end], start + first as u64, false);
        flow.at(ip)?;
        Some(Window { start, bytes, flow: std::rc::Rc::new(flow) })
    }

    /// Whether the code is still what was decoded. Generated code changes without notice.
    pub(super) fn is_current(&self, code: &mut dyn Code) -> bool {
        let mut bytes = [0; (BEFORE + AFTER) as usize];
        let Some(bytes) = bytes.get_mut(..self.bytes.len()) else { return false };
        code.read(self.start, bytes) == self.bytes.len() && *bytes == self.bytes
    }
}

fn read_around(ip: u64, code: &mut dyn Code) -> Option<(u64, Vec<u8>)> {
    const PAGE: u64 = 4096;
    let wished = ip.saturating_sub(BEFORE);
    // If the page before is not mapped, nothing can be read from there on.
    for start in [wished, (ip & !(PAGE - 1)).max(wished)] {
        let mut bytes = vec![0; usize::try_from(ip - start + AFTER).ok()?];
        let read = code.read(start, &mut bytes);
        if read as u64 > ip - start {
            bytes.truncate(read);
            return Some((start, bytes));
        }
    }
    None
}

/// Where to start decoding in order to arrive at `at`, and be among instructions all the way.
fn synchronise(bytes: &[u8], at: usize) -> usize {
    let mut best = at;
    for offset in 0..=LONGEST_INSTRUCTION.min(at) {
        let mut decoder = Decoder::with_ip(64, &bytes[offset..], 0, DecoderOptions::NONE);
        let mut decoded = Decoded::default();
        let mut first = offset;
        while decoder.can_decode() && offset + decoder.position() < at {
            decoder.decode_out(&mut decoded);
            if decoded.is_invalid() {
                first = offset + decoder.position();
            }
        }
        if offset + decoder.position() == at && first < best {
            best = first;
            if first == offset {
                break;
            }
        }
    }
    best
}

/// How far `bytes` decodes to instructions.
fn length_of_code(bytes: &[u8]) -> usize {
    let mut decoder = Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE);
    let mut decoded = Decoded::default();
    let mut end = 0;
    while decoder.can_decode() {
        decoder.decode_out(&mut decoded);
        if decoded.is_invalid() {
            break;
        }
        end = decoder.position();
    }
    end
}
