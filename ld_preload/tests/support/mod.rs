//! A small agent for tests: it listens, takes segments, empties rings, and keeps every event.
//!
//! It does what the real agent must do with the shared memory and nothing else: check the seals and the geometry, drain
//! rings, give drained rings of dead threads back.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each user needs a part of it")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tierscope_wire::event::{MAX_BUILD_ID_BYTES, MAX_TEXT_BYTES};
use tierscope_wire::hello::{HELLO_BYTES, Hello};
use tierscope_wire::options::{Options, VARIABLE};
use tierscope_wire::{
    Consumer, Event, Geometry, Header, Losses, MAX_EVENT_WORDS, MAX_FRAMES, RingHeader, RingState, StackId, StackTable,
};

fn checked(result: i32) -> i32 {
    assert!(result >= 0, "{}", std::io::Error::last_os_error());
    result
}

/// The listening end.
pub struct Agent {
    socket: OwnedFd,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Agent {
    /// Listens in a private directory, with room for `backlog` connections that nobody accepted.
    pub fn listen(backlog: i32) -> Agent {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent");
        // SAFETY: zeros are a valid address.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        address.sun_family = libc::AF_UNIX as u16;
        for (to, from) in address.sun_path.iter_mut().zip(path.as_os_str().as_encoded_bytes()) {
            *to = *from as libc::c_char;
        }
        // SAFETY: the address is a local of the size given.
        let socket = unsafe {
            let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            let socket = OwnedFd::from_raw_fd(checked(libc::socket(libc::AF_UNIX, kind, 0)));
            let bytes = size_of_val(&address) as u32;
            checked(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), bytes));
            checked(libc::listen(socket.as_raw_fd(), backlog));
            socket
        };
        Agent { socket, path, _directory: directory }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes one segment, if one is waiting.
    pub fn accept(&self) -> Option<Recording> {
        // SAFETY: plain system calls on descriptors we own and locals.
        unsafe {
            let connection =
                libc::accept4(self.socket.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC);
            if connection < 0 {
                return None;
            }
            let connection = OwnedFd::from_raw_fd(connection);
            let mut peer: libc::ucred = std::mem::zeroed();
            let mut peer_bytes = size_of_val(&peer) as u32;
            checked(libc::getsockopt(
                connection.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut peer).cast(),
                &raw mut peer_bytes,
            ));
            let mut message = [0_u8; 64];
            let mut control = [0_u64; 8];
            let mut io = libc::iovec { iov_base: message.as_mut_ptr().cast(), iov_len: message.len() };
            let mut header: libc::msghdr = std::mem::zeroed();
            header.msg_iov = &raw mut io;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of_val(&control);
            let count = libc::recvmsg(connection.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC);
            assert_eq!(count, HELLO_BYTES as isize, "a hello of another size");
            let hello = Hello::from_bytes(&message[..HELLO_BYTES]).expect("a hello");
            let attached = libc::CMSG_FIRSTHDR(&raw const header);
            assert!(!attached.is_null(), "a hello without a descriptor");
            let file = OwnedFd::from_raw_fd(libc::CMSG_DATA(attached).cast::<i32>().read());
            Some(Recording::map(&file, peer.pid as u32, hello))
        }
    }
}

/// One process's segment, and what was read from it.
pub struct Recording {
    /// By the kernel's word.
    pub pid: u32,
    /// By its own.
    pub hello: Hello,
    /// Thread and words of each event, ring by ring.
    pub events: Vec<(u32, Vec<u64>)>,
    /// Rings that made no sense.
    pub corrupt: u64,
    base: *const u8,
    bytes: usize,
    geometry: Geometry,
}

// SAFETY: shared memory reached through atomics.
unsafe impl Send for Recording {}

impl Drop for Recording {
    fn drop(&mut self) {
        // SAFETY: our own mapping; nothing borrowed from it outlives us.
        unsafe { libc::munmap(self.base.cast_mut().cast(), self.bytes) };
    }
}

impl Recording {
    fn map(file: &OwnedFd, pid: u32, hello: Hello) -> Recording {
        // SAFETY: maps a file that is sealed against shrinking.
        unsafe {
            let seals = checked(libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS));
            assert_eq!(seals & (libc::F_SEAL_SHRINK | libc::F_SEAL_GROW), libc::F_SEAL_SHRINK | libc::F_SEAL_GROW);
            let mut status: libc::stat = std::mem::zeroed();
            checked(libc::fstat(file.as_raw_fd(), &raw mut status));
            let bytes = status.st_size as usize;
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let base = libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, file.as_raw_fd(), 0);
            assert_ne!(base, libc::MAP_FAILED);
            let base = base.cast_const().cast::<u8>();
            let geometry = (*base.cast::<Header>()).geometry(bytes as u64).expect("a geometry");
            Recording { pid, hello, events: Vec::new(), corrupt: 0, base, bytes, geometry }
        }
    }

    /// The header page.
    pub fn header(&self) -> &Header {
        // SAFETY: mapped, aligned, any bytes are valid.
        unsafe { &*self.base.cast() }
    }

    /// The sizes the shim chose.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn rings(&self) -> &[RingHeader] {
        // SAFETY: they follow the header page.
        unsafe { std::slice::from_raw_parts(self.base.add(4096).cast(), self.geometry.rings as usize) }
    }

    /// Reads at most `most` events, and returns how many; gives drained rings of dead threads back.
    pub fn drain(&mut self, most: usize) -> usize {
        let mut taken = Vec::new();
        let mut corrupt = 0;
        for (index, ring) in self.rings().iter().enumerate() {
            let state = ring.state();
            if state == Some(RingState::Free) && ring.generation() == 0 {
                break;
            }
            // Before draining: what the thread wrote until it died is then all there.
            // SAFETY: signal 0 is none.
            let dead = unsafe { libc::syscall(libc::SYS_tgkill, self.pid, ring.tid(), 0) } != 0
                && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
            if dead {
                ring.orphan();
            }
            // SAFETY: the geometry, checked, says where the words lie.
            let words = unsafe {
                let at = self.base.add(self.geometry.ring_offset(index as u32) as usize);
                std::slice::from_raw_parts(at.cast(), self.geometry.ring_words as usize)
            };
            let consumer = Consumer::new(ring, words).unwrap();
            let tid = ring.tid();
            let mut buffer = [0; MAX_EVENT_WORDS];
            while taken.len() < most {
                match consumer.pop(&mut buffer) {
                    Ok(None) => break,
                    Ok(Some(length)) => taken.push((tid, buffer[..length].to_vec())),
                    Err(_) => corrupt += 1,
                }
            }
            if consumer.is_empty() {
                ring.release();
            }
        }
        self.corrupt += corrupt;
        let count = taken.len();
        self.events.extend(taken);
        count
    }

    /// Events written and events lost, as the shim counts them.
    pub fn produced(&self) -> (u64, Losses) {
        use std::sync::atomic::Ordering::Relaxed;
        let mut losses = Losses::default();
        let mut events = 0;
        for ring in self.rings() {
            events += ring.events();
            losses += ring.losses();
        }
        let [allocations, frees, other] = &self.header().ringless_losses;
        losses +=
            Losses { allocations: allocations.load(Relaxed), frees: frees.load(Relaxed), other: other.load(Relaxed) };
        (events, losses)
    }

    /// Every event read so far, in the order of time.
    pub fn for_each(&self, mut each: impl FnMut(u32, &Event<'_>)) {
        let mut order: Vec<&(u32, Vec<u64>)> = self.events.iter().collect();
        order.sort_by_key(|(_, words)| words[1]);
        for (tid, words) in order {
            let mut text = [0; MAX_TEXT_BYTES + MAX_BUILD_ID_BYTES];
            each(*tid, &Event::decode(words, &mut text).expect("an event"));
        }
    }

    /// How many events satisfy `which`.
    pub fn count(&self, mut which: impl FnMut(&Event<'_>) -> bool) -> usize {
        let mut count = 0;
        self.for_each(|_, event| count += usize::from(which(event)));
        count
    }

    /// The frames of a stack.
    pub fn frames(&self, id: StackId) -> Vec<u64> {
        // SAFETY: the geometry, checked, says where the words lie.
        let words = unsafe {
            let at = self.base.add(self.geometry.stacks_offset() as usize);
            std::slice::from_raw_parts(at.cast(), self.geometry.stack_words as usize)
        };
        let mut out = [0; MAX_FRAMES];
        let depth =
            StackTable::new(&self.header().stack_words_used, words).read(id, &mut out).map_or(0, |(depth, _)| depth);
        out[..depth].to_vec()
    }

    /// The modules told of: start, end, bias, path.
    pub fn modules(&self) -> Vec<(u64, u64, u64, String)> {
        let mut modules = Vec::new();
        self.for_each(|_, event| {
            if let Event::ModuleLoaded { start, end, bias, path, .. } = *event {
                modules.push((start, end, bias, String::from_utf8_lossy(path).into_owned()));
            }
        });
        modules
    }
}

/// How a program ended, and what was recorded of it and its children.
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub recordings: Vec<Recording>,
    pub elapsed: Duration,
}

/// How the agent behaves while the program runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Agency {
    /// Takes everything as it comes.
    Attentive,
    /// Accepts, and takes a few events each millisecond.
    Slow,
    /// Looks only when the program has ended.
    Stopped,
}

/// Runs `command` under the shim.
pub fn run(command: &mut Command, shim: &Path, options: Options<'_>, agency: Agency) -> Outcome {
    let agent = Agent::listen(64);
    run_with(command, shim, options, agency, &agent)
}

/// As [`run`], with an agent of one's own.
pub fn run_with(command: &mut Command, shim: &Path, options: Options<'_>, agency: Agency, agent: &Agent) -> Outcome {
    let options = Options { socket: agent.path().to_str().unwrap(), ..options };
    command.env("LD_PRELOAD", shim).env(VARIABLE, options.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn().unwrap();
    let stdout = reader(child.stdout.take().unwrap());
    let stderr = reader(child.stderr.take().unwrap());
    let mut recordings = Vec::new();
    let status = loop {
        let status = child.try_wait().unwrap();
        let over = status.is_some();
        if agency != Agency::Stopped || over {
            recordings.extend(std::iter::from_fn(|| agent.accept()));
            let most = if agency == Agency::Slow && !over { 50 } else { usize::MAX };
            for recording in &mut recordings {
                recording.drain(most);
            }
        }
        if let Some(status) = status {
            break status;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{command:?} does not end");
        std::thread::sleep(Duration::from_millis(1));
    };
    let elapsed = began.elapsed();
    // The pipes close with the last descendant.
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    recordings.extend(std::iter::from_fn(|| agent.accept()));
    for recording in &mut recordings {
        recording.drain(usize::MAX);
    }
    Outcome { status, stdout, stderr, recordings, elapsed }
}

fn reader(mut pipe: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        pipe.read_to_end(&mut all).unwrap();
        all
    })
}
