//! Connections to a daemon, however it is reached.
//!
//! Each call has a connection of its own, and one that has become a sandbox's attachment stays that. Where opening one
//! takes long (TLS, SSH), a few that are free are kept for the next call.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use brig_core::problem::{Code, Problem};
use futures_util::future::{BoxFuture, FutureExt as _};
use hyper::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;

use super::address::Address;
use super::{ssh, tls};

/// How long opening a connection may take, up to the first answer where there is one. Less than any call may take, so
/// that what is said is what is wrong with the connection.
const OPENING: Duration = Duration::from_secs(9);
/// Connections that are free and kept, where opening one takes long, and for how long.
const KEPT: usize = 4;
const KEPT_FOR: Duration = Duration::from_secs(60);
/// `sshd` turns clients away when more than ten are logging in at once.
const OPENING_AT_ONCE: usize = 4;

/// A client of the daemon. Nothing is connected yet.
pub fn client(address: &Address) -> Result<Docker, Error> {
    // Only the time to an answer's first byte, and longer than any of the bounds on calls.
    const LONGEST: u64 = 3600;
    let kept = if matches!(address, Address::Unix(_) | Address::Tcp(_)) { 0 } else { KEPT };
    let host = match address {
        Address::Tcp(authority) | Address::Tls { authority, .. } => authority.clone(),
        Address::Unix(_) | Address::Ssh(_) => "docker".to_owned(),
    };
    let dialer = Dialer { address: Arc::new(address.clone()), opening: Arc::new(Semaphore::new(OPENING_AT_ONCE)) };
    let client = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(kept)
        .pool_idle_timeout(KEPT_FOR)
        .pool_timer(TokioTimer::new())
        .build(dialer);
    let send = move |request: BollardRequest| {
        let sending = client.request(request);
        async move { Ok(sending.await?) }
    };
    Docker::connect_with_custom_transport(send, Some(format!("http://{host}")), LONGEST, API_DEFAULT_VERSION)
}

/// Opens connections to one address.
#[derive(Clone)]
struct Dialer {
    address: Arc<Address>,
    opening: Arc<Semaphore>,
}

impl tower_service::Service<Uri> for Dialer {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Wire>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, opening } = self.clone();
        async move {
            let opened = tokio::time::timeout(OPENING, open(&address, &opening)).await;
            let late = || format!("no connection within {} s", OPENING.as_secs());
            opened.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, late()))).map(TokioIo::new)
        }
        .boxed()
    }
}

async fn open(address: &Address, opening: &Semaphore) -> io::Result<Wire> {
    match address {
        Address::Unix(path) => Ok(Wire::new(UnixStream::connect(path).await?)),
        Address::Tcp(authority) => Ok(Wire::new(connect(authority).await?)),
        Address::Tls { authority, files } => {
            let _turn = opening.acquire().await;
            let stream = connect(authority).await?;
            let mut stream = tls::handshake(authority, files, stream).await.map_err(io::Error::other)?;
            // Only an answer says that this side's certificate is taken.
            let greeted = greet(&mut stream).await;
            greeted.map_err(|error| io::Error::other(tls::refused(&error, files)))?;
            Ok(Wire::new(stream))
        }
        Address::Ssh(target) => {
            let _turn = opening.acquire().await;
            let mut stream = ssh::Stream::start(target)?;
            match greet(&mut stream).await {
                Ok(()) => Ok(Wire::new(stream)),
                Err(_) => Err(io::Error::other(stream.failure().await)),
            }
        }
    }
}

/// A connection that notices within a minute that the other machine is gone.
async fn connect(authority: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, Duration::from_secs(15))?;
    sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(&stream, 3)?;
    Ok(stream)
}

/// Asks the least there is to ask, so that a connection that is handed on is known to reach a daemon.
async fn greet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    const LONGEST: usize = 8192;
    // What refuses the connection may have closed it already, having said why.
    let written = stream.write_all(b"HEAD /_ping HTTP/1.1\r\nHost: docker\r\n\r\n").await;
    let written = if written.is_ok() { stream.flush().await } else { written };
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0; 1];
        match stream.read(&mut byte).await {
            Ok(1) if answer.len() < LONGEST => answer.push(byte[0]),
            Ok(_) => {
                written?;
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Err(error) => return Err(error),
        }
    }
    if answer.starts_with(b"HTTP/1.1 ") {
        return Ok(());
    }
    let message = "what answers there is no daemon";
    Err(io::Error::other(Problem::new(Code::EngineProtocol, message)))
}

trait Io: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// A connection of any kind.
struct Wire(Pin<Box<dyn Io>>);

impl Wire {
    fn new(stream: impl Io + 'static) -> Self {
        Self(Box::pin(stream))
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
