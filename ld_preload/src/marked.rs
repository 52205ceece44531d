//! Tells a tracer by marked system calls ([`tierscope_wire::trace`]) what would else go to an agent through rings.
//!
//! A call is made where the event would be written: a block's death before it, its birth after it, on the thread that
//! causes it. The kernel refuses it without an effect, we do not look at its result, and `errno` belongs to the C library, which has
//! no part in it. What a tracer sees for itself (modules) or does not follow (forked children) is not told.

use crate::arch;
use tierscope_wire::trace::{DESCRIPTOR, FRAMES_AT_ONCE, Message, Name, SYSTEM_CALL};
use tierscope_wire::{Event, MAX_FRAMES, StackId};

fn send(message: Message) {
    let [a, b, c, d, e] = message.encode();
    let arguments = [DESCRIPTOR, a, b, c, d, e].map(|word| word as usize);
    // SAFETY: no kernel accepts the descriptor, so none looks at the buffer.
    unsafe { arch::syscall(SYSTEM_CALL as usize, arguments) };
}

/// The first message.
pub(crate) fn hello() {
    let (start, end) = arch::own_text();
    send(Message::Hello { start: start as u64, end: end as u64 });
}

/// Tells a stack's frames. To be called before any thread can use its id.
pub(crate) fn tell_stack(id: StackId, frames: &[u64]) {
    let frames = frames.get(..MAX_FRAMES).unwrap_or(frames);
    send(Message::Stack { id, frames: frames.len() as u32 });
    for (part, frames) in frames.chunks(FRAMES_AT_ONCE).enumerate() {
        let mut words = [0; FRAMES_AT_ONCE];
        for (word, frame) in words.iter_mut().zip(frames) {
            *word = *frame;
        }
        send(Message::Frames { id, index: (part * FRAMES_AT_ONCE) as u32, frames: words });
    }
}

/// The message that says what `event` says, if a tracer does not know it from elsewhere.
fn message_of(event: &Event<'_>) -> Option<Message> {
    Some(match *event {
        Event::Allocate { address, bytes, stack, .. } => Message::Allocated { address, bytes, stack },
        Event::Free { address, .. } => Message::Freed { address },
        Event::Reallocate { old_address: 0, address: 0, .. } => return None,
        Event::Reallocate { old_address: 0, address, bytes, stack, .. } => Message::Allocated { address, bytes, stack },
        Event::Reallocate { old_address: old, address, bytes, stack, .. } => {
            Message::Reallocated { old, address, bytes, stack }
        }
        Event::Map { address, bytes, stack, file_backed: file, .. } => Message::Mapped { address, bytes, stack, file },
        Event::Unmap { address, bytes, .. } => Message::Unmapped { address, bytes },
        Event::Remap { old_address: old, old_bytes, address, bytes, stack, .. } => {
            Message::Remapped { old, old_bytes, address, bytes, stack }
        }
        Event::ThreadStarted { tid, stack_low: low, stack_high: high, .. } => Message::Thread { tid, low, high },
        Event::Mark { name, .. } => Message::Mark { name: Name::new(name) },
        Event::ModuleLoaded { .. } | Event::ModuleUnloaded { .. } | Event::Forked { .. } => return None,
    })
}

/// Tells an event.
pub(crate) fn tell(event: &Event<'_>) {
    if let Some(message) = message_of(event) {
        send(message);
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use tierscope_wire::event::Recorded;

    #[test]
    fn a_marked_call_is_refused_and_leaves_errno_alone() {
        let [a, b, c, d, e] = Message::Freed { address: 7 }.encode();
        let arguments = [DESCRIPTOR, a, b, c, d, e].map(|word| word as usize);
        // SAFETY: see `send`.
        assert_eq!(unsafe { arch::syscall(SYSTEM_CALL as usize, arguments) }, -libc::EBADF as isize);
        // SAFETY: this thread's own.
        let errno = unsafe { &mut *libc::__errno_location() };
        *errno = 77;
        hello();
        tell_stack(StackId(1), &[1, 2, 3, 4]);
        assert_eq!(*errno, 77);
    }

    #[test]
    fn our_own_text_holds_our_functions() {
        let (start, end) = arch::own_text();
        assert!((start..end).contains(&(hello as fn() as usize)));
    }

    #[test]
    fn realloc_is_what_it_came_to() {
        let event = |old_address, address| Event::Reallocate {
            time_ns: 0,
            old_address,
            address,
            bytes: 9,
            stack: StackId(3),
            recorded: Recorded::Always,
        };
        let stack = StackId(3);
        assert_eq!(message_of(&event(0, 0)), None);
        assert_eq!(message_of(&event(0, 16)), Some(Message::Allocated { address: 16, bytes: 9, stack }));
        let replaced = |address| Some(Message::Reallocated { old: 16, address, bytes: 9, stack });
        assert_eq!(message_of(&event(16, 32)), replaced(32));
        assert_eq!(message_of(&event(16, 0)), replaced(0));
    }
}
