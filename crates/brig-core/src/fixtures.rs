//! Values for tests of this crate.

use std::collections::BTreeMap;

use crate::envelope::{Envelope, Step};
use crate::profile::{
    Approval, ApprovalMode, Cage, Hash, ImageSource, Network, PoolPolicy, Profile, ResolvedImage, SandboxSpec, Ulimit,
};

/// A cage as small as any.
pub fn cage() -> Cage {
    Cage {
        image: "busybox:1.37".into(),
        build: None,
        userland_fallback: false,
        user: "65534:65534".into(),
        working_dir: "/sandbox".into(),
        environment: BTreeMap::from([("HOME".into(), "/sandbox".into())]),
        secrets: BTreeMap::new(),
        volumes: Vec::new(),
        interpreters: BTreeMap::new(),
        memory: 64 << 20,
        milli_cpus: 1000,
        cpu_shares: 512,
        pids: 64,
        ulimits: BTreeMap::from([("nofile".into(), Ulimit { soft: 1024, hard: 1024 })]),
        network: Network::None,
        runtime: None,
        scratch_size: 16 << 20,
        scratch_exec: true,
    }
}

/// A profile with two warm sandboxes.
pub fn profile() -> Profile {
    Profile {
        name: "shell".into(),
        description: "for tests".into(),
        cage: cage(),
        timeout_ms: 10_000,
        output_limit: 1 << 20,
        pool: PoolPolicy { min: 2, target: 2, max: 4, max_age_ms: 600_000 },
        approval: Approval { mode: ApprovalMode::Ask, expires_ms: 60_000 },
    }
}

/// An image that is there.
pub fn image() -> ResolvedImage {
    ResolvedImage { id: "sha256:1234".into(), source: ImageSource::Local }
}

/// What a profile resolves to.
pub fn spec(profile: &Profile) -> SandboxSpec {
    SandboxSpec {
        profile: profile.name.clone(),
        cage: profile.cage.clone(),
        image: image(),
        engine_fingerprint: "test".into(),
    }
}

/// An envelope with one step.
pub fn envelope(argv: &[&str]) -> Envelope {
    let profile = profile();
    Envelope {
        steps: vec![Step {
            argv: argv.iter().map(|&argument| argument.into()).collect(),
            code: None,
            env: vec![],
            cwd: "/sandbox".into(),
        }],
        keep_going: false,
        stdin: "".into(),
        files: vec![],
        deadline_ms: 10_000,
        output_limit: 1 << 20,
        profile: "shell".into(),
        profile_hash: Hash([7; 32]),
        cage: profile.cage.clone(),
        image_id: "sha256:1234".into(),
        config_hash: spec(&profile).config_hash(),
    }
}
