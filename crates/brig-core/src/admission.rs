//! Admission: is this a proposal at all, is it within its limits, and does it loosen nothing?
//!
//! What passes is an [`Envelope`], which is what is shown, digested, approved and run. Nothing here has state.

use crate::blob::Blob;
use crate::envelope::{self, Envelope, Step};
use crate::problem::{Code, Problem};
use crate::profile::{Profile, SandboxSpec};
use crate::proposal::{Draft, DraftStep};

/// Steps in one proposal.
pub const MAX_STEPS: usize = 64;
/// Arguments in one step.
pub const MAX_ARGUMENTS: usize = 4096;
/// Bytes of one argument or variable: Linux's own `MAX_ARG_STRLEN`, less the NUL.
pub const MAX_ARGUMENT_BYTES: usize = 131_071;
/// Bytes of the arguments and variables of all steps together, well under what `execve` takes with an 8 MiB stack.
pub const MAX_STEPS_BYTES: usize = 1 << 20;
/// Files in one proposal.
pub const MAX_FILES: usize = 256;
/// Bytes of all code, the standard input and all files together.
pub const MAX_PAYLOAD_BYTES: usize = 8 << 20;
/// Bytes of the reason.
pub const MAX_REASON_BYTES: usize = 4096;
/// Bytes of an idempotency key.
pub const MAX_KEY_BYTES: usize = 128;
/// Bytes of a path (Linux's `PATH_MAX`, less the NUL).
pub const MAX_PATH_BYTES: usize = 4095;

/// Checks form and size, which need no profile.
///
/// # Errors
/// `invalid_field` or `too_large`, naming the field.
pub fn check(draft: &Draft) -> Result<(), Problem> {
    if draft.steps.is_empty() {
        return Err(invalid("steps", "is empty").help("give at least one step, as in {\"argv\": [\"ls\"]}"));
    }
    within("steps", draft.steps.len(), MAX_STEPS, "steps")?;
    for (at, step) in draft.steps.iter().enumerate() {
        check_step(&format!("steps[{at}]"), step)?;
    }
    let strings = draft.steps.iter().map(step_bytes).sum();
    within("steps", strings, MAX_STEPS_BYTES, "bytes of arguments and variables")?;
    within("files", draft.files.len(), MAX_FILES, "files")?;
    for (at, file) in draft.files.iter().enumerate() {
        let field = format!("files[{at}]");
        check_file_path(&format!("{field}.path"), &file.path.0)?;
        if file.mode > 0o777 {
            return Err(invalid(&format!("{field}.mode"), "has more than permission bits").help("at most 0o777 (511)"));
        }
    }
    within("code, stdin and files", payload_bytes(draft), MAX_PAYLOAD_BYTES, "bytes")?;
    within("reason", draft.reason.len(), MAX_REASON_BYTES, "bytes")?;
    if let Some(key) = &draft.key {
        within("key", key.len(), MAX_KEY_BYTES, "bytes")?;
        if key.is_empty() {
            return Err(invalid("key", "is empty").help("leave it out, or give it a value of its own for each request"));
        }
    }
    for (field, value) in [("timeout_ms", draft.timeout_ms), ("output_limit", draft.output_limit)] {
        if value == Some(0) {
            return Err(invalid(field, "is 0").help("leave it out to get the profile's"));
        }
    }
    Ok(())
}

/// Bytes of memory that a draft takes, and its envelope after it, as far as its sender decides about that.
#[must_use]
pub fn weight(draft: &Draft) -> usize {
    let paths = draft.files.iter().map(|file| file.path.0.len()).sum::<usize>();
    draft.steps.iter().map(step_bytes).sum::<usize>() + payload_bytes(draft) + paths
}

fn payload_bytes(draft: &Draft) -> usize {
    let code = draft.steps.iter().filter_map(|step| step.code.as_ref()).map(|code| code.0.len());
    draft.stdin.0.len() + code.sum::<usize>() + draft.files.iter().map(|file| file.content.0.len()).sum::<usize>()
}

/// Makes the envelope of a checked draft under a profile whose image has been resolved.
///
/// # Errors
/// `loosens` when the draft asks for more than the profile gives, `invalid_field` when it has code in a language that
/// the profile has no interpreter for.
pub fn admit(draft: &Draft, profile: &Profile, spec: &SandboxSpec) -> Result<Envelope, Problem> {
    let deadline_ms = tighten("timeout_ms", draft.timeout_ms, profile.timeout_ms, "ms", profile)?;
    let output_limit = tighten("output_limit", draft.output_limit, profile.output_limit, "bytes", profile)?;
    let step = |(at, step): (usize, &DraftStep)| {
        Ok(Step {
            argv: step.argv.clone(),
            code: code(&format!("steps[{at}].language"), step, profile)?,
            env: step.env.iter().map(|(name, value)| (Blob::from(name.as_str()), value.clone())).collect(),
            cwd: step.cwd.clone().unwrap_or_else(|| Blob::from(profile.cage.working_dir.as_str())),
        })
    };
    Ok(Envelope {
        steps: draft.steps.iter().enumerate().map(step).collect::<Result<_, Problem>>()?,
        keep_going: draft.keep_going,
        stdin: draft.stdin.clone(),
        files: draft.files.clone(),
        deadline_ms,
        output_limit,
        profile: profile.name.clone(),
        profile_hash: profile.content_hash(),
        cage: profile.cage.clone(),
        image_id: spec.image.id.clone(),
        config_hash: spec.config_hash(),
    })
}

/// A step's code with its language, which must be one of the profile's.
fn code(field: &str, step: &DraftStep, profile: &Profile) -> Result<Option<envelope::Code>, Problem> {
    let Some(source) = &step.code else { return Ok(None) };
    let languages: Vec<&str> = profile.cage.interpreters.keys().map(String::as_str).collect();
    let name = &profile.name;
    let language = match (&step.language, languages.as_slice()) {
        (_, []) => {
            let message = format!("{field}: profile `{name}` runs no code, as it declares no interpreter");
            return Err(Problem::new(Code::InvalidField, message)
                .help("name a profile that has one, or propose a command instead of code"));
        }
        (None, [only]) => (*only).to_owned(),
        (Some(asked), has) if has.contains(&asked.as_str()) => asked.clone(),
        (asked, has) => {
            let what = match asked {
                Some(asked) => format!("profile `{name}` has no interpreter for {asked:?}"),
                None => format!("profile `{name}` has more than one interpreter"),
            };
            return Err(Problem::new(Code::InvalidField, format!("{field}: {what}"))
                .help(format!("it runs: {}", has.join(", "))));
        }
    };
    Ok(Some(envelope::Code { language, source: source.clone() }))
}

/// As `execve` counts them: each string with its NUL and its pointer.
fn step_bytes(step: &DraftStep) -> usize {
    let arguments = step.argv.iter().map(|argument| argument.0.len() + 9);
    let variables = step.env.iter().map(|(name, value)| name.len() + value.0.len() + 10);
    arguments.chain(variables).sum()
}

fn check_step(field: &str, step: &DraftStep) -> Result<(), Problem> {
    let argv = format!("{field}.argv");
    if step.code.is_none() && step.language.is_some() {
        return Err(invalid(&format!("{field}.language"), "is there without `code`")
            .help("give `code` with it, or leave it out"));
    }
    match step.argv.first() {
        _ if step.code.is_some() => {}
        None => {
            return Err(invalid(&argv, "is empty").help("the program comes first, as in [\"ls\", \"-la\"]"));
        }
        Some(program) if program.0.is_empty() => {
            return Err(invalid(&argv, "names no program: its first item is empty")
                .help("the program comes first, as in [\"ls\", \"-la\"]"));
        }
        Some(_) => {}
    }
    within(&argv, step.argv.len(), MAX_ARGUMENTS, "arguments")?;
    for (at, argument) in step.argv.iter().enumerate() {
        let field = format!("{argv}[{at}]");
        no_nul(&field, &argument.0)?;
        within(&field, argument.0.len(), MAX_ARGUMENT_BYTES, "bytes")?;
    }
    for (name, value) in &step.env {
        let field = format!("{field}.env");
        if name.is_empty() || name.contains('=') {
            return Err(invalid(&field, "has a name that is empty or has a `=` in it"));
        }
        no_nul(&field, name.as_bytes())?;
        no_nul(&field, &value.0)?;
        within(&field, name.len() + value.0.len() + 1, MAX_ARGUMENT_BYTES, "bytes")?;
    }
    match &step.cwd {
        Some(cwd) => check_cwd(&format!("{field}.cwd"), &cwd.0),
        None => Ok(()),
    }
}

fn check_cwd(field: &str, path: &[u8]) -> Result<(), Problem> {
    no_nul(field, path)?;
    within(field, path.len(), MAX_PATH_BYTES, "bytes")?;
    if path.first() != Some(&b'/') {
        return Err(invalid(field, "is not an absolute path").help("begin it with a slash, as in /tmp"));
    }
    Ok(())
}

fn check_file_path(field: &str, path: &[u8]) -> Result<(), Problem> {
    no_nul(field, path)?;
    within(field, path.len(), MAX_PATH_BYTES, "bytes")?;
    let odd = path.split(|&byte| byte == b'/').any(|part| part.is_empty() || part == b"." || part == b"..");
    if odd {
        return Err(invalid(field, "is not a plain relative path")
            .help("as in `src/main.py`: relative to the working directory, without `.`, `..` or empty parts"));
    }
    Ok(())
}

fn no_nul(field: &str, bytes: &[u8]) -> Result<(), Problem> {
    match bytes.iter().position(|&byte| byte == 0) {
        None => Ok(()),
        Some(at) => Err(invalid(field, &format!("has a NUL byte at position {at}"))
            .help("no program can be given one; send such data as standard input or in a file")),
    }
}

fn within(field: &str, have: usize, limit: usize, unit: &str) -> Result<(), Problem> {
    if have <= limit {
        return Ok(());
    }
    Err(Problem::new(Code::TooLarge, format!("{field}: {have} {unit}, which is over the limit of {limit}")))
}

fn tighten(field: &str, asked: Option<u64>, given: u64, unit: &str, profile: &Profile) -> Result<u64, Problem> {
    match asked {
        Some(asked) if asked > given => Err(Problem::new(
            Code::Loosens,
            format!("{field}: {asked} {unit} is more than the {given} {unit} that profile `{}` gives", profile.name),
        )
        .help("a proposal can only tighten its profile; ask for less, or for another profile")),
        asked => Ok(asked.unwrap_or(given)),
    }
}

fn invalid(field: &str, what: &str) -> Problem {
    Problem::new(Code::InvalidField, format!("{field} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::File;
    use crate::fixtures;
    use crate::profile::Interpreter;

    fn draft(argv: &[&str]) -> Draft {
        let step = DraftStep { argv: argv.iter().map(|&word| word.into()).collect(), ..DraftStep::default() };
        Draft { steps: vec![step], ..Draft::default() }
    }

    #[test]
    fn what_is_admitted_is_what_was_asked_under_the_profile() {
        let profile = fixtures::profile();
        let spec = fixtures::spec(&profile);
        let mut draft = draft(&["ls", "-la"]);
        draft.timeout_ms = Some(500);
        draft.steps[0].env.insert("A".into(), "b".into());
        check(&draft).unwrap();
        let envelope = admit(&draft, &profile, &spec).unwrap();
        assert_eq!(envelope.deadline_ms, 500);
        assert_eq!(envelope.output_limit, profile.output_limit);
        assert_eq!(envelope.steps[0].cwd, "/sandbox".into());
        assert_eq!(envelope.steps[0].env, [("A".into(), "b".into())]);
        assert_eq!(envelope.config_hash, spec.config_hash());
    }

    #[test]
    fn a_proposal_can_only_tighten() {
        let profile = fixtures::profile();
        let mut draft = draft(&["ls"]);
        draft.timeout_ms = Some(profile.timeout_ms + 1);
        let problem = admit(&draft, &profile, &fixtures::spec(&profile)).unwrap_err();
        assert_eq!(problem.code, Code::Loosens);
        assert_eq!(problem.message, "timeout_ms: 10001 ms is more than the 10000 ms that profile `shell` gives");
    }

    #[test]
    fn code_is_admitted_where_the_profile_has_its_language() {
        let mut profile = fixtures::profile();
        let mut draft = draft(&[]);
        draft.steps[0].code = Some("print(1)".into());
        check(&draft).unwrap();
        let admitted = |draft: &Draft, profile: &Profile| admit(draft, profile, &fixtures::spec(profile));
        let refused = |draft: &Draft, profile: &Profile| admitted(draft, profile).unwrap_err().message;
        assert_eq!(
            refused(&draft, &profile),
            "steps[0].language: profile `shell` runs no code, as it declares no interpreter"
        );

        let interpreter = Interpreter { command: vec!["python3".into()], prewarm: true };
        profile.cage.interpreters.insert("python".into(), interpreter.clone());
        let code = admitted(&draft, &profile).unwrap().steps[0].code.clone().unwrap();
        assert_eq!((code.language.as_str(), code.source), ("python", "print(1)".into()));

        profile.cage.interpreters.insert("node".into(), interpreter);
        assert_eq!(refused(&draft, &profile), "steps[0].language: profile `shell` has more than one interpreter");
        draft.steps[0].language = Some("ruby".into());
        let problem = admitted(&draft, &profile).unwrap_err();
        assert_eq!(problem.message, "steps[0].language: profile `shell` has no interpreter for \"ruby\"");
        assert_eq!(problem.help, "it runs: node, python");
    }

    #[test]
    fn each_fault_is_named_with_its_field() {
        let with = |change: fn(&mut Draft)| {
            let mut draft = draft(&["ls"]);
            change(&mut draft);
            check(&draft).unwrap_err()
        };
        let file = |path: &str| File { path: path.into(), mode: 0o644, content: "".into() };
        let cases: Vec<(Problem, Code, &str)> = vec![
            (with(|d| d.steps.clear()), Code::InvalidField, "steps is empty"),
            (with(|d| d.steps[0].argv.clear()), Code::InvalidField, "steps[0].argv is empty"),
            (with(|d| d.steps[0].argv[0] = "".into()), Code::InvalidField, "steps[0].argv names no program"),
            (
                with(|d| d.steps[0].argv.push("a\0b".into())),
                Code::InvalidField,
                "steps[0].argv[1] has a NUL byte at position 1",
            ),
            (with(|d| d.steps[0].cwd = Some("tmp".into())), Code::InvalidField, "steps[0].cwd is not an absolute path"),
            (
                with(|d| drop(d.steps[0].env.insert("A=B".into(), "".into()))),
                Code::InvalidField,
                "steps[0].env has a name",
            ),
            (
                with(|d| d.steps[0].argv.push(" ".repeat(200_000).into())),
                Code::TooLarge,
                "steps[0].argv[1]: 200000 bytes",
            ),
            (with(|d| d.steps = vec![d.steps[0].clone(); 65]), Code::TooLarge, "steps: 65 steps"),
            (with(|d| d.stdin = Blob(vec![0; MAX_PAYLOAD_BYTES + 1])), Code::TooLarge, "code, stdin and files"),
            (with(|d| d.steps[0].language = Some("python".into())), Code::InvalidField, "steps[0].language is there"),
            (with(|d| d.reason = "x".repeat(5000)), Code::TooLarge, "reason: 5000 bytes"),
            (with(|d| d.timeout_ms = Some(0)), Code::InvalidField, "timeout_ms is 0"),
            (with(|d| d.key = Some(String::new())), Code::InvalidField, "key is empty"),
        ];
        for (problem, code, message) in cases {
            assert_eq!(problem.code, code, "{problem}");
            assert!(problem.message.starts_with(message), "{problem}");
        }
        for path in ["/etc/passwd", "../x", "a/../b", "a//b", "./a", ""] {
            let mut draft = draft(&["ls"]);
            draft.files = vec![file(path)];
            assert_eq!(check(&draft).unwrap_err().code, Code::InvalidField, "{path}");
        }
    }
}
