//! Where the daemon is.

use std::fmt;

use brig_core::problem::{Code, Problem};

/// Where a daemon listens when nobody says otherwise.
pub const DEFAULT: &str = "unix:///var/run/docker.sock";

/// A daemon's address, of one of the two kinds that are spoken here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket in the file system.
    Unix(String),
    /// `host:port`, unencrypted.
    Tcp(String),
}

impl Address {
    /// Reads an address as `DOCKER_HOST` spells it.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = |message: String| Problem::new(Code::Config, message);
        let spelling = "write unix:///path/to/docker.sock or tcp://host:2375, in `engine.address` or DOCKER_HOST";
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(wrong(format!("the daemon's address `{text}` has no scheme")).help(spelling));
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.to_owned())),
            "unix" => Err(wrong(format!("the socket in `{text}` is not an absolute path")).help(spelling)),
            "tcp" | "http" => {
                let authority = rest.trim_end_matches('/');
                // In `[::1]` the colons are the host's.
                let split = authority.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
                let (host, port) = split.unwrap_or((authority, "2375"));
                if host.is_empty() || host.contains(['/', '@', '?', '#']) || port.parse::<u16>().is_err() {
                    return Err(wrong(format!("`{text}` is no host and port")).help(spelling));
                }
                Ok(Self::Tcp(format!("{host}:{port}")))
            }
            "ssh" | "https" | "npipe" | "fd" => {
                Err(wrong(format!("addresses of the kind {scheme}:// are not spoken here"))
                    .help("forward the daemon's socket to this machine, as with `ssh -L`, and use unix://"))
            }
            _ => Err(wrong(format!("the daemon's address `{text}` is of an unknown kind")).help(spelling)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{path}"),
            Self::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_read_and_spelled_back() {
        for text in ["unix:///var/run/docker.sock", "tcp://10.0.0.7:2375", "tcp://[::1]:2376"] {
            assert_eq!(Address::parse(text).map(|address| address.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(Address::parse("tcp://[::1]"), Ok(Address::Tcp("[::1]:2375".to_owned())));
        assert_eq!(Address::parse("tcp://box/"), Ok(Address::Tcp("box:2375".to_owned())));
    }

    #[test]
    fn anything_else_is_refused_with_what_to_write() {
        for text in
            ["", "/var/run/docker.sock", "unix://docker.sock", "ssh://me@there", "tcp://", "tcp://a:b", "ipc://x"]
        {
            let problem = Address::parse(text).unwrap_err();
            assert_eq!(problem.code, Code::Config, "{text}");
            assert!(problem.help.contains("unix://"), "{text}: {problem}");
        }
    }
}
