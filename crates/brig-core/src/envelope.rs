//! The envelope: everything that is approved, and the digest that names it.
//!
//! A proposal's envelope is made at admission and never changed. The digest is the SHA-256 of its encoding, which is
//! versioned and without alternatives (see [`crate::encoding`]); test vectors are committed in `tests` below, so a change
//! of the encoding cannot go unnoticed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::blob::Blob;
use crate::encoding::Encoder;
use crate::profile::{Cage, Hash, Profile, SandboxSpec};

/// What is approved, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Envelope {
    /// What runs, in order.
    pub steps: Vec<Step>,
    /// Whether a step that fails lets the next one run.
    pub keep_going: bool,
    /// Standard input of the first step, complete.
    pub stdin: Blob,
    /// Files written into the scratch before the first step.
    pub files: Vec<File>,
    /// Wall-clock limit of the run in milliseconds.
    pub deadline_ms: u64,
    /// Bytes of output at which the run is ended.
    pub output_limit: u64,
    /// The profile's name.
    pub profile: String,
    /// The profile's content at admission.
    pub profile_hash: Hash,
    /// The cage, as the profile declared it.
    pub cage: Cage,
    /// The image, as the daemon knew it at admission.
    pub image_id: String,
    /// The configuration hash that the sandbox must have.
    pub config_hash: Hash,
}

/// One command, or one piece of code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Program and arguments, at least one; of code the arguments alone, which may be none.
    pub argv: Vec<Blob>,
    /// What is run by the cage's interpreter of that language, instead of a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Variables on top of the profile's, in the order given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(Blob, Blob)>,
    /// Working directory, absolute.
    pub cwd: Blob,
}

/// Source text in one language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Code {
    /// One of the cage's interpreters.
    pub language: String,
    /// All of it.
    pub source: Blob,
}

/// A file that comes with a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Relative to the profile's working directory.
    pub path: Blob,
    /// Permission bits, at most 0o777.
    #[serde(default = "File::default_mode")]
    pub mode: u32,
    /// What is in it.
    pub content: Blob,
}

impl File {
    const fn default_mode() -> u32 {
        0o644
    }
}

impl Envelope {
    /// The digest: SHA-256 of the encoding.
    #[must_use]
    pub fn digest(&self) -> Hash {
        Hash::of(&self.encode())
    }

    /// How many steps there are.
    #[must_use]
    pub fn step_count(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }

    /// Bytes of memory that it takes, as far as its agent has decided about that.
    #[must_use]
    pub fn weight(&self) -> usize {
        let strings = self.steps.iter().flat_map(|step| {
            let variables = step.env.iter().flat_map(|(name, value)| [name, value]);
            step.argv.iter().chain(variables).chain(step.code.as_ref().map(|code| &code.source))
        });
        let files = self.files.iter().map(|file| file.path.0.len() + file.content.0.len()).sum::<usize>();
        strings.map(|it| it.0.len() + size_of::<Blob>()).sum::<usize>() + self.stdin.0.len() + files
    }

    /// The canonical encoding, version 2.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(b"brig-envelope-2");
        out.u64(self.steps.len() as u64);
        for step in &self.steps {
            out.nested(|out| step.encode(out));
        }
        out.flag(self.keep_going).bytes(&self.stdin.0).u64(self.files.len() as u64);
        for file in &self.files {
            out.bytes(&file.path.0).u64(u64::from(file.mode)).bytes(&file.content.0);
        }
        out.u64(self.deadline_ms).u64(self.output_limit);
        out.text(&self.profile).bytes(&self.profile_hash.0).nested(|out| self.cage.encode(out));
        out.text(&self.image_id).bytes(&self.config_hash.0);
        out.finish()
    }

    /// The same request under a profile that has changed: what the agent asked for stays, the cage is the new one, and
    /// limits are never wider than the new profile's.
    #[must_use]
    pub fn rebound(&self, profile: &Profile, spec: &SandboxSpec) -> Self {
        Self {
            deadline_ms: self.deadline_ms.min(profile.timeout_ms),
            output_limit: self.output_limit.min(profile.output_limit),
            profile_hash: profile.content_hash(),
            cage: profile.cage.clone(),
            image_id: spec.image.id.clone(),
            config_hash: spec.config_hash(),
            steps: self.steps.iter().map(|step| step.moved(&self.cage, &profile.cage)).collect(),
            ..self.clone()
        }
    }
}

impl Step {
    /// The same step in another cage: what began in the old working directory begins in the new one.
    fn moved(&self, from: &Cage, to: &Cage) -> Self {
        let stays = self.cwd.0 != from.working_dir.as_bytes();
        let cwd = if stays { self.cwd.clone() } else { Blob::from(to.working_dir.as_str()) };
        Self { cwd, ..self.clone() }
    }

    fn encode(&self, out: &mut Encoder) {
        out.flag(self.code.is_some());
        if let Some(Code { language, source }) = &self.code {
            out.text(language).bytes(&source.0);
        }
        out.u64(self.argv.len() as u64);
        for argument in &self.argv {
            out.bytes(&argument.0);
        }
        out.u64(self.env.len() as u64);
        for (name, value) in &self.env {
            out.bytes(&name.0).bytes(&value.0);
        }
        out.bytes(&self.cwd.0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::fixtures;
    use crate::profile::{Interpreter, SecretSource, Volume};

    fn python(prewarm: bool) -> BTreeMap<String, Interpreter> {
        BTreeMap::from([("python".into(), Interpreter { command: vec!["python3".into(), "-I".into()], prewarm })])
    }

    /// The committed vectors: an encoding that changes breaks every digest that was ever written down.
    #[test]
    fn digests_are_as_they_were_written_down() {
        let plain = fixtures::envelope(&["ls", "-la", "/"]);
        assert_eq!(plain.digest().hex(), "bc97d75c451a123a46a8c78675b9eefd3640a55ff9f4c4babd3dac4b8e5b3e89");

        let mut rich = fixtures::envelope(&["sh", "-c", "cat > out"]);
        rich.steps[0].env.push(("LANG".into(), Blob(vec![0xff, 0xfe])));
        rich.steps.push(Step { argv: vec!["true".into()], code: None, env: vec![], cwd: "/tmp".into() });
        let code = Code { language: "python".into(), source: "print(1)\n".into() };
        rich.steps.push(Step { argv: vec!["x".into()], code: Some(code), env: vec![], cwd: "/tmp".into() });
        rich.cage.secrets.insert("TOKEN".into(), SecretSource::File("/run/token".into()));
        rich.cage.volumes.push(Volume { source: "/srv/data".into(), target: "/data".into() });
        rich.cage.interpreters = python(true);
        rich.keep_going = true;
        rich.stdin = Blob(vec![0, 1, 2]);
        rich.files.push(File { path: "a b".into(), mode: 0o755, content: "x".into() });
        assert_eq!(rich.digest().hex(), "e1a47eb2bbe85d70581c8ecaf7fef919dc5e6f0eddc58308fc3fca61d3859209");
    }

    #[test]
    fn whatever_differs_has_another_digest() {
        let base = fixtures::envelope(&["a", "b"]);
        let changes: Vec<fn(&mut Envelope)> = vec![
            |e| e.steps[0].argv = vec!["ab".into()],
            |e| e.steps[0].argv.push("".into()),
            |e| e.steps[0].env.push(("X".into(), "".into())),
            |e| e.steps[0].cwd = "/tmp".into(),
            |e| e.steps[0].code = Some(Code { language: "sh".into(), source: "".into() }),
            |e| e.steps[0].code = Some(Code { language: "sh".into(), source: "a".into() }),
            |e| e.steps[0].code = Some(Code { language: "".into(), source: "sh".into() }),
            |e| e.steps.push(e.steps[0].clone()),
            |e| e.keep_going = true,
            |e| e.stdin = "x".into(),
            |e| e.files.push(File { path: "f".into(), mode: 0o644, content: "".into() }),
            |e| e.deadline_ms += 1,
            |e| e.output_limit += 1,
            |e| e.profile.push('x'),
            |e| e.profile_hash.0[0] ^= 1,
            |e| e.cage.memory += 1,
            |e| e.cage.milli_cpus += 1,
            |e| e.cage.scratch_exec = !e.cage.scratch_exec,
            |e| drop(e.cage.secrets.insert("T".into(), SecretSource::Environment("A".into()))),
            |e| drop(e.cage.secrets.insert("T".into(), SecretSource::File("A".into()))),
            |e| e.cage.volumes.push(Volume { source: "/a".into(), target: "/b".into() }),
            |e| e.cage.interpreters = python(false),
            |e| e.cage.interpreters = python(true),
            |e| e.image_id.push('0'),
            |e| e.config_hash.0[31] ^= 1,
        ];
        let mut seen = vec![base.digest()];
        for change in changes {
            let mut changed = base.clone();
            change(&mut changed);
            assert!(!seen.contains(&changed.digest()), "{changed:?}");
            seen.push(changed.digest());
        }
    }

    #[test]
    fn an_envelope_survives_the_journal() {
        let mut envelope = fixtures::envelope(&["ls"]);
        envelope.stdin = Blob(vec![0xff, 0, 0x80]);
        let json = serde_json::to_string(&envelope).unwrap();
        let back: Envelope = serde_json::from_str(&json).unwrap();
        assert_eq!(back.digest(), envelope.digest());
    }
}
