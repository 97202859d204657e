//! The two directions of a sandbox's one attachment.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::AttachContainerOptionsBuilder;
use brig_core::problem::{Code, Problem};
use brig_core::proposal::OutputStream;
use brig_init::wire::{Armed, ArmedFinder, ArmedScan, WIRE_VERSION};
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::runtime::Handle;

use super::address::Address;
use super::failure;
use super::link::{Link, QUICK};
use super::until_problem;
use crate::engine::{last_words, remember};

/// What a sandbox writes, in order within each stream.
pub type Output = BoxStream<'static, Result<(OutputStream, Bytes), Problem>>;

/// Attaches to a created container. To be done once, and before it starts: what comes earlier is not kept anywhere.
pub async fn attach(link: &Link, container: &str) -> Result<(OwnerStdin, Output), Problem> {
    let options = AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).stderr(true).build();
    let attaching = link.docker.attach_container(container, Some(options));
    let attached = link.call("attach to a sandbox", QUICK, attaching).await?;
    let address = link.address.clone();
    let output = attached.output.map(move |item| sort(&address, item)).boxed();
    // After a problem nothing that follows can be trusted to belong to a stream.
    Ok((OwnerStdin { inner: Some(attached.input) }, until_problem(output)))
}

/// Sorts one piece of output by its stream.
fn sort(address: &Address, item: Result<LogOutput, Error>) -> Result<(OutputStream, Bytes), Problem> {
    match item {
        Ok(LogOutput::StdOut { message }) => Ok((OutputStream::Stdout, message)),
        Ok(LogOutput::StdErr { message }) => Ok((OutputStream::Stderr, message)),
        // A first byte that names no stream is decoded as text of a terminal, which no sandbox has.
        Ok(LogOutput::Console { .. } | LogOutput::StdIn { .. }) => {
            let message = "the daemon sent a piece of a sandbox's output that names none of its streams";
            Err(Problem::new(Code::EngineProtocol, message))
        }
        Err(error) => Err(failure::explain(address, "read a sandbox's output", &error).problem),
    }
}

/// Waits until init has said that it is armed, and gives back the output that comes after that.
pub async fn armed(mut output: Output) -> Result<Output, Problem> {
    let mut finder = ArmedFinder::new();
    let mut complaint = Vec::new();
    while let Some(item) = output.next().await {
        let (stream, bytes) = item?;
        if stream == OutputStream::Stderr {
            remember(&mut complaint, &bytes);
            continue;
        }
        match finder.push(&bytes) {
            ArmedScan::Waiting => {}
            ArmedScan::Refused(error) => {
                return Err(protocol(format!("what runs in the sandbox is not brig's init: {error}")));
            }
            ArmedScan::Armed(armed, rest) => {
                check(armed)?;
                let rest = bytes.slice_ref(rest);
                let first = (!rest.is_empty()).then_some(Ok((OutputStream::Stdout, rest)));
                return Ok(futures_util::stream::iter(first).chain(output).boxed());
            }
        }
    }
    let problem = match last_words(&complaint) {
        Some(problem) if problem.code == Code::InterpreterFailed => return Err(problem),
        Some(problem) => format!(", saying: {}", problem.message),
        None => String::new(),
    };
    Err(protocol(format!("the sandbox ended before its init was armed{problem}")))
}

/// The volume is filled with the very init that this brig carries, so anything else is a mistake somewhere.
fn check(armed: Armed) -> Result<(), Problem> {
    if armed.wire_version != u32::from(WIRE_VERSION) || armed.init_version != brig_init::INIT_VERSION {
        let [major, minor, patch] = armed.init_version;
        return Err(protocol(format!(
            "the sandbox's init is {major}.{minor}.{patch} and speaks version {} of the protocol, not {WIRE_VERSION}",
            armed.wire_version
        )));
    }
    if !armed.is_pid_1 {
        return Err(protocol("the sandbox's init is not its first process, so it could not end all others".to_owned()));
    }
    Ok(())
}

fn protocol(message: String) -> Problem {
    Problem::new(Code::EngineProtocol, message)
}

/// Init's standard input. Both directions share a connection, so dropping this alone would close nothing: the drop
/// closes this direction by hand, which init understands as its owner's death.
pub struct OwnerStdin {
    /// There until it is dropped.
    inner: Option<Pin<Box<dyn AsyncWrite + Send>>>,
}

impl OwnerStdin {
    fn inner(&mut self) -> io::Result<&mut Pin<Box<dyn AsyncWrite + Send>>> {
        self.inner.as_mut().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl Drop for OwnerStdin {
    fn drop(&mut self) {
        /// What an encrypted connection may take to say its last word to a daemon that does not read.
        const LAST_WORD: Duration = Duration::from_secs(5);
        let Some(mut inner) = self.inner.take() else { return };
        // Closing one direction of a socket never waits. Of an encrypted connection it can, when what was written before
        // is still on its way.
        let closed = inner.as_mut().poll_shutdown(&mut Context::from_waker(Waker::noop()));
        if let (Poll::Pending, Ok(runtime)) = (closed, Handle::try_current()) {
            runtime.spawn(async move { tokio::time::timeout(LAST_WORD, inner.shutdown()).await });
        }
    }
}

impl AsyncWrite for OwnerStdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.inner()?.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.as_mut().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(items: Vec<Result<(OutputStream, Bytes), Problem>>) -> Output {
        futures_util::stream::iter(items).boxed()
    }

    fn piece(stream: OutputStream, bytes: &[u8]) -> Result<(OutputStream, Bytes), Problem> {
        Ok((stream, Bytes::copy_from_slice(bytes)))
    }

    #[tokio::test]
    async fn the_armed_mark_is_taken_off_and_what_follows_is_kept() {
        let mark = Armed::this(true).encode();
        let (head, tail) = mark.split_at(7);
        let mut second = tail.to_vec();
        second.extend_from_slice(b"early");
        let output = output(vec![piece(OutputStream::Stdout, head), piece(OutputStream::Stdout, &second)]);
        let rest: Vec<_> = armed(output).await.unwrap().collect().await;
        assert_eq!(rest, [piece(OutputStream::Stdout, b"early")]);
    }

    #[tokio::test]
    async fn an_end_before_the_mark_says_what_was_complained_about() {
        let output = output(vec![piece(OutputStream::Stderr, b"exec format error\n")]);
        let problem = armed(output).await.err().unwrap();
        assert_eq!(problem.code, Code::EngineProtocol);
        assert!(problem.message.contains("exec format error"), "{problem}");
    }

    #[tokio::test]
    async fn another_program_or_another_version_is_refused() {
        let later = Armed { init_version: [9, 0, 0], ..Armed::this(true) }.encode();
        let child = Armed::this(false).encode();
        for bytes in [b"/ # ".as_slice(), &later, &child] {
            assert!(armed(output(vec![piece(OutputStream::Stdout, bytes)])).await.is_err());
        }
    }

    #[test]
    fn output_of_no_stream_is_a_protocol_problem() {
        let address = Address::Unix("/x".to_owned());
        let console = sort(&address, Ok(LogOutput::Console { message: Bytes::from_static(b"x") }));
        assert_eq!(console.unwrap_err().code, Code::EngineProtocol);
    }
}
