//! What is written to a sandbox: an approved envelope as init's request, with what only init may know.

use brig_core::envelope::{Envelope, Step};
use brig_core::profile::Cage;
use brig_init::wire::{self, Nonce, Secret};

use crate::supervisor::secrets::Secrets;

/// The request frame of an envelope: byte for byte what was approved, with the values of the secrets it names.
pub(super) fn request(envelope: &Envelope, keys: &Keys, secrets: &Secrets) -> Result<Vec<u8>, String> {
    let cage = &envelope.cage;
    let has_interpreter =
        |step: &Step| step.code.as_ref().is_none_or(|it| cage.interpreters.contains_key(&it.language));
    if let Some(at) = envelope.steps.iter().position(|step| !has_interpreter(step)) {
        // The profile has changed since the proposal was admitted.
        return Err(format!("the profile has no interpreter for the code of step {} any more", at + 1));
    }
    let steps: Vec<Framed<'_>> =
        envelope.steps.iter().enumerate().map(|(at, step)| Framed::new(at, step, cage)).collect();
    // Init takes a relative path as the first step's; an envelope's is the working directory's.
    let paths: Vec<Vec<u8>> =
        envelope.files.iter().map(|file| [cage.working_dir.as_bytes(), b"/", &file.path.0].concat()).collect();
    let request = wire::Request {
        nonce: keys.nonce,
        deadline_ms: envelope.deadline_ms,
        keep_going: envelope.keep_going,
        // The engine has set the profile's on every process of the sandbox already.
        rlimits: Vec::new(),
        steps: steps.iter().map(|framed| framed.step(cage, secrets)).collect(),
        marks: keys.marks.clone(),
        files: envelope
            .files
            .iter()
            .zip(&paths)
            .map(|(file, path)| wire::File { path, mode: file.mode, content: &file.content.0 })
            .collect(),
        stdin: &envelope.stdin.0,
    };
    request.encode().map_err(|error| format!("the request cannot be framed: {error}"))
}

/// A step, and where its code will lie.
struct Framed<'a> {
    step: &'a Step,
    path: Option<String>,
}

impl<'a> Framed<'a> {
    fn new(at: usize, step: &'a Step, cage: &Cage) -> Self {
        Self { step, path: step.code.as_ref().map(|code| cage.code_path(at, &code.language)) }
    }

    /// The step with its whole environment: the profile's with its secrets, and its own, which takes the place of the
    /// profile's. Code is given to its interpreter as the file that it will be.
    fn step(&'a self, cage: &'a Cage, secrets: &'a Secrets) -> wire::Step<'a> {
        let step = self.step;
        let own = step.env.iter().map(|(name, value)| (name.0.as_slice(), value.0.as_slice()));
        let inherited = cage.environment.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let secret = secrets.variables().map(|(name, value)| (name.as_bytes(), value));
        let inherited = inherited.chain(secret).filter(|(name, _)| !step.env.iter().any(|(other, _)| other.0 == *name));
        let code = step.code.as_ref().zip(self.path.as_ref()).map(|(code, path)| wire::Code {
            language: code.language.as_bytes(),
            path: path.as_bytes(),
            source: &code.source.0,
        });
        let interpreter = code.and_then(|_| cage.interpreters.get(&step.code.as_ref()?.language));
        let command = interpreter.into_iter().flat_map(|it| it.command.iter().map(String::as_bytes));
        let arguments = step.argv.iter().map(|argument| argument.0.as_slice());
        wire::Step {
            argv: command.chain(code.map(|code| code.path)).chain(arguments).collect(),
            env: inherited.chain(own).collect(),
            cwd: &step.cwd.0,
            code,
        }
    }
}

/// What nobody but init may know of a request.
pub(super) struct Keys {
    pub nonce: Nonce,
    /// For each step but the first.
    pub marks: Vec<[Secret; 2]>,
}

impl Keys {
    pub fn new(steps: usize) -> Result<Self, getrandom::Error> {
        let mut nonce = [0; wire::NONCE_LEN];
        getrandom::fill(&mut nonce)?;
        // A byte that is in no UTF-8 text. Output that ends like a nonce begins is held back until more comes, and so
        // text never is; the rest of the first half is still beyond chance, and the second half is the secret.
        nonce[0] |= 0xf8;
        let mut marks = vec![[[0; wire::SECRET_LEN]; 2]; steps.saturating_sub(1)];
        for secret in marks.iter_mut().flatten() {
            getrandom::fill(secret)?;
        }
        Ok(Self { nonce, marks })
    }
}
