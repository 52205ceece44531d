//! How the agent configures the shim: one environment variable of `key=value` pairs separated by `;`.
//!
//! The environment is the only channel that exists before the program's first allocation. Unknown keys and values that
//! make no sense fall back to the defaults: a shim that cannot be configured must still not get in the way.

/// Name of the environment variable.
pub const VARIABLE: &str = "TIERSCOPE_PRELOAD";

/// Blocks of at least this many bytes are always recorded.
pub const DEFAULT_LARGE_BYTES: u64 = 16 << 10;

/// Mean bytes of small blocks between two that are recorded.
pub const DEFAULT_MEAN_BYTES: u64 = 256 << 10;

/// How a call stack is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum StackMode {
    /// From `.eh_frame`, by framehop: works for code without frame pointers.
    #[default]
    Unwind = 0,
    /// Along the frame pointers: cheaper, right only where code was compiled with them.
    FramePointer = 1,
    /// The caller of the allocator alone.
    Caller = 2,
}

impl StackMode {
    /// The name used in options and in a profile's meta data.
    pub fn name(self) -> &'static str {
        match self {
            StackMode::Unwind => "unwind",
            StackMode::FramePointer => "frame-pointer",
            StackMode::Caller => "caller",
        }
    }
}

/// Everything the agent can ask of the shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options<'a> {
    /// Path of the agent's socket; empty when there is none, and the shim then only passes calls on.
    pub socket: &'a str,
    /// See [`DEFAULT_MEAN_BYTES`]. 1 records every block.
    pub mean_bytes: u64,
    /// See [`DEFAULT_LARGE_BYTES`].
    pub large_bytes: u64,
    /// See [`StackMode`].
    pub stacks: StackMode,
    /// Whether children (fork) are recorded too, and programs they or we become (exec) inherit the shim.
    pub follow: bool,
    /// Whether every block is told by marked system calls ([`trace`](crate::trace)) instead of to an agent. No socket is needed
    /// then, children are not told of, and sizes say nothing.
    pub trace: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            socket: "",
            mean_bytes: DEFAULT_MEAN_BYTES,
            large_bytes: DEFAULT_LARGE_BYTES,
            stacks: StackMode::Unwind,
            follow: true,
            trace: false,
        }
    }
}

impl<'a> Options<'a> {
    /// Reads the variable's value.
    pub fn parse(text: &'a str) -> Self {
        let mut options = Options::default();
        for (key, value) in text.split(';').filter_map(|pair| pair.split_once('=')) {
            match key {
                "socket" => options.socket = value,
                "mean" => options.mean_bytes = number(value).unwrap_or(options.mean_bytes),
                "large" => options.large_bytes = number(value).unwrap_or(options.large_bytes),
                "stacks" => {
                    let modes = [StackMode::Unwind, StackMode::FramePointer, StackMode::Caller];
                    options.stacks = modes.into_iter().find(|mode| mode.name() == value).unwrap_or(options.stacks);
                }
                "follow" => options.follow = value != "0",
                "trace" => options.trace = value == "1",
                _ => {}
            }
        }
        options
    }
}

/// Byte counts of 1 to 2^40; anything else is no number.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|bytes| (1..=1 << 40).contains(bytes))
}

/// The variable's value, as the agent writes it.
impl core::fmt::Display for Options<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "socket={};mean={};large={};stacks={};follow={};trace={}",
            self.socket,
            self.mean_bytes,
            self.large_bytes,
            self.stacks.name(),
            u8::from(self.follow),
            u8::from(self.trace)
        )
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn options_read_back_as_written() {
        let options = Options {
            socket: "/run/user/0/tierscope-x/agent",
            mean_bytes: 1,
            large_bytes: 4096,
            stacks: StackMode::FramePointer,
            follow: false,
            trace: true,
        };
        assert_eq!(Options::parse(&options.to_string()), options);
    }

    #[test]
    fn nonsense_falls_back_to_the_defaults() {
        for text in ["", ";;;", "mean", "mean=", "mean=-1", "mean=0", "large=99999999999999999999", "stacks=x", "a=b"] {
            assert_eq!(Options::parse(text), Options::default(), "{text:?}");
        }
    }
}
