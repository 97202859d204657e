//! Who is at the other end of a socket, and what they may.

use std::collections::BTreeMap;

use brig_core::problem::{Code, Problem};
use brig_core::profile::Hash;
use brig_core::proposal::{Agent, Operator};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use tokio::net::UnixStream;

use crate::supervisor::process::user_name;

/// What the kernel says of a peer. A peer that it says nothing of may do nothing.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub Option<PeerId>);

/// A peer, as it was when it connected.
#[derive(Clone, Copy, Debug)]
pub struct PeerId {
    pub uid: u32,
    pub pid: Option<i32>,
}

impl Peer {
    /// Who is at the other end of a connection.
    pub fn of(stream: &UnixStream) -> Self {
        let credentials = stream.peer_cred().ok();
        Self(credentials.map(|it| PeerId { uid: it.uid(), pid: it.pid() }))
    }
}

/// Who may what.
#[derive(Debug)]
pub struct Access {
    /// The supervisor's own user, who is the operator.
    pub uid: u32,
    /// What an operator shows.
    pub operator_token: String,
    /// Agents by name, with the SHA-256 of what they show.
    pub agent_tokens: BTreeMap<String, Hash>,
}

impl Access {
    /// The agent at the other end: by its token if it has one, else by its user.
    ///
    /// # Errors
    /// `wrong_token` for a token that is nobody's, `wrong_user` for a peer of whom nothing is known.
    pub fn agent(&self, peer: Peer, headers: &HeaderMap) -> Result<Agent, Problem> {
        let PeerId { uid, pid } = known(peer)?;
        let name = match token(headers)? {
            None => self.unless_taken(user_name(uid))?,
            Some(token) => {
                let hash = Hash::of(token.as_bytes());
                let known = self.agent_tokens.iter().find(|(_, known)| **known == hash);
                let (name, _) = known.ok_or_else(|| {
                    Problem::new(Code::WrongToken, "the token is no agent's").help(
                        "tokens are set under `[agents.tokens]` in brig.toml; without one, the user's name counts",
                    )
                })?;
                name.clone()
            }
        };
        Ok(Agent { name, uid, pid, is_operator_user: uid == self.uid || uid == 0 })
    }

    /// A user's name, as an agent's. One that was given to the holder of a token is his alone.
    fn unless_taken(&self, name: String) -> Result<String, Problem> {
        if self.agent_tokens.contains_key(&name) {
            return Err(Problem::new(Code::WrongToken, format!("agent `{name}` has a token, and none was shown"))
                .help("show it, or give that agent another name under `[agents.tokens]` in brig.toml"));
        }
        Ok(name)
    }

    /// The operator at the other end: the supervisor's own user or root, with the operator's token.
    ///
    /// # Errors
    /// `wrong_user` or `wrong_token`.
    pub fn operator(&self, peer: Peer, headers: &HeaderMap) -> Result<Operator, Problem> {
        let PeerId { uid, .. } = known(peer)?;
        if uid != self.uid && uid != 0 {
            return Err(Problem::new(Code::WrongUser, format!("user {} may not decide here", user_name(uid)))
                .help(format!("only {} may", user_name(self.uid))));
        }
        // Compared by hash, so that how long it takes tells nothing of the token.
        let shown = token(headers)?.map(|token| Hash::of(token.as_bytes()));
        if shown != Some(Hash::of(self.operator_token.as_bytes())) {
            return Err(Problem::new(Code::WrongToken, "the operator's token is missing or wrong").help(
                "it is in the file operator.token beside the socket, and is new at each start of the supervisor",
            ));
        }
        Ok(Operator { name: user_name(uid), uid })
    }
}

fn known(peer: Peer) -> Result<PeerId, Problem> {
    peer.0.ok_or_else(|| Problem::new(Code::WrongUser, "the system does not say who you are"))
}

fn token(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
    token.map(Some).ok_or_else(|| {
        Problem::new(Code::WrongToken, "the header Authorization is not of the form `Bearer TOKEN`")
            .help("send the token so, or send no such header")
    })
}
