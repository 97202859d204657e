//! A connection through the system's `ssh`, which knows the user's keys, agents and configuration.
//!
//! As the `docker` command does it: one process a connection, with `docker system dial-stdio` at the other end. When this
//! process dies, the end of its standard input ends `ssh`, and with it what it started there.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll, ready};

use brig_core::problem::{Code, Problem};
use brig_core::visible;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::address::{Address, SshTarget};

/// The two directions of one `ssh`. It ends with them.
pub struct Stream {
    address: String,
    /// Killed when it is dropped.
    child: Child,
    /// `None` when nothing more will be written.
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// What `ssh` says of itself, until its end.
    stderr: Option<ChildStderr>,
    /// The beginning of that.
    said: Vec<u8>,
}

/// Of what `ssh` says of itself, so much is kept.
const KEPT: usize = 16 << 10;

impl Stream {
    /// Starts `ssh`. Whether it gets anywhere shows when something is read.
    pub fn start(target: &SshTarget) -> io::Result<Self> {
        let address = Address::Ssh(target.clone()).to_string();
        let mut command = Command::new("ssh");
        command.args(arguments(target));
        // A group of its own: what a terminal sends to brig is not meant for it.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| {
            let problem = Problem::new(Code::EngineUnreachable, format!("ssh cannot be started: {error}"));
            io::Error::other(problem.help("install OpenSSH's client (`openssh-client`), and see that PATH has it"))
        })?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(stdin), Some(stdout)) => {
                let stderr = child.stderr.take();
                Ok(Self { address, child, stdin: Some(stdin), stdout, stderr, said: Vec::new() })
            }
            _ => Err(io::Error::other("ssh has no pipes")),
        }
    }

    /// Why nothing came: `ssh`'s own last line.
    pub async fn failure(mut self) -> Problem {
        self.stdin = None;
        if let Some(stderr) = self.stderr.take() {
            let rest = (KEPT - self.said.len()) as u64;
            // Bounded in time by who asks.
            let _ = stderr.take(rest).read_to_end(&mut self.said).await;
        }
        let _ = self.child.start_kill();
        explain(&self.address, &self.said)
    }
}

impl Stream {
    /// Reads what `ssh` says of itself, so that it never waits for that.
    fn listen(&mut self, cx: &mut Context<'_>) {
        let mut bytes = [0; 1024];
        while let Some(stderr) = &mut self.stderr {
            let mut piece = ReadBuf::new(&mut bytes);
            match Pin::new(stderr).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    let room = KEPT - self.said.len();
                    self.said.extend(piece.filled().iter().take(room));
                }
                Poll::Ready(_) => self.stderr = None,
                Poll::Pending => break,
            }
        }
    }
}

fn explain(address: &str, said: &[u8]) -> Problem {
    let text = String::from_utf8_lossy(said);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let last = lines.next_back().unwrap_or("it ended without a word");
    let help = if text.contains("Host key verification failed") || text.contains("IDENTIFICATION HAS CHANGED") {
        format!("connect once by hand (`{}`) and look at the key that it shows", by_hand(address))
    } else if text.contains("Permission denied (") {
        "ssh has to log in without a question: a key without a passphrase, or one in ssh-agent".to_owned()
    } else if text.contains("permission denied while trying to connect") {
        "the user there may not use Docker's socket: add it to that machine's group `docker`".to_owned()
    } else if text.contains("not found") {
        "the `docker` command has to be on that machine, where a login without a terminal finds it".to_owned()
    } else {
        format!("see whether `{} docker version` works, without any question", by_hand(address))
    };
    let last = visible::line(last.as_bytes());
    Problem::new(Code::EngineUnreachable, format!("ssh says: {last}")).help(help)
}

fn by_hand(address: &str) -> String {
    match Address::parse(address, None) {
        Ok(Address::Ssh(SshTarget { user, host, port, .. })) => {
            let user = user.map_or_else(String::new, |user| format!("{user}@"));
            let port = port.map_or_else(String::new, |port| format!("-p {port} "));
            format!("ssh {port}{user}{host}")
        }
        _ => "ssh".to_owned(),
    }
}

/// Never a question, never for long, and an end when the other machine is gone.
fn arguments(target: &SshTarget) -> Vec<String> {
    let mut all = Vec::new();
    for option in ["BatchMode=yes", "ConnectTimeout=6", "ServerAliveInterval=15", "ServerAliveCountMax=3"] {
        all.extend(["-o".to_owned(), option.to_owned()]);
    }
    all.push("-T".to_owned());
    if let Some(user) = &target.user {
        all.extend(["-l".to_owned(), user.clone()]);
    }
    if let Some(port) = target.port {
        all.extend(["-p".to_owned(), port.to_string()]);
    }
    all.extend(["--".to_owned(), target.host.clone(), "docker".to_owned()]);
    if let Some(socket) = &target.socket {
        // A shell there reads this.
        all.extend(["--host".to_owned(), format!("'unix://{}'", socket.replace('\'', r"'\''"))]);
    }
    all.extend(["system".to_owned(), "dial-stdio".to_owned()]);
    all
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.listen(cx);
        Pin::new(&mut self.stdout).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The end of this direction alone: only closing the pipe says it.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(stdin) = &mut self.stdin {
            ready!(Pin::new(stdin).poll_shutdown(cx))?;
            self.stdin = None;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> SshTarget {
        match Address::parse(text, None) {
            Ok(Address::Ssh(target)) => target,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ssh_is_never_asked_for_more_than_the_daemons_door() {
        let all = arguments(&target("ssh://me@box:2222")).join(" ");
        assert!(all.contains("BatchMode=yes") && all.contains("ConnectTimeout="), "{all}");
        assert!(all.ends_with("-T -l me -p 2222 -- box docker system dial-stdio"), "{all}");
        let all = arguments(&target("ssh://box/run/it's/docker.sock")).join(" ");
        assert!(all.ends_with(r"-- box docker --host 'unix:///run/it'\''s/docker.sock' system dial-stdio"), "{all}");
    }

    #[test]
    fn its_own_last_line_is_told_with_what_to_do() {
        let cases = [
            ("Warning: x\r\nme@box: Permission denied (publickey).\r\n", "Permission denied (publickey)", "ssh-agent"),
            ("No ED25519 host key\nHost key verification failed.\r\n", "verification failed", "ssh -p 22 me@box"),
            ("bash: line 1: docker: command not found\n", "docker: command not found", "has to be on that machine"),
            ("ssh: Could not resolve hostname box\n", "Could not resolve", "docker version"),
            ("", "without a word", "docker version"),
        ];
        for (said, message, help) in cases {
            let problem = explain("ssh://me@box:22", said.as_bytes());
            assert_eq!(problem.code, Code::EngineUnreachable);
            assert!(problem.message.contains(message) && problem.help.contains(help), "{problem}");
        }
        let problem = explain("ssh://box", b"\x1b[2Jgone");
        assert!(!problem.message.contains('\x1b'), "{problem}");
    }
}
