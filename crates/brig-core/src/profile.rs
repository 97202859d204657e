//! Profiles: declared cages, and what they resolve to.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::encoding::Encoder;

/// A declared cage with how it is pooled and approved. Validated: made from files by `config`, or by tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// What it is called: 1 to 64 of `a-z`, `0-9`, `-`, `_`.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// What the sandbox is made of.
    pub cage: Cage,
    /// A run's wall-clock limit in milliseconds; an agent may ask for less.
    pub timeout_ms: u64,
    /// Bytes of output (both streams together) at which a run is ended; an agent may ask for less.
    pub output_limit: u64,
    /// How many sandboxes are kept warm.
    pub pool: PoolPolicy,
    /// Who decides.
    pub approval: Approval,
}

impl Profile {
    /// SHA-256 over all of this profile that an operator's approval rests on: everything but the description and the
    /// pool, which change nothing about a run.
    #[must_use]
    pub fn content_hash(&self) -> Hash {
        let mut out = Encoder::new(b"brig-profile-2");
        out.text(&self.name).nested(|out| self.cage.encode(out));
        out.u64(self.timeout_ms).u64(self.output_limit);
        out.text(match self.approval.mode {
            ApprovalMode::Ask => "ask",
            ApprovalMode::Auto => "auto",
        });
        out.u64(self.approval.expires_ms);
        out.hash()
    }
}

/// What a sandbox is made of: all that is fixed when it is created. Part of what an operator approves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cage {
    /// The image's reference, as in `busybox:1.37`. With `build`, the name of what is built: it changes with the content.
    pub image: String,
    /// What the image is built from, where it is not pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// Whether brig may make an image from this machine's own userland when `image` cannot be had.
    pub userland_fallback: bool,
    /// `uid:gid`, numeric, neither of them 0.
    pub user: String,
    /// Absolute; the scratch is mounted there.
    pub working_dir: String,
    /// Variables every step gets.
    pub environment: BTreeMap<String, String>,
    /// Variables every step gets whose values are secret: only where the value comes from is part of this.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretSource>,
    /// What is mounted read-only, in the order declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// What runs code, by language.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub interpreters: BTreeMap<String, Interpreter>,
    /// Bytes of memory; swap is set to the same, so there is none.
    pub memory: u64,
    /// Thousandths of a CPU at most; 0 sets no quota.
    pub milli_cpus: u64,
    /// Relative weight against other containers, 2 to 262144; 1024 is the daemon's default.
    pub cpu_shares: u64,
    /// Processes and threads at most, init among them.
    pub pids: u64,
    /// Limits of each process by name (`nofile`, `fsize`, `core`, …): soft and hard.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// What of the network it reaches.
    pub network: Network,
    /// The OCI runtime (`runsc`, …); the daemon's default when it is not set.
    pub runtime: Option<String>,
    /// Bytes of the scratch, which is `working_dir`; `/tmp` is a quarter of it on top. Both count as memory.
    pub scratch_size: u64,
    /// Whether programs in the scratch may be executed.
    pub scratch_exec: bool,
}

impl Cage {
    /// Where the code of a step lies when it runs, from step 0 on: in the working directory, so that what is beside it is
    /// found, under a name that is no module's.
    #[must_use]
    pub fn code_path(&self, step: usize, language: &str) -> String {
        let extension = match language {
            "python" => ".py",
            "node" => ".js",
            _ => "",
        };
        format!("{}/.code-{}{extension}", self.working_dir.trim_end_matches('/'), step + 1)
    }

    /// Writes every field, in order.
    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.text(&self.image).flag(self.build.is_some());
        if let Some(build) = &self.build {
            build.encode(out);
        }
        out.flag(self.userland_fallback).text(&self.user).text(&self.working_dir);
        out.u64(self.environment.len() as u64);
        for (name, value) in &self.environment {
            out.text(name).text(value);
        }
        out.u64(self.secrets.len() as u64);
        for (name, source) in &self.secrets {
            let (kind, place) = match source {
                SecretSource::Environment(name) => ("environment", name),
                SecretSource::File(path) => ("file", path),
            };
            out.text(name).text(kind).text(place);
        }
        out.u64(self.volumes.len() as u64);
        for volume in &self.volumes {
            out.text(&volume.source).text(&volume.target);
        }
        out.u64(self.interpreters.len() as u64);
        for (language, interpreter) in &self.interpreters {
            out.text(language).u64(interpreter.command.len() as u64);
            for argument in &interpreter.command {
                out.text(argument);
            }
            out.flag(interpreter.prewarm);
        }
        out.u64(self.memory).u64(self.milli_cpus).u64(self.cpu_shares).u64(self.pids);
        out.u64(self.ulimits.len() as u64);
        for (name, limit) in &self.ulimits {
            out.text(name).u64(limit.soft).u64(limit.hard);
        }
        out.text(self.network.text()).text(self.runtime.as_deref().unwrap_or(""));
        out.u64(self.scratch_size).flag(self.scratch_exec);
    }
}

/// What an image is built from, as `build` of a Compose file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Build {
    /// Where the files are.
    pub context: Context,
    /// The Dockerfile's path in the context.
    pub dockerfile: String,
    /// Values for the Dockerfile's `ARG`s.
    pub args: BTreeMap<String, String>,
    /// The stage that is built, if not the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Over every file of the context, as it was when the profile was read.
    pub content: Hash,
}

impl Build {
    /// Names the image, after the profile and all that it is built from.
    #[must_use]
    pub fn reference(&self, profile: &str) -> String {
        let mut out = Encoder::new(b"brig-build-1");
        out.text(&self.dockerfile).nested(|out| self.encode_arguments(out)).text(&self.content.hex());
        format!("brig-build:{profile}-{}", &out.hash().hex()[..12])
    }

    fn encode(&self, out: &mut Encoder) {
        let (kind, place) = match &self.context {
            Context::Directory(path) => ("directory", path),
            Context::Shipped(name) => ("shipped", name),
        };
        out.text(kind).text(place).text(&self.dockerfile);
        self.encode_arguments(out);
        out.text(&self.content.hex());
    }

    fn encode_arguments(&self, out: &mut Encoder) {
        out.u64(self.args.len() as u64);
        for (name, value) in &self.args {
            out.text(name).text(value);
        }
        out.text(self.target.as_deref().unwrap_or(""));
    }
}

/// Where the files are that an image is built from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Context {
    /// A directory of the supervisor's machine, by its absolute path.
    Directory(String),
    /// Files that brig itself carries, by the name of the profile that they came with.
    Shipped(String),
}

impl Context {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Directory(path) => path.clone(),
            Self::Shipped(name) => format!("what brig ships for {name}"),
        }
    }
}

/// Where the value of a secret variable is taken from when a run begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretSource {
    /// A variable of the operator's, which is to say of the supervisor's own environment.
    Environment(String),
    /// A file on the supervisor's machine, by its absolute path.
    File(String),
}

impl SecretSource {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Environment(name) => format!("the variable {name} of the supervisor"),
            Self::File(path) => format!("the file {path}"),
        }
    }
}

/// A directory or file of the host that sandboxes can read and nobody in them can write. Its content can change after
/// an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Volume {
    /// Absolute path on the engine's host.
    pub source: String,
    /// Absolute path in the sandbox.
    pub target: String,
}

/// Languages whose interpreters can be started before a request comes.
pub const PREWARMED: [&str; 2] = ["node", "python"];

/// What runs code of one language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Interpreter {
    /// Program and arguments, as in `python3 -I`.
    pub command: Vec<String>,
    /// Whether it is started, with its imports done, before a request comes.
    pub prewarm: bool,
}

/// A process limit, soft and hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ulimit {
    /// What applies.
    pub soft: u64,
    /// How far a process may raise it.
    pub hard: u64,
}

/// What of the network a sandbox reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Nothing but its own loopback.
    None,
}

impl Network {
    /// As `network_mode` spells it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::None => "none",
        }
    }
}

/// How many sandboxes of a profile are kept warm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolPolicy {
    /// Warm and unused when nothing has run for an hour. At most `target`.
    pub min: u32,
    /// Warm and unused at rest; more while there is more demand. 0: a run that comes alone is a cold start.
    pub target: u32,
    /// Sandboxes at once, in whatever state. Runs over it wait their turn. At least `target`.
    pub max: u32,
    /// Milliseconds after which an unused sandbox is replaced.
    pub max_age_ms: u64,
}

/// Who decides about a profile's proposals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// A person, or everything by rule.
    pub mode: ApprovalMode,
    /// Milliseconds that a proposal waits before it ends as expired.
    pub expires_ms: u64,
}

/// Whether a person is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalMode {
    /// A person decides.
    Ask,
    /// Everything is approved by this rule.
    Auto,
}

/// A SHA-256 hash, in hexadecimal wherever it is shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
            text
        })
    }

    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex())
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex())
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl JsonSchema for Hash {
    fn schema_name() -> Cow<'static, str> {
        "Hash".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9a-f]{64}$",
            "description": "A SHA-256 hash: 64 hexadecimal digits.",
        })
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a hash is 64 hexadecimal digits"))
    }
}

/// An image as it is on the daemon: what a reference meant when it was resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedImage {
    /// The daemon's content identifier, `sha256:…`.
    pub id: String,
    /// Where it came from.
    pub source: ImageSource,
}

/// Where an image came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageSource {
    /// The daemon had it.
    Local,
    /// It was pulled just now.
    Pulled,
    /// It was built from what the profile's `build` names.
    Built,
    /// brig made it from this machine's own userland, as the profile's image could not be had.
    Userland,
}

/// Everything that makes one sandbox: the engine creates it from this and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// The profile's name, for labels.
    pub profile: String,
    /// What it is made of.
    pub cage: Cage,
    /// The image, resolved.
    pub image: ResolvedImage,
    /// The engine's own part of the configuration: init's hash and the version of the create request.
    pub engine_fingerprint: String,
}

impl SandboxSpec {
    /// SHA-256 over everything that decides what the sandbox is. Compared at launch with what was approved.
    #[must_use]
    pub fn config_hash(&self) -> Hash {
        let mut out = Encoder::new(b"brig-sandbox-2");
        out.text(&self.profile).nested(|out| self.cage.encode(out));
        out.text(&self.image.id).text(&self.engine_fingerprint);
        out.hash()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_hash_is_read_as_it_is_written_and_in_no_other_way() {
        let hash = Hash::of(b"x");
        assert_eq!(Hash::parse(&hash.hex()), Some(hash));
        for wrong in ["", "00", &"g".repeat(64), &"+1".repeat(32), &"ä".repeat(32), &"0".repeat(65)] {
            assert_eq!(Hash::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_approval_rests_on_everything_but_the_description_and_the_pool() {
        let base = fixtures::profile();
        let with = |change: fn(&mut Profile)| {
            let mut profile = base.clone();
            change(&mut profile);
            profile.content_hash()
        };
        let same: [fn(&mut Profile); 2] = [|it| it.description.push('x'), |it| it.pool.target = 0];
        assert!(same.into_iter().all(|change| with(change) == base.content_hash()));
        let other: [fn(&mut Profile); 7] = [
            |it| it.name.push('x'),
            |it| it.timeout_ms += 1,
            |it| it.output_limit += 1,
            |it| it.approval.mode = ApprovalMode::Auto,
            |it| it.approval.expires_ms += 1,
            |it| it.cage.userland_fallback = !it.cage.userland_fallback,
            |it| it.cage.runtime = Some("runsc".into()),
        ];
        assert!(other.into_iter().all(|change| with(change) != base.content_hash()));
    }

    #[test]
    fn a_built_image_has_another_name_when_anything_of_it_is_another() {
        let build = Build {
            context: Context::Directory("/a".into()),
            dockerfile: "Dockerfile".into(),
            args: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
            target: None,
            content: Hash::of(b"x"),
        };
        let changes: [fn(&mut Build); 4] = [
            |it| it.dockerfile.push('x'),
            |it| it.target = Some("a".into()),
            |it| it.content = Hash::of(b"y"),
            |it| it.args.clear(),
        ];
        for change in changes {
            let mut other = build.clone();
            change(&mut other);
            assert_ne!(other.reference("p"), build.reference("p"));
        }
        let moved = Build { context: Context::Directory("/b".into()), ..build.clone() };
        assert_eq!(moved.reference("p"), build.reference("p"), "the same files, elsewhere");
    }

    #[test]
    fn a_sandbox_of_another_image_engine_or_profile_has_another_configuration() {
        let base = fixtures::spec(&fixtures::profile());
        let changes: [fn(&mut SandboxSpec); 4] = [
            |it| it.profile.push('x'),
            |it| it.image.id.push('0'),
            |it| it.engine_fingerprint.push('x'),
            |it| it.cage.ulimits.clear(),
        ];
        for change in changes {
            let mut spec = base.clone();
            change(&mut spec);
            assert_ne!(spec.config_hash(), base.config_hash());
        }
        let mut pulled = base.clone();
        pulled.image.source = ImageSource::Pulled;
        assert_eq!(pulled.config_hash(), base.config_hash(), "how an image came here changes nothing about it");
    }
}
