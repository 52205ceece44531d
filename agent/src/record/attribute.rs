//! From an address to the object that holds it.
//!
//! The order is from what is known best to what is merely likely:
//!
//! 1. a recorded block (allocator blocks before the mappings they lie in);
//! 2. a module: the symbol, or the section where there are none;
//! 3. a thread's stack: by the range the shim reported, else by the stack pointer of the sample itself, which lies in
//!    the same mapping;
//! 4. in memory an allocator took for itself: the nearest sampled small block, marked as a neighbour's word;
//! 5. the mapping: a file by its path, named memory by its name, other anonymous memory by where it starts.
//!
//! An address in nothing that is mapped stays without an object, and is shown so.

use super::address_space::Backing;
use super::blocks::Found;
use super::objects::ObjectKey;
use super::process::Process;
use std::sync::Arc;
use tierscope_traces::Attribution;

/// How far below the stack pointer a function may reach without moving it (System V ABI: the red zone).
const RED_ZONE: u64 = 128;

/// A stack is not looked for further than this above the stack pointer (glibc's default is 8 MiB; threads of some
/// programs have more).
const LARGEST_STACK: u64 = 64 << 20;

impl Process {
    /// The object at `address`, as seen by thread `tid`; `reach` is how far a neighbour's word counts, in bytes.
    pub(super) fn attribute(
        &mut self,
        address: u64,
        tid: u32,
        stack_pointer: Option<u64>,
        reach: u64,
        time_ns: u64,
    ) -> Option<(u32, Attribution)> {
        if let Some(Found::Inside(object)) = self.blocks.find(address) {
            return Some((object, Attribution::Exact));
        }
        if let Some(object) = self.global(address, time_ns) {
            return Some((object, Attribution::Exact));
        }
        if let Some(object) = self.stack(address, tid, stack_pointer, time_ns) {
            return Some((object, Attribution::Exact));
        }
        let (_, mapping) = self.space.find(address)?;
        let backing = mapping.backing.clone();
        let heap_like = match &backing {
            Backing::Anonymous => true,
            Backing::Named(name) => &**name == "[heap]" || name.starts_with("[anon"),
            Backing::File(_) => false,
        };
        let extent = self.space.anonymous_extent(address)?;
        if heap_like
            && self.has_shim
            && let Some(Found::Near(object)) = self.blocks.find_near(address, reach, extent.clone())
        {
            return Some((object, Attribution::Neighbour));
        }
        let bytes = extent.end - extent.start;
        let object = match backing {
            Backing::File(path) => {
                let name = path.display().to_string();
                self.objects.object(ObjectKey::File { path }, bytes, time_ns, || (name, 0))
            }
            Backing::Named(name) => {
                let shown = name.to_string();
                self.objects.object(ObjectKey::Named { name }, bytes, time_ns, || (shown, extent.start))
            }
            Backing::Anonymous => {
                let key = ObjectKey::Anonymous { start: extent.start };
                self.objects.object(key, bytes, time_ns, || ("anonymous mapping".into(), extent.start))
            }
        };
        Some((object, Attribution::Exact))
    }

    fn global(&mut self, address: u64, time_ns: u64) -> Option<u32> {
        let loaded = self.modules.find(address)?;
        let module = loaded.module;
        let elf_address = address.wrapping_sub(loaded.bias);
        let Some(global) = loaded.binary.as_ref().and_then(|binary| binary.global(elf_address)) else {
            // A hole between segments belongs to whatever is mapped there.
            if loaded.binary.is_some() {
                return None;
            }
            let name = self.modules.row(module).map_or_else(String::new, |row| row.path.clone());
            let key = ObjectKey::Global { module, start: 0 };
            return Some(self.objects.object(key, 0, time_ns, || (name, 0)));
        };
        let key = ObjectKey::Global { module, start: global.vaddr };
        if let Some(object) = self.objects.get(&key) {
            return Some(object);
        }
        let (name, bytes) = (global.name.to_string(), global.bytes);
        Some(self.objects.object(key, bytes, time_ns, || (name, global.vaddr)))
    }

    fn stack(&mut self, address: u64, tid: u32, stack_pointer: Option<u64>, time_ns: u64) -> Option<u32> {
        let reported = match self.stack_of(tid) {
            Some(range) if range.contains(&address) => Some((tid, range.clone())),
            _ => self.thread_of_stack(address),
        };
        let (tid, range) = reported.or_else(|| {
            let stack_pointer = stack_pointer?;
            let (start, mapping) = self.space.find(stack_pointer)?;
            let top = mapping.end.min(stack_pointer.saturating_add(LARGEST_STACK));
            let range = stack_pointer.saturating_sub(RED_ZONE).max(start)..top;
            let main_stack = matches!(&mapping.backing, Backing::Named(name) if &**name == "[stack]");
            // Without a name or a report, only what the stack pointer itself stands in is taken for a stack.
            if range.contains(&address) { Some((if main_stack { self.pid } else { tid }, range)) } else { None }
        })?;
        let name: Arc<str> = if tid == self.pid { "main stack".into() } else { "thread stack".into() };
        let bytes = range.end - range.start;
        Some(self.objects.object(ObjectKey::Stack { tid }, bytes, time_ns, || (name.to_string(), range.start)))
    }
}
