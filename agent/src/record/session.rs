//! Where the shim and the agent meet: a private directory with a socket in it.
//!
//! Only our user (and root) can enter the directory ([`private`]) and reach the socket; the peer's uid is checked as well, since the directory may be on a file system that ignores
//! modes. A connection carries one message and is never answered. Every step is non-blocking: a target that connects
//! and says nothing costs a descriptor until it hangs up.
//!
//! The directory also holds the extracted shim. It outlives us when programs that carry its path in `LD_PRELOAD` do:
//! a missing library would make the loader write to their standard error at the next exec.

use super::segment::Segment;
use crate::failure::Failure;
use crate::private;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use tierscope_wire::hello::{HELLO_BYTES, Hello};

/// A process that has handed over its segment.
#[derive(Debug)]
pub(super) struct Arrival {
    /// As the kernel sees it, in our pid namespace.
    pub(super) pid: u32,
    pub(super) hello: Hello,
    pub(super) segment: Segment,
}

/// The listening side.
#[derive(Debug)]
pub(super) struct Session {
    directory: PathBuf,
    listener: OwnedFd,
    /// Accepted connections that have not spoken yet.
    silent: Vec<OwnedFd>,
    shim: PathBuf,
    /// Messages refused: wrong user, not a hello, not a sealed segment.
    pub(super) refused: Vec<String>,
}

impl Session {
    /// Makes the private directory, puts the shim there and listens.
    pub(super) fn open(shim: &[u8]) -> Result<Session, Failure> {
        let (directory, (listener, shim)) = private::directory(|directory| {
            let shim = private::extract_shim(directory, shim)?;
            let listener = rustix::net::socket_with(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                None,
            )?;
            rustix::net::bind(&listener, &SocketAddrUnix::new(directory.join("agent"))?)?;
            rustix::net::listen(&listener, 4096)?;
            Ok((listener, shim))
        })?;
        Ok(Session { directory: directory.keep(), listener, silent: Vec::new(), shim, refused: Vec::new() })
    }

    /// Path of the extracted shim.
    pub(super) fn shim(&self) -> &Path {
        &self.shim
    }

    /// Path of the socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join("agent")
    }

    /// Becomes readable when somebody connects.
    pub(super) fn poll_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Takes everything that has arrived.
    pub(super) fn arrivals(&mut self) -> Vec<Arrival> {
        while let Ok(connection) =
            rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        {
            self.silent.push(connection);
        }
        let mut arrivals = Vec::new();
        let mut silent = Vec::new();
        for connection in std::mem::take(&mut self.silent) {
            match receive(&connection) {
                Ok(arrival) => arrivals.push(arrival),
                Err(Refusal::NotYet) => silent.push(connection),
                Err(Refusal::HungUp) => {}
                Err(Refusal::Because(why)) => self.refused.push(why),
            }
        }
        self.silent = silent;
        arrivals
    }

    /// Removes the socket, and the shim too unless `keep_shim`.
    pub(super) fn close(self, keep_shim: bool) {
        // What cannot be removed is left to whoever cleans the temporary directory; the recording is not worse for it.
        let _ = std::fs::remove_file(self.socket());
        if !keep_shim {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

enum Refusal {
    NotYet,
    HungUp,
    Because(String),
}

fn receive(connection: &OwnedFd) -> Result<Arrival, Refusal> {
    let mut bytes = [0; HELLO_BYTES + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = match rustix::net::recvmsg(
        connection,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC,
    ) {
        Ok(message) => message.bytes,
        Err(Errno::AGAIN | Errno::INTR) => return Err(Refusal::NotYet),
        Err(_) => return Err(Refusal::HungUp),
    };
    let mut descriptors: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if received == 0 {
        return Err(Refusal::HungUp);
    }
    let peer = rustix::net::sockopt::socket_peercred(connection)
        .map_err(|error| Refusal::Because(format!("a connection without credentials: {error}")))?;
    let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap_or(0);
    let us = rustix::process::geteuid();
    if peer.uid != us && !us.is_root() {
        return Err(Refusal::Because(format!("process {pid} belongs to uid {}, not to us", peer.uid.as_raw())));
    }
    let hello = bytes
        .get(..received)
        .and_then(Hello::from_bytes)
        .ok_or_else(|| Refusal::Because(format!("process {pid} sent something that is no hello of this version")))?;
    let descriptor = match (descriptors.pop(), descriptors.is_empty()) {
        (Some(descriptor), true) => descriptor,
        _ => return Err(Refusal::Because(format!("process {pid} did not send exactly one descriptor"))),
    };
    let segment = Segment::map(descriptor)
        .map_err(|why| Refusal::Because(format!("process {pid} sent a segment we do not trust: {why}")))?;
    Ok(Arrival { pid, hello, segment })
}
