//! How a daemon's address is written.

use std::fmt;
use std::path::PathBuf;

use brig_core::problem::{Code, Problem};

/// A daemon's address, of one of the kinds that are spoken here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket in the file system.
    Unix(String),
    /// `host:port`, unencrypted.
    Tcp(String),
    /// `host:port`, encrypted, both sides with certificates.
    Tls {
        /// `host:port`.
        authority: String,
        /// Who is trusted, and who this side is.
        files: TlsFiles,
    },
    /// Another machine, over the system's `ssh` and its `docker system dial-stdio`.
    Ssh(SshTarget),
}

/// The files of a TLS connection, in PEM format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may have signed the daemon's certificate; without it, those that this system trusts.
    pub ca: Option<PathBuf>,
    /// This side's certificate, with its chain.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// Where `ssh` goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshTarget {
    /// The user there; `ssh` decides where it is not set.
    pub user: Option<String>,
    /// A host, or what the user's `ssh` configuration calls one.
    pub host: String,
    /// The port; `ssh` decides where it is not set.
    pub port: Option<u16>,
    /// The daemon's socket on that machine, where it is another than `docker` there takes.
    pub socket: Option<String>,
}

const SPELLING: &str =
    "write unix:///path/to/docker.sock, ssh://user@host or tcp://host:2376, in `engine.address` or DOCKER_HOST";

impl Address {
    /// Reads an address as `DOCKER_HOST` spells it. With `tls`, TCP is encrypted.
    pub fn parse(text: &str, tls: Option<&TlsFiles>) -> Result<Self, Problem> {
        let wrong = |message: String| Problem::new(Code::Config, message).help(SPELLING);
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(wrong(format!("the daemon's address `{text}` has no scheme")));
        };
        match (scheme, tls) {
            ("unix", _) if rest.starts_with('/') => Ok(Self::Unix(rest.to_owned())),
            ("unix", _) => Err(wrong(format!("the socket in `{text}` is not an absolute path"))),
            ("tcp" | "http", None) => Ok(Self::Tcp(authority(text, rest, 2375)?)),
            ("tcp" | "https", files) => {
                Ok(Self::Tls { authority: authority(text, rest, 2376)?, files: files.cloned().unwrap_or_default() })
            }
            ("ssh", _) => Ok(Self::Ssh(ssh_target(text, rest)?)),
            ("npipe" | "fd", _) => Err(wrong(format!("addresses of the kind {scheme}:// are not spoken here"))),
            _ => Err(wrong(format!("the daemon's address `{text}` is of an unknown kind"))),
        }
    }

    /// Whether the daemon may be on this machine, for all that the address says.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// What protects the connection, in words.
    pub fn protection(&self) -> &'static str {
        match self {
            Self::Unix(_) => "a socket of this machine",
            Self::Tcp(_) => "TCP, not encrypted and open to everybody who reaches it",
            Self::Tls { .. } => "TCP with TLS",
            Self::Ssh(_) => "SSH",
        }
    }
}

fn authority(text: &str, rest: &str, usual: u16) -> Result<String, Problem> {
    let authority = rest.trim_end_matches('/');
    // In `[::1]` the colons are the host's.
    let split = authority.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
    let (host, port) = match split {
        Some((host, port)) => (host, port.parse::<u16>().ok()),
        None => (authority, Some(usual)),
    };
    match port {
        Some(port) if is_host(host) => Ok(format!("{host}:{port}")),
        _ => Err(Problem::new(Code::Config, format!("`{text}` is no host and port")).help(SPELLING)),
    }
}

fn ssh_target(text: &str, rest: &str) -> Result<SshTarget, Problem> {
    let wrong = |why: &str| Problem::new(Code::Config, format!("`{text}` {why}")).help(SPELLING);
    let (authority, path) = rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    let split = place.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
    let (host, port) = match split {
        Some((host, port)) => {
            let port = port.parse::<u16>().ok().filter(|port| *port != 0);
            (host, Some(port.ok_or_else(|| wrong("has no port that can be"))?))
        }
        None => (place, None),
    };
    // `ssh` takes an address without brackets; what begins with a dash would be one of its options.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if user.is_some_and(|user| user.contains(':')) {
        return Err(wrong("has a password in it, which ssh does not take: use a key"));
    }
    let is_plain = |word: &str| !word.is_empty() && !word.starts_with('-') && !word.contains(char::is_whitespace);
    if !is_host(host) || !user.is_none_or(is_plain) {
        return Err(wrong("names no host that ssh could go to"));
    }
    Ok(SshTarget {
        user: user.map(str::to_owned),
        host: host.to_owned(),
        port,
        socket: (!path.is_empty()).then(|| format!("/{path}")),
    })
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && !host.starts_with('-')
        && !host.contains(|c: char| c.is_whitespace() || c.is_control() || "/@?#'\"\\".contains(c))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{path}"),
            Self::Tcp(authority) | Self::Tls { authority, .. } => write!(f, "tcp://{authority}"),
            Self::Ssh(SshTarget { user, host, port, socket }) => {
                f.write_str("ssh://")?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                if host.contains(':') {
                    write!(f, "[{host}]")?
                } else {
                    f.write_str(host)?
                }
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
                f.write_str(socket.as_deref().unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, Problem> {
        Address::parse(text, None)
    }

    #[test]
    fn every_kind_is_read_and_spelled_back() {
        for text in [
            "unix:///var/run/docker.sock",
            "tcp://10.0.0.7:2375",
            "tcp://[::1]:2376",
            "ssh://box",
            "ssh://me@box:2222",
            "ssh://me@[fe80::1]:22/run/user/1000/docker.sock",
        ] {
            assert_eq!(parse(text).map(|address| address.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(parse("tcp://[::1]"), Ok(Address::Tcp("[::1]:2375".to_owned())));
        assert_eq!(parse("tcp://box/"), Ok(Address::Tcp("box:2375".to_owned())));
    }

    #[test]
    fn with_certificates_tcp_is_encrypted_and_has_another_port() {
        let files = TlsFiles { ca: Some("/ca".into()), ..TlsFiles::default() };
        let address = Address::parse("tcp://box", Some(&files)).unwrap();
        assert_eq!(address, Address::Tls { authority: "box:2376".to_owned(), files: files.clone() });
        assert!(matches!(parse("https://box:1"), Ok(Address::Tls { .. })));
        assert!(matches!(Address::parse("unix:///x", Some(&files)), Ok(Address::Unix(_))));
    }

    #[test]
    fn anything_else_is_refused_with_what_to_write() {
        for text in [
            "",
            "/var/run/docker.sock",
            "unix://docker.sock",
            "tcp://",
            "tcp://a:b",
            "ipc://x",
            "ssh://",
            "ssh://me@",
            "ssh://-oProxyCommand=x",
            "ssh://-l@box",
            "ssh://me:secret@box",
            "ssh://box:0",
            "ssh://box:x",
            "ssh://a b",
        ] {
            let problem = parse(text).unwrap_err();
            assert_eq!(problem.code, Code::Config, "{text}");
            assert!(problem.help.contains("unix://"), "{text}: {problem}");
        }
    }
}
