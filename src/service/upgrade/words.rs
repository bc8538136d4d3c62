//! What two versions say to each other while the newer one takes over: words on a socket pair that is the newer one's standard
//! input. One message a word; sockets go with the first. Old versions must understand newer ones: words are added at the end.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use socket2::SockRef;

/// Set for a process whose standard input is such a socket.
pub const TAKES_OVER: &str = "IOTSOCKETD_TAKES_OVER";
/// Bytes of a message at most: little enough for any system's socket buffers.
const MESSAGE_MAX: usize = 160 * 1024;
/// Bytes of datagrams in one word, but for the last one.
pub const DATAGRAMS_A_WORD: usize = 64 * 1024;
const _: () = assert!(DATAGRAMS_A_WORD + 65_536 + 1024 < MESSAGE_MAX);
/// Descriptors that go with a word at most: the lock and three sockets, and room for more.
const DESCRIPTORS_MAX: usize = 16;
/// A message that nobody takes for so long is taken by nobody.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// To the newer: here are the lock of the state folder and the listening sockets. Look whether you could start.
    Sockets,
    /// To the older: configuration, certificate and access list are good.
    Ready,
    /// To the newer: the journal is yours.
    Yours,
    /// To the older: it is open, and datagrams are read here from now on.
    Reading,
    /// To the newer: datagrams that came in between.
    Datagrams(Vec<(SocketAddr, Vec<u8>)>),
    /// To the newer: that were all.
    NoMoreDatagrams,
    /// To the older: every loop turns.
    Alive,
    /// To the older: it was shown to work.
    Proved,
    /// To the older: it does not work, and why.
    Failed(String),
    /// To the newer: you are the service.
    Confirmed,
}

/// One end.
#[derive(Debug)]
pub struct Words(OwnedFd);

impl Words {
    /// Both ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        for end in [&one, &other] {
            SockRef::from(end).set_write_timeout(Some(SEND_TIMEOUT))?;
        }
        Ok((Self(one), Self(other)))
    }

    /// The end that this process was started with, if it is to take over.
    pub fn of_this_process() -> Option<io::Result<Self>> {
        std::env::var_os(TAKES_OVER)?;
        Some(io::stdin().as_fd().try_clone_to_owned().map(Self))
    }

    /// The end, for the standard input of another process.
    pub fn into_descriptor(self) -> OwnedFd {
        self.0
    }

    /// The same end once more.
    pub fn again(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Says a word.
    pub fn say(&self, word: &Word) -> io::Result<()> {
        self.say_with(word, &[])
    }

    /// Says a word and hands these over.
    pub fn say_with(&self, word: &Word, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = postcard::to_stdvec(word).map_err(io::Error::other)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many sockets"));
        }
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next word; `None`: there was none in this time.
    pub fn hear(&self, timeout: Duration) -> io::Result<Option<Word>> {
        Ok(self.hear_with(timeout)?.map(|(word, _)| word))
    }

    /// The next word and what was handed over. The other end is gone: an error of the kind `UnexpectedEof`.
    pub fn hear_with(&self, timeout: Duration) -> io::Result<Option<(Word, Vec<OwnedFd>)>> {
        SockRef::from(&self.0).set_read_timeout(Some(timeout))?;
        let mut bytes = vec![0; MESSAGE_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let slices = &mut [IoSliceMut::new(&mut bytes)];
        let heard = match recvmsg(&self.0, slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(heard) if heard.bytes == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(heard) => heard.bytes,
            Err(error) => {
                let error = io::Error::from(error);
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {
                        Ok(None)
                    }
                    io::ErrorKind::ConnectionReset => Err(io::ErrorKind::UnexpectedEof.into()),
                    _ => Err(error),
                };
            }
        };
        let descriptors = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
            _ => Vec::new(),
        });
        let descriptors = descriptors.collect();
        let word = postcard::from_bytes(bytes.get(..heard).unwrap_or_default());
        Ok(Some((word.map_err(|_| io::Error::other("a word that this version does not know"))?, descriptors)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn words_and_sockets_arrive_as_they_were() {
        let (one, other) = Words::pair().unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        one.say_with(&Word::Sockets, &[socket.as_fd(), one.0.as_fd()]).unwrap();
        let large = Word::Datagrams(vec![
            (SocketAddr::from(([127, 0, 0, 1], 7)), vec![7; 65_507]),
            (SocketAddr::from(([127, 0, 0, 1], 8)), vec![8; DATAGRAMS_A_WORD]),
        ]);
        one.say(&large).unwrap();
        one.say(&Word::Failed("it does not work".to_owned())).unwrap();
        let (word, mut descriptors) = other.hear_with(SOON).unwrap().unwrap();
        assert_eq!((word, descriptors.len()), (Word::Sockets, 2));
        let same = TcpListener::from(descriptors.remove(0));
        assert_eq!(same.local_addr().unwrap(), socket.local_addr().unwrap());
        assert_eq!(other.hear(SOON).unwrap(), Some(large));
        assert_eq!(other.hear(SOON).unwrap(), Some(Word::Failed("it does not work".to_owned())));
        assert_eq!(other.hear(Duration::from_millis(1)).unwrap(), None);
        drop((one, descriptors));
        assert_eq!(other.hear(SOON).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn words_keep_their_numbers() {
        let first = |word: &Word| postcard::to_stdvec(word).unwrap()[0];
        assert_eq!(first(&Word::Sockets), 0);
        assert_eq!(first(&Word::Datagrams(Vec::new())), 4);
        assert_eq!(first(&Word::Confirmed), 9);
    }
}
