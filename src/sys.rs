//! System calls that nothing among our dependencies wraps: many datagrams at once (`recvmmsg`, `sendmmsg`), the limit
//! of open files, the space on a disk, reserving some of it for a file, and the kernel's clocks.
//!
//! The only unsafe code of the program. All that the kernel writes lands in plain bytes that live here; addresses and
//! control messages are read from those bytes by safe code, so that a wrong length can give no more than `None`.
#![expect(unsafe_code, reason = "these system calls have no safe wrapper among our dependencies")]

use std::ffi::CString;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Datagrams of one system call at most, received or sent.
pub const DATAGRAMS_PER_CALL: usize = 32;
/// Descriptors that are taken over from whoever started us, at most.
const PASSED_MAX: u32 = 16;

/// Bytes of the longest address we ask for: a `sockaddr_in6`.
const ADDRESS_LEN: usize = 28;
/// Bytes of the control message with the drop count: a `cmsghdr`, a u32, and its alignment.
const CONTROL_LEN: usize = 24;

/// Reusable room for up to [`DATAGRAMS_PER_CALL`] received datagrams. Allocates once, in [`Batch::new`].
pub struct Batch {
    datagram_max: usize,
    bytes: Vec<u8>,
    sources: Vec<[u8; ADDRESS_LEN]>,
    controls: Vec<[u8; CONTROL_LEN]>,
    filled: heapless::Vec<Filled, DATAGRAMS_PER_CALL>,
    dropped: Option<u32>,
}

#[derive(Clone, Copy)]
struct Filled {
    len: usize,
    truncated: bool,
    source: Option<SocketAddr>,
}

/// One received datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// Its bytes, at most `datagram_max`.
    pub bytes: &'a [u8],
    /// Who sent it.
    pub source: SocketAddr,
    /// Whether it was longer than `datagram_max`: the rest is lost.
    pub truncated: bool,
}

impl Batch {
    /// Room for datagrams of up to `datagram_max` bytes; longer ones are cut and marked.
    pub fn new(datagram_max: usize) -> Self {
        Self {
            datagram_max,
            bytes: vec![0; datagram_max.saturating_mul(DATAGRAMS_PER_CALL)],
            sources: vec![[0; ADDRESS_LEN]; DATAGRAMS_PER_CALL],
            controls: vec![[0; CONTROL_LEN]; DATAGRAMS_PER_CALL],
            filled: heapless::Vec::new(),
            dropped: None,
        }
    }

    /// Takes what the socket has, never waiting, and forgets what was received before.
    ///
    /// Returns how many datagrams there are, at least one; `WouldBlock` if there is none.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.filled.clear();
        // SAFETY: an iovec is a pointer and a length; all zeroes is a valid value of it.
        let mut slots: [libc::iovec; DATAGRAMS_PER_CALL] = unsafe { mem::zeroed() };
        // SAFETY: a mmsghdr consists of integers and pointers; all zeroes is a valid value of it.
        let mut messages: [libc::mmsghdr; DATAGRAMS_PER_CALL] = unsafe { mem::zeroed() };
        // `max(1)`: no chunk may be empty; with a maximum of 0 there are no bytes, so no chunk and no slot either.
        let chunks = self.bytes.chunks_exact_mut(self.datagram_max.max(1));
        let places = chunks.zip(&mut self.sources).zip(&mut self.controls);
        let mut count = 0;
        for ((slot, message), ((bytes, source), control)) in slots.iter_mut().zip(&mut messages).zip(places) {
            slot.iov_base = bytes.as_mut_ptr().cast();
            slot.iov_len = bytes.len();
            message.msg_hdr.msg_name = source.as_mut_ptr().cast();
            message.msg_hdr.msg_namelen = ADDRESS_LEN as libc::socklen_t;
            message.msg_hdr.msg_iov = slot;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = control.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = CONTROL_LEN as _;
            count += 1;
        }
        let received = retry(|| {
            // SAFETY: `messages` has `count` headers whose pointers, set above, lead to distinct parts of `slots`,
            // `self.bytes`, `self.sources` and `self.controls` with the stated lengths. All of them outlive the call
            // and nothing else uses them during it. The descriptor is open as long as `socket` is borrowed.
            unsafe {
                libc::recvmmsg(
                    socket.as_raw_fd(),
                    messages.as_mut_ptr(),
                    count,
                    libc::MSG_DONTWAIT as _,
                    ptr::null_mut(),
                )
            }
        })?;
        let messages = messages.iter().take(received);
        for (message, (source, control)) in messages.zip(self.sources.iter().zip(&self.controls)) {
            // The newest count is the highest: it only grows, until it wraps.
            // A word with glibc, 32 bits with musl.
            let control_len: usize = message.msg_hdr.msg_controllen as _;
            self.dropped = drop_count(control.get(..control_len).unwrap_or_default()).or(self.dropped);
            let address_len = usize::try_from(message.msg_hdr.msg_namelen).unwrap_or(0);
            let _fits = self.filled.push(Filled {
                len: usize::try_from(message.msg_len).unwrap_or(0),
                truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                source: address(source.get(..address_len).unwrap_or_default()),
            });
        }
        Ok(received)
    }

    /// The datagram of this index in the last batch; `None` behind the last one, and for one that came from
    /// something else than an IP address.
    pub fn get(&self, index: usize) -> Option<Received<'_>> {
        let filled = self.filled.get(index)?;
        let start = index.checked_mul(self.datagram_max)?;
        let bytes = self.bytes.get(start..start.checked_add(filled.len.min(self.datagram_max))?)?;
        Some(Received { bytes, source: filled.source?, truncated: filled.truncated })
    }

    /// The datagrams of the last batch, in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = Received<'_>> {
        (0..self.filled.len()).filter_map(|index| self.get(index))
    }

    /// Datagrams that the kernel dropped on this socket for want of room, since the socket was made and up to the
    /// newest datagram received; wraps. `None`: none so far, or [`enable_overflow_count`] was not called.
    pub fn dropped(&self) -> Option<u32> {
        self.dropped
    }
}

/// Asks the kernel to say with each datagram how many were dropped before it.
pub fn enable_overflow_count(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer leads to an int that outlives the call, and the stated length is its size. The descriptor
    // is open as long as `socket` is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RXQ_OVFL,
            ptr::from_ref(&on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends the first [`DATAGRAMS_PER_CALL`] datagrams to the address that the socket is connected to, never waiting.
///
/// Returns how many went out, fewer if the socket's buffer is full; `WouldBlock` if none did; 0 if there were none.
pub fn send_many<'a>(
    socket: BorrowedFd<'_>,
    datagrams: impl IntoIterator<Item = &'a [u8]>,
) -> io::Result<usize> {
    // SAFETY: an iovec is a pointer and a length; all zeroes is a valid value of it.
    let mut slots: [libc::iovec; DATAGRAMS_PER_CALL] = unsafe { mem::zeroed() };
    // SAFETY: a mmsghdr consists of integers and pointers; all zeroes is a valid value of it.
    let mut messages: [libc::mmsghdr; DATAGRAMS_PER_CALL] = unsafe { mem::zeroed() };
    let mut count = 0;
    for ((slot, message), datagram) in slots.iter_mut().zip(&mut messages).zip(datagrams) {
        // The kernel only reads what it sends; the type is shared with receiving.
        slot.iov_base = datagram.as_ptr().cast_mut().cast();
        slot.iov_len = datagram.len();
        message.msg_hdr.msg_iov = slot;
        message.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    if count == 0 {
        return Ok(0);
    }
    retry(|| {
        // SAFETY: `messages` has `count` headers, each with one slot that leads to a datagram borrowed for 'a, and no
        // address and no control message (null, from the zeroes). All of them outlive the call. The descriptor is
        // open as long as `socket` is borrowed.
        unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_DONTWAIT as _) }
    })
}

/// Raises this process's limit of open files, hence of connections, as far as it may without asking. Returns the limit
/// that holds then.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer leads to a rlimit that outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the pointer leads to a rlimit that outlives the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    #[allow(clippy::unnecessary_cast, reason = "a word of 32 bits on some machines")]
    Ok(limit.rlim_cur as u64)
}

/// Descriptors that whoever started this process opened for it, by the protocol of systemd: `LISTEN_FDS` of them from 3
/// on, if `LISTEN_PID` is this process. They can be taken once, before anything else opens descriptors.
pub fn passed_descriptors() -> Vec<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    const FIRST: RawFd = 3;
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) || TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").map_or(0, |count| count.min(PASSED_MAX));
    let take = |descriptor| {
        // SAFETY: no pointer is handed over; if no such descriptor is open the call says so and does nothing.
        let is_open = unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } == 0;
        // SAFETY: it is open. It was opened for us and nobody else knows its number, and this runs once.
        is_open.then(|| unsafe { OwnedFd::from_raw_fd(descriptor) })
    };
    (FIRST..).zip(0..count).filter_map(|(descriptor, _)| take(descriptor)).collect()
}

/// Has the system write no image of this process's memory if it crashes: keys are in there.
pub fn forbid_core_dumps() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer leads to a rlimit that outlives the call.
    retry(|| unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) }).map(|_| ())
}

/// Makes a file `len` bytes long and reserves their space without writing it. The bytes read as zeros.
pub fn reserve(file: BorrowedFd<'_>, len: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    if len == 0 {
        return Ok(());
    }
    // SAFETY: no pointer is handed over, and the descriptor is open as long as `file` is borrowed.
    retry(|| unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len) }).map(|_| ())
}

/// Lets the system forget what it holds of a file in memory, but for what is still to be written: what is read next
/// comes from the medium.
pub fn drop_cache(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointer is handed over, and the descriptor is open as long as `file` is borrowed.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        // This call returns the error's number, and leaves that of the thread alone.
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Bytes of the file system that a path lies on, and how many of them are free for us.
pub fn disk_space(path: &Path) -> io::Result<(u64, u64)> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a statvfs consists of integers; all zeroes is a valid value of it.
    let mut space: libc::statvfs = unsafe { mem::zeroed() };
    // SAFETY: the path ends with a zero byte, and both pointers lead to values that outlive the call.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut space) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Words of 32 or 64 bits, depending on the machine.
    let (block, total, free) = (space.f_frsize as u64, space.f_blocks as u64, space.f_bavail as u64);
    Ok((total.saturating_mul(block), free.saturating_mul(block)))
}

/// Time since the machine started, sleep included.
pub fn since_boot() -> Duration {
    clock(libc::CLOCK_BOOTTIME)
}

/// Processor time that this process took so far.
pub fn processor_time() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// A clock that exists on every Linux, so it cannot fail, and is never negative.
fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer leads to a timespec that outlives the call.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    // Words of 32 bits hold the time since a start.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How many processes wanted a processor in the last minute, on average, in hundredths.
pub fn load_hundredths() -> Option<u64> {
    // SAFETY: a sysinfo consists of integers; all zeroes is a valid value of it.
    let mut info: libc::sysinfo = unsafe { mem::zeroed() };
    // SAFETY: the pointer leads to a sysinfo that outlives the call.
    let told = unsafe { libc::sysinfo(&raw mut info) } == 0;
    // A fixed point of 16 bits, in words of 32 or 64.
    told.then_some((info.loads[0] as u64 * 100) >> 16)
}

/// Whether the kernel says that the wall clock is synchronised: somebody who knows the time set it. `None`: we may not ask.
pub fn clock_is_synchronised() -> Option<bool> {
    // SAFETY: a timex consists of integers; all zeroes is a valid value of it, and asks to change nothing.
    let mut state: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: the pointer leads to a timex that outlives the call.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    (answer >= 0).then_some(answer != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0)
}

/// Calls again when a signal came in between.
fn retry(mut call: impl FnMut() -> libc::c_int) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_negative) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// Reads a `sockaddr_in` (family, port, address) or `sockaddr_in6` (family, port, flow, address, scope). Port and
/// addresses are in network order, family and scope in the machine's.
fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(array(bytes, 2)?);
    match libc::c_int::from(u16::from_ne_bytes(array(bytes, 0)?)) {
        libc::AF_INET => {
            let ip = Ipv4Addr::from(array::<4>(bytes, 4)?);
            Some(SocketAddr::V4(SocketAddrV4::new(ip, port)))
        }
        libc::AF_INET6 => {
            let flow = u32::from_be_bytes(array(bytes, 4)?);
            let ip = Ipv6Addr::from(array::<16>(bytes, 8)?);
            let scope = u32::from_ne_bytes(array(bytes, 24)?);
            Some(SocketAddr::V6(SocketAddrV6::new(ip, port, flow, scope)))
        }
        _ => None,
    }
}

/// Reads the drop count from a `cmsghdr` (length as a machine word, level, type) and the u32 behind it. No other
/// control message is ever asked for on our sockets, so it is the first one or there is none.
fn drop_count(control: &[u8]) -> Option<u32> {
    const WORD: usize = size_of::<usize>();
    let level = libc::c_int::from_ne_bytes(array(control, WORD)?);
    let kind = libc::c_int::from_ne_bytes(array(control, WORD + 4)?);
    let count = u32::from_ne_bytes(array(control, WORD + 8)?);
    (level == libc::SOL_SOCKET && kind == libc::SO_RXQ_OVFL).then_some(count)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    fn pair(address: &str) -> (UdpSocket, UdpSocket) {
        let receiver = UdpSocket::bind((address, 0)).unwrap();
        let sender = UdpSocket::bind((address, 0)).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        (receiver, sender)
    }

    #[test]
    fn an_empty_socket_would_block_even_if_it_is_a_blocking_one() {
        let (receiver, _sender) = pair("127.0.0.1");
        let mut batch = Batch::new(100);
        assert_eq!(batch.receive(receiver.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(batch.iter().count(), 0);
    }

    #[test]
    fn a_burst_comes_in_batches_in_order_with_its_source() {
        for address in ["127.0.0.1", "::1"] {
            let (receiver, sender) = pair(address);
            let datagrams: Vec<[u8; 2]> = (0..70_u16).map(u16::to_be_bytes).collect();
            let mut rest = datagrams.as_slice();
            let mut sizes = Vec::new();
            while !rest.is_empty() {
                let sent = send_many(sender.as_fd(), rest.iter().map(<[u8; 2]>::as_slice)).unwrap();
                sizes.push(sent);
                rest = &rest[sent..];
            }
            assert_eq!(sizes, [32, 32, 6]);
            let mut batch = Batch::new(100);
            let mut received = Vec::new();
            while let Ok(count) = batch.receive(receiver.as_fd()) {
                assert!(count <= DATAGRAMS_PER_CALL);
                for datagram in batch.iter() {
                    assert_eq!(datagram.source, sender.local_addr().unwrap());
                    assert!(!datagram.truncated);
                    received.push(<[u8; 2]>::try_from(datagram.bytes).unwrap());
                }
            }
            assert_eq!(received, datagrams);
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_marked_and_disturbs_no_neighbour() {
        let (receiver, sender) = pair("127.0.0.1");
        let datagrams: [&[u8]; 4] = [b"1234", b"12345", b"", b"last"];
        assert_eq!(send_many(sender.as_fd(), datagrams).unwrap(), 4);
        let mut batch = Batch::new(4);
        assert_eq!(batch.receive(receiver.as_fd()).unwrap(), 4);
        let seen: Vec<_> = batch.iter().map(|datagram| (datagram.bytes, datagram.truncated)).collect();
        assert_eq!(seen, [(b"1234".as_slice(), false), (b"1234", true), (b"", false), (b"last", false)]);
        assert_eq!(batch.get(4), None);
    }

    #[test]
    fn a_batch_forgets_the_one_before() {
        let (receiver, sender) = pair("127.0.0.1");
        let mut batch = Batch::new(16);
        let two: [&[u8]; 2] = [b"first", b"second"];
        send_many(sender.as_fd(), two).unwrap();
        assert_eq!(batch.receive(receiver.as_fd()).unwrap(), 2);
        send_many(sender.as_fd(), [b"3rd".as_slice()]).unwrap();
        assert_eq!(batch.receive(receiver.as_fd()).unwrap(), 1);
        assert_eq!(batch.get(0).unwrap().bytes, b"3rd");
        assert_eq!(batch.get(1), None);
    }

    #[test]
    fn what_the_kernel_drops_is_counted() {
        let (receiver, sender) = pair("127.0.0.1");
        socket2::SockRef::from(&receiver).set_recv_buffer_size(4096).unwrap();
        enable_overflow_count(receiver.as_fd()).unwrap();
        let datagram = [7_u8; 1000];
        let sent: usize =
            (0..10).map(|_| send_many(sender.as_fd(), [datagram.as_slice(); 32]).unwrap()).sum();
        let mut batch = Batch::new(1000);
        let mut received = 0;
        while let Ok(count) = batch.receive(receiver.as_fd()) {
            received += count;
        }
        // The count comes with the next datagram that finds room.
        send_many(sender.as_fd(), [datagram.as_slice()]).unwrap();
        assert_eq!(batch.receive(receiver.as_fd()).unwrap(), 1);
        assert!(received < sent);
        assert_eq!(batch.dropped(), Some(u32::try_from(sent - received).unwrap()));
    }

    #[test]
    fn nothing_to_send_is_no_error() {
        let (_receiver, sender) = pair("127.0.0.1");
        assert_eq!(send_many(sender.as_fd(), std::iter::empty()).unwrap(), 0);
    }

    #[test]
    fn the_limit_of_open_files_goes_up_and_stays() {
        let limit = raise_open_files().unwrap();
        assert!(limit > 0);
        assert_eq!(raise_open_files().unwrap(), limit);
    }

    #[test]
    fn a_file_reads_the_same_after_its_cache_was_dropped() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"still here").unwrap();
        for flush in [false, true] {
            if flush {
                file.sync_all().unwrap();
            }
            drop_cache(file.as_fd()).unwrap();
            let mut bytes = [0; 10];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
            assert_eq!(&bytes, b"still here");
        }
        let (pipe, _other) = io::pipe().unwrap();
        assert_eq!(drop_cache(pipe.as_fd()).unwrap_err().raw_os_error(), Some(libc::ESPIPE));
    }

    #[test]
    fn disk_space_is_told_of_what_exists() {
        let (total, free) = disk_space(Path::new("/")).unwrap();
        assert!(total > 0 && free <= total);
        assert_eq!(disk_space(Path::new("/no/such")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn addresses_and_control_messages_that_are_cut_or_foreign_are_none() {
        assert_eq!(address(&[]), None);
        assert_eq!(address(&[0; ADDRESS_LEN]), None);
        let mut local = [0; ADDRESS_LEN];
        local[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        assert!(address(&local).is_some());
        assert_eq!(address(&local[..27]), None);
        assert_eq!(drop_count(&[]), None);
        assert_eq!(drop_count(&[0; CONTROL_LEN]), None);
    }
}
