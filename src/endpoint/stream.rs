//! A connection's bytes: plain, or inside TLS.

use std::io::{self, Read as _};
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_io::Async;
use futures_rustls::server::TlsStream;
use smol::io::{AsyncRead, AsyncWrite};

/// A TCP connection that counts what the system took of it: how a peer that takes nothing is told from a slow one.
#[derive(Debug)]
pub struct Metered {
    io: Async<TcpStream>,
    written: u64,
    /// The last read took all there was: the next one waits to be told of more instead of asking the system. Most
    /// wake-ups of a session are for writing, so this saves two of three system calls for reading.
    is_drained: bool,
}

impl Metered {
    /// Counts from zero.
    pub fn new(io: Async<TcpStream>) -> Self {
        Self { io, written: 0, is_drained: false }
    }
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.is_drained {
                ready!(self.io.poll_readable(cx))?;
                self.is_drained = false;
            }
            match self.io.get_ref().read(buf) {
                Ok(len) => {
                    self.is_drained = len > 0 && len < buf.len();
                    return Poll::Ready(Ok(len));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_drained = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(len)) = polled {
            self.written += len as u64;
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.io.get_ref().shutdown(Shutdown::Write))
    }
}

/// The one or the other. TLS is boxed: its state is large, and a plain connection should not carry the room for it.
#[derive(Debug)]
pub enum Stream {
    /// As the bytes come.
    Plain(Metered),
    /// Inside TLS.
    Tls(Box<TlsStream<Metered>>),
}

impl Stream {
    /// Bytes that the system took since the connection began, TLS included.
    pub fn written(&self) -> u64 {
        match self {
            Self::Plain(io) => io.written,
            Self::Tls(tls) => tls.get_ref().0.written,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_close(cx),
            Self::Tls(tls) => Pin::new(tls).poll_close(cx),
        }
    }
}
