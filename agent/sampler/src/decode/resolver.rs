//! Decodes each function once, and hands samples to the rules.
//!
//! Samples cluster: a few hundred functions hold nearly all of them. A function is decoded whole the first time a sample
//! falls on it, because only the whole shows where its loops end; after that a sample costs a look-up and a
//! short walk. Where bounds are not known, a window around the sampled instruction is decoded instead, and its bytes
//! are compared again for each sample, since such code is mostly generated and may be replaced in place.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::access::Access;
use super::code::Code;
use super::flow::Flow;
use super::rules::{Question, Recollection, unreadable};
use super::sweep::Window;
use crate::perf::RawSample;

/// Functions larger than this are not decoded whole.
const LARGEST_FUNCTION_BYTES: u64 = 1 << 20;
/// Decoded instructions kept; beyond, the cache starts afresh.
const MOST_CACHED: usize = 2 << 20;

/// Resolves the samples of one address space, and keeps what it decoded.
///
/// After `execve` the address space is a new one, and takes a new resolver.
#[derive(Default)]
pub struct Resolver {
    /// By their first address.
    functions: BTreeMap<u64, Function>,
    /// Around single addresses of unknown functions.
    windows: FxHashMap<u64, Window>,
    recollection: Recollection,
    /// Instructions held.
    cached: usize,
}

struct Function {
    end: u64,
    flow: Rc<Flow>,
}

impl Resolver {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The access that `sample` waited for. `known` says whether an address lies in an object that the caller knows;
    /// it is only asked where that decides between guesses.
    pub fn resolve(&mut self, sample: &RawSample, code: &mut dyn Code, known: &dyn Fn(u64) -> bool) -> Access {
        let flow = self.flow(sample.ip, code);
        let found = flow.as_ref().and_then(|flow| flow.at(sample.ip).map(|at| (&**flow, at)));
        let (Some(registers), Some((flow, at))) = (&sample.registers, found) else {
            return unreadable(sample);
        };
        let Some(sampled) = flow.get(at) else { return unreadable(sample) };
        let recollection = &mut self.recollection;
        Question { sample, registers, code, known, recollection }.answer(flow, at, sampled)
    }

    /// Forgets code in this range, which is no longer what it was: unmapped, or generated anew.
    pub fn invalidate(&mut self, range: Range<u64>) {
        self.functions.retain(|&start, function| function.end <= range.start || range.end <= start);
        self.windows.retain(|ip, _| !range.contains(ip));
    }

    /// The decoded code around `ip`.
    pub(super) fn flow(&mut self, ip: u64, code: &mut dyn Code) -> Option<Rc<Flow>> {
        if let Some((_, function)) = self.functions.range(..=ip).next_back()
            && ip < function.end
            && function.flow.at(ip).is_some()
        {
            return Some(function.flow.clone());
        }
        if self.cached > MOST_CACHED {
            *self = Resolver::default();
        }
        let bounds = code.function(ip).filter(|bounds| bounds.contains(&ip));
        if let Some(Range { start, end }) = bounds
            && end - start <= LARGEST_FUNCTION_BYTES
            && !self.functions.contains_key(&start)
        {
            let mut bytes = vec![0; usize::try_from(end - start).ok()?];
            let read = code.read(start, &mut bytes);
            bytes.truncate(read);
            let flow = Rc::new(Flow::decode(&bytes, start, read as u64 == end - start));
            self.cached += flow.len();
            self.functions.insert(start, Function { end, flow: flow.clone() });
            if flow.at(ip).is_some() {
                return Some(flow);
            }
        }
        if let Some(window) = self.windows.get(&ip)
            && window.is_current(code)
        {
            return Some(window.flow.clone());
        }
        let window = Window::around(ip, code)?;
        self.cached += window.flow.len();
        let flow = window.flow.clone();
        self.windows.insert(ip, window);
        Some(flow)
    }
}
