use std::ffi::OsString;

use brig_core::profile::{Network, SecretSource, Ulimit, Volume};

use super::*;

/// A file in a directory that is there on every machine, of a user whose brig keeps its own files elsewhere.
fn base() -> Base<'static> {
    Base { directory: Some(Path::new("/usr/share")), home: Some(Path::new("/usr/home")), kept_out: &[] }
}

fn profile(text: &str) -> Profile {
    parse("p", "p.toml", &format!("image = \"a\"\n{text}"), &base()).unwrap()
}

/// The message and the help of a profile whose second line is `text`.
fn refused(text: &str) -> (String, String) {
    let problem = parse("p", "p.toml", &format!("image = \"a\"\n{text}"), &base()).unwrap_err();
    assert_eq!(problem.code, Code::Config);
    (problem.message, problem.help)
}

#[test]
fn the_shipped_profiles_are_what_their_files_say() {
    for (name, text) in SHIPPED {
        assert!(parse(name, name, text, &base()).is_ok(), "{:?}", parse(name, name, text, &base()));
    }
    let shell = parse("shell", "shell", SHIPPED[0].1, &base()).unwrap();
    assert_eq!(shell.name, "shell");
    assert_eq!((shell.timeout_ms, shell.output_limit), (60_000, 8 << 20));
    assert_eq!(shell.pool, PoolPolicy { min: 2, target: 2, max: 8, max_age_ms: 1_800_000 });
    assert_eq!(shell.approval, Approval { mode: ApprovalMode::Ask, expires_ms: 900_000 });
    let cage = &shell.cage;
    assert_eq!((cage.image.as_str(), cage.userland_fallback), ("busybox:1.37", true));
    assert_eq!((cage.user.as_str(), cage.working_dir.as_str()), ("65534:65534", "/sandbox"));
    assert_eq!((cage.memory, cage.milli_cpus, cage.cpu_shares, cage.pids), (128 << 20, 1000, 512, 64));
    assert_eq!((cage.scratch_size, cage.scratch_exec, cage.network), (64 << 20, true, Network::None));
    assert_eq!(cage.ulimits["nofile"], Ulimit { soft: 1024, hard: 1024 });
}

#[test]
fn what_a_file_leaves_out_is_hardened_all_the_same() {
    let plain = profile("");
    let cage = &plain.cage;
    assert_eq!((cage.user.as_str(), cage.userland_fallback), ("65534:65534", false));
    assert_eq!((cage.memory, cage.milli_cpus, cage.pids), (128 << 20, 1000, 64));
    assert_eq!(cage.ulimits["core"], Ulimit { soft: 0, hard: 0 });
    assert_eq!((plain.timeout_ms, plain.output_limit), (60_000, 8 << 20));
    assert_eq!(plain.approval.mode, ApprovalMode::Ask);
    assert_eq!(plain.pool, PoolPolicy { min: 0, target: 0, max: 8, max_age_ms: 1_800_000 });
}

#[test]
fn the_forms_of_compose_are_read() {
    let read = profile(
        "mem_limit = 134217728\ncpus = \"0.5\"\ntimeout = \"1h30m\"\nenvironment = [\"A=1\", \"B=x=y\", \"C=\"]\n\
         runtime = \"runsc\"\nuser = \"1000:1001\"\nworking_dir = \"/usr/src/app\"\n\
         [ulimits]\nnofile = { soft = 100, hard = 200 }\nfsize = 10\n[pool]\ntarget = 3",
    );
    assert_eq!((read.cage.memory, read.cage.milli_cpus, read.timeout_ms), (128 << 20, 500, 5_400_000));
    let variables: Vec<_> = read.cage.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(variables, ["A=1", "B=x=y", "C="]);
    assert_eq!(read.cage.ulimits["nofile"], Ulimit { soft: 100, hard: 200 });
    assert_eq!(read.cage.ulimits["fsize"], Ulimit { soft: 10, hard: 10 });
    assert_eq!((read.pool.target, read.pool.max), (3, 12));
    assert_eq!((read.cage.runtime.as_deref(), read.cage.pids), (Some("runsc"), 512));
    assert_eq!((read.cage.user.as_str(), read.cage.working_dir.as_str()), ("1000:1001", "/usr/src/app"));
    let table = profile("cpus = 2\nenvironment = { A = 1, B = 0.50, C = \"x\" }");
    let values: Vec<_> = table.cage.environment.values().cloned().collect();
    assert_eq!((values, table.cage.milli_cpus), (vec!["1".into(), "0.50".into(), "x".into()], 2000));
    assert_eq!(profile("pool.target = 100").pool.max, 256);
    assert_eq!(profile("mem_limit = \"32m\"").cage.scratch_size, 16 << 20);
}

#[test]
fn numbers_sizes_and_durations_name_their_ranges() {
    for (text, message, help) in [
        ("mem_limit = \"12x\"", "2:13: `mem_limit`: \"12x\" is no size", crate::config::units::SIZE_FORM),
        ("mem_limit = \"5m\"", "2:13: `mem_limit`: 5m is out of range", "write a size from 6m to 16384g"),
        ("mem_limit = true", "2:13: `mem_limit`: this is true or false", "write a size, as in \"128m\""),
        ("pids_limit = 1", "2:14: `pids_limit`: 1 is out of range", "write a whole number from 2 to 4194304"),
        ("pids_limit = -1", "2:14: `pids_limit`: -1 is out of range", "write a whole number from 2 to 4194304"),
        ("cpu_shares = 1", "2:14: `cpu_shares`: 1 is out of range", "write a whole number from 2 to 262144"),
        (
            "cpus = 0.001",
            "2:8: `cpus`: 0.001 is out of range",
            "write CPUs from 0.01 to 1024, as in 0.5, or 0 for no quota",
        ),
        (
            "cpus = \"two\"",
            "2:8: `cpus`: this is no number of CPUs",
            "write CPUs from 0.01 to 1024, as in 0.5, or 0 for no quota",
        ),
        ("timeout = \"25h\"", "2:11: `timeout`: 25h is out of range", "write a duration from 1ms to 1d"),
        ("timeout = \"soon\"", "2:11: `timeout`: \"soon\" is no duration", crate::config::units::DURATION_FORM),
        ("output.limit = \"2g\"", "2:16: `output.limit`: 2g is out of range", "write a size from 1b to 1g"),
        ("approval.expires = \"0s\"", "2:20: `approval.expires`: 0s is out of range", "write a duration from 1s to 7d"),
        (
            "approval.mode = \"atuo\"",
            "2:17: `approval.mode`: \"atuo\" is none of its values, did you mean `auto`?",
            "allowed: \"ask\", \"auto\"",
        ),
        ("image_fallback = true", "2:18: `image_fallback`: this is true or false", "write \"none\" or \"userland\""),
    ] {
        assert_eq!(refused(text), (format!("p.toml:{message}"), help.to_owned()));
    }
    let (message, help) = refused("timeout = 10");
    assert_eq!(message, "p.toml:2:11: `timeout`: 10 has no unit");
    assert!(help.starts_with("write \"10s\" if seconds are meant; a duration is"), "{help}");
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    for (text, message, help) in [
        (
            "pool = { target = 5, max = 4 }",
            "2:28: `pool.max`: 4 is less than `pool.target`, which is 5",
            "write a whole number from 5 to 256, or a smaller target",
        ),
        (
            "scratch.size = \"129m\"",
            "2:16: `scratch.size`: 129m is over `mem_limit`, and what is in the scratch counts as memory",
            "write at most 128m, or a larger mem_limit",
        ),
        (
            "runtime = \"runsc\"\npids_limit = 64",
            "3:14: `pids_limit`: 64 is too few for the runtime, whose own threads count too",
            "write at least 256",
        ),
        (
            "ulimits.nofile = { soft = 2, hard = 1 }",
            "2:18: `ulimits.nofile`: soft 2 is over hard 1",
            "write a soft limit that is at most the hard one",
        ),
        (
            "ulimits.nofile = { soft = 2 }",
            "2:18: `ulimits.nofile`: `hard` is missing",
            "write { soft = 1024, hard = 1024 }",
        ),
    ] {
        assert_eq!(refused(text), (format!("p.toml:{message}"), help.to_owned()));
    }
}

#[test]
fn nobody_becomes_root() {
    let form = "write \"UID:GID\" in numbers, neither of them 0, as in \"65534:65534\"";
    for (user, what) in [
        ("0:1", "user 0 is root, and what runs in a sandbox never is"),
        ("1:0", "group 0 is root, and what runs in a sandbox never is"),
        ("1000", "\"1000\" has no group, which would be 0"),
        ("root", "\"root\" is no user in numbers, and names mean something else in each image"),
        ("1:users", "\"users\" is no group in numbers"),
        ("4294967295:1", "\"4294967295\" is no user in numbers"),
        ("00:1", "user 0 is root, and what runs in a sandbox never is"),
        ("+1:1", "\"+1\" is no user in numbers"),
    ] {
        let (message, help) = refused(&format!("user = \"{user}\""));
        assert_eq!((message, help.as_str()), (format!("p.toml:2:8: `user`: {what}"), form));
    }
    assert_eq!(refused("user = 1000").0, "p.toml:2:8: `user`: this is a whole number");
}

#[test]
fn the_scratch_covers_nothing_that_programs_need() {
    for dir in ["/", "/proc", "/proc/self", "/sys", "/dev/shm", "/tmp", "/tmp/x", "/etc", "/usr", "/lib64", "/.brig"] {
        let (message, _) = refused(&format!("working_dir = \"{dir}\""));
        assert_eq!(message, format!("p.toml:2:15: `working_dir`: the scratch would cover \"{dir}\""));
    }
    for dir in ["sandbox", "/a/../proc", "/a/", "//a", "/./a", ""] {
        let (message, help) = refused(&format!("working_dir = \"{dir}\""));
        assert!(message.ends_with("is no absolute path without \"..\" and needless slashes"), "{dir}: {message}");
        assert!(help.ends_with("as in \"/sandbox\""), "{help}");
    }
    assert_eq!(profile("working_dir = \"/system\"").cage.working_dir, "/system");
}

#[test]
fn no_key_loosens_a_sandbox_and_each_says_why() {
    for key in ["privileged", "cap_add", "security_opt", "devices", "pid", "ipc", "userns_mode", "sysctls"] {
        let (message, help) = refused(&format!("{key} = true"));
        assert_eq!(message, format!("p.toml:2:1: `{key}` is not taken"));
        assert!(help.starts_with("brig never does that"), "{help}");
    }
    assert!(refused("read_only = false").1.starts_with("this is always so and needs no key"));
    assert!(refused("command = \"sh\"").1.starts_with("what runs is what an agent proposes"));
    assert!(refused("healthcheck = []").1.contains("planned and not there yet"));
    let (message, help) = refused("network_mode = \"bridge\"");
    assert_eq!(message, "p.toml:2:16: `network_mode`: \"bridge\" is not there: sandboxes reach no network today");
    assert_eq!(help, "allowed: \"none\"; others are planned");
    assert!(refused("ulimits.nproc = 5").1.contains("use pids_limit"));
}

#[test]
fn slips_are_named_with_what_was_meant() {
    let (message, help) = refused("mem_limt = \"1g\"");
    assert_eq!(message, "p.toml:2:1: `mem_limt` is no key, did you mean `mem_limit`?");
    assert!(help.starts_with("known here: description, image, build, image_fallback, user"), "{help}");
    assert_eq!(refused("[pool]\ntraget = 1").0, "p.toml:3:1: `pool.traget` is no key, did you mean `target`?");
    assert_eq!(refused("ulimits.no_file = 1").0, "p.toml:2:9: `ulimits.no_file` is no key, did you mean `nofile`?");
    let problem = parse("p", "p.toml", "user = \"1:1\"", &base()).unwrap_err();
    assert_eq!(problem.message, "p.toml:1:1: `image` is missing");
    assert_eq!(problem.help, "write an image's reference, as in image = \"busybox:1.37\"; or `build`, to build one");
}

#[test]
fn variables_are_names_with_values() {
    for (text, what) in [
        (
            "environment = [\"HOME\"]",
            "2:16: `environment[0]`: \"HOME\" has no value, and brig hands on no variables of its own",
        ),
        ("environment = { \"A B\" = \"1\" }", "2:25: `environment.A B`: \"A B\" is no name of a variable"),
        ("environment = [\"A=1\", \"A=2\"]", "2:23: `environment[1]`: \"A\" is there twice"),
        ("environment = { A = true }", "2:21: `environment.A`: this is true or false"),
        ("environment = 5", "2:15: `environment`: this is a whole number"),
    ] {
        assert_eq!(refused(text).0, format!("p.toml:{what}"));
    }
}

#[test]
fn what_a_message_quotes_is_made_visible() {
    let (message, _) = refused("image_fallback = \"\\u202euserland\\u001b[2K\"");
    assert!(message.contains("⟨U+202E⟩userland⟨U+001B⟩[2K"), "{message}");
}

#[test]
fn the_users_own_files_replace_and_add() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().to_str().unwrap();
    let lookup = |name: &str| name.starts_with("BRIG_").then(|| OsString::from(root));
    let places = Places::new(lookup, 1, temp.path()).unwrap();
    let names = |settings: &Settings| {
        load(&places, settings).map(|all| all.into_iter().map(|profile| profile.name).collect::<Vec<_>>())
    };
    assert_eq!(names(&Settings::default()).unwrap(), ["node", "python", "shell"]);

    fs::create_dir(places.profiles_dir()).unwrap();
    fs::write(places.profiles_dir().join("shell.toml"), "image = \"mine\"").unwrap();
    fs::write(places.profiles_dir().join("python.toml"), "image = \"python\"").unwrap();
    fs::write(places.profiles_dir().join(".python.toml"), "rubbish").unwrap();
    fs::write(places.profiles_dir().join("notes.txt"), "rubbish").unwrap();
    assert_eq!(names(&Settings::default()).unwrap(), ["node", "python", "shell"]);
    let images: Vec<_> =
        load(&places, &Settings::default()).unwrap().into_iter().map(|profile| profile.cage.image).collect();
    assert_eq!(images[1..], ["python", "mine"]);

    let settings = Settings::parse("brig.toml", "default_profile = \"pyhton\"").unwrap();
    let problem = names(&settings).unwrap_err();
    assert_eq!(
        problem.message,
        "brig.toml:1:19: `default_profile`: no profile is called \"pyhton\", did you mean `python`?"
    );
    assert!(problem.help.starts_with("there are: node, python, shell; add "), "{problem}");

    fs::write(places.profiles_dir().join("Big One.toml"), "image = \"a\"").unwrap();
    let problem = names(&Settings::default()).unwrap_err();
    assert!(problem.message.ends_with("Big One.toml: the file's name cannot be a profile's name"), "{problem}");
    assert!(problem.help.contains("a-z, 0-9, - and _"), "{problem}");
}

#[test]
fn volumes_are_read_only_paths_from_where_the_file_is() {
    let cage = profile("volumes = [\"./no-such/../data:/data:ro\", \"~/x:/sandbox/x:ro\", \"/srv/a b:/b:ro\"]").cage;
    let volume = |source: &str, target: &str| Volume { source: source.to_owned(), target: target.to_owned() };
    assert_eq!(
        cage.volumes,
        [volume("/usr/share/data", "/data"), volume("/usr/home/x", "/sandbox/x"), volume("/srv/a b", "/b")]
    );
}

#[test]
fn a_volume_that_can_be_written_points_to_the_scratch() {
    for volume in ["./data:/data", "./data:/data:rw", "./data:/data:z", "./data:/data:ro,z"] {
        let (message, help) = refused(&format!("volumes = [\"{volume}\"]"));
        assert!(message.starts_with("p.toml:2:"), "{message}");
        assert!(help.contains("./data:/data:ro") && help.contains("[scratch]"), "{help}");
    }
}

#[test]
fn a_volume_that_reaches_what_it_must_not_is_refused_with_the_reason() {
    let cases = [
        ("data:/data:ro", "named volume"),
        ("/:/host:ro", "all of the host"),
        ("/var/run/docker.sock:/docker.sock:ro", "sockets"),
        ("/var:/data:ro", "/var/run"),
        ("/run/user/1000:/data:ro", "/run"),
        ("/proc/self:/data:ro", "/proc"),
        ("./x:data:ro", "no absolute path"),
        ("./x:/data/../etc:ro", "no absolute path"),
        ("./x:/etc:ro", "cover"),
        ("./x:/.brig/x:ro", "cover"),
        ("./x:/tmp/x:ro", "cover"),
        ("./x:/sandbox:ro", "cover"),
        ("./x", "no volume"),
        ("./x:/y:ro:z", "no volume"),
    ];
    for (volume, reason) in cases {
        let (message, help) = refused(&format!("volumes = [\"{volume}\"]"));
        assert!(message.contains(reason), "{volume}: {message}");
        assert!(!help.is_empty());
    }
    let (message, _) = refused("volumes = [\"./a:/data:ro\", \"./b:/data:ro\"]");
    assert!(message.contains("mounted at /data already"), "{message}");
    let (message, _) = refused("volumes = [{ source = \"./a\", target = \"/data\" }]");
    assert!(message.contains("long form"), "{message}");
}

#[test]
fn what_is_brigs_own_is_mounted_nowhere_not_through_a_link_either() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    let state = place.join("state");
    fs::create_dir(&state).unwrap();
    std::os::unix::fs::symlink(&state, place.join("link")).unwrap();
    let kept_out = [state];
    let base = Base { directory: Some(&place), home: None, kept_out: &kept_out };
    for source in ["./state", "./state/outputs", ".", "./link"] {
        let text = format!("image = \"a\"\nvolumes = [\"{source}:/data:ro\"]");
        let problem = parse("p", "p.toml", &text, &base).unwrap_err();
        assert!(problem.message.contains("brig's own files"), "{source}: {problem}");
    }
}

#[test]
fn a_secret_is_written_down_as_where_it_comes_from() {
    let cage =
        profile("[environment]\nLANG = \"C\"\nA = { environment = \"HOST_A\" }\nB = { file = \"./b.token\" }").cage;
    assert_eq!(cage.environment.len(), 1);
    assert_eq!(cage.secrets["A"], SecretSource::Environment("HOST_A".into()));
    assert_eq!(cage.secrets["B"], SecretSource::File("/usr/share/b.token".into()));
    for (text, what) in [
        ("{ environment = \"A\", file = \"b\" }", "names two"),
        ("{}", "from nowhere"),
        ("{ environment = \"A-B\" }", "no name of a variable"),
        ("{ value = \"x\" }", "value"),
    ] {
        let (message, _) = refused(&format!("environment = {{ A = {text} }}"));
        assert!(message.contains(what), "{text}: {message}");
    }
}

/// Reads a profile that has `build` and is beside these files.
fn built(files: &[(&str, &str)], text: &str) -> (tempfile::TempDir, Result<Profile, Problem>) {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let base = Base { directory: Some(directory.path()), ..Base::NOWHERE };
    let profile = parse("p", "p.toml", text, &base);
    (directory, profile)
}

#[test]
fn what_is_built_is_named_after_its_content_and_lies_beside_the_profile() {
    let files = [("it/Dockerfile", "FROM x"), ("it/other", "FROM y")];
    let (directory, short) = built(&files, "build = \"./it\"");
    let short = short.unwrap().cage;
    let build = short.build.unwrap();
    let context = directory.path().canonicalize().unwrap().join("it");
    assert_eq!(build.context, brig_core::profile::Context::Directory(context.to_str().unwrap().to_owned()));
    assert!(short.image.starts_with("brig-build:p-"), "{}", short.image);
    let long = "[build]\ncontext = \"it\"\ndockerfile = \"other\"\nargs = { A = 1 }\ntarget = \"last\"";
    let long = built(&files, long).1.unwrap().cage;
    assert_ne!(long.image, short.image);
    let build = long.build.unwrap();
    assert_eq!(
        (build.dockerfile.as_str(), build.target.as_deref(), build.args["A"].as_str()),
        ("other", Some("last"), "1")
    );
    let same = built(&files, "build = { context = \"it\" }").1.unwrap().cage;
    assert_eq!(same.image, short.image);
    let changed = built(&[("it/Dockerfile", "FROM z"), files[1]], "build = \"it\"").1.unwrap().cage;
    assert_ne!(changed.image, short.image);
}

#[test]
fn what_cannot_be_built_says_where_and_what_to_write() {
    let cases = [
        ("build = \"gone\"", "1:9: `build`: there is no directory", "relative one begins where the profile's file is"),
        ("build = \"empty\"", "there is no file Dockerfile in", "put a Dockerfile there"),
        ("build = 7", "this is a whole number", "a directory or a table"),
        ("build = { dockerfile = \"a\" }", "`context` is missing", "context = \".\""),
        (
            "build = { context = \".\", dockerfile = \"../a\" }",
            "\"../a\" is no file in the context",
            "below the context",
        ),
        ("build = \"https://x.example/y.git\"", "is no directory, and brig fetches nothing", "clone it"),
        (
            "build = { context = \".\", dockerfile_inline = \"\" }",
            "`build.dockerfile_inline` is not taken",
            "beside the profile",
        ),
        ("build = { context = \".\", contxt = \"\" }", "did you mean `context`?", "known here"),
        ("image = \"a\"\nbuild = \".\"", "1:9: `image`: `build` is there as well", "keep one of them"),
    ];
    for (text, message, help) in cases {
        let (_directory, profile) = built(&[("Dockerfile", "FROM x"), ("empty/a", "")], text);
        let problem = profile.unwrap_err();
        assert!(problem.message.contains(message), "{text}: {problem}");
        assert!(problem.help.contains(help), "{text}: {problem}");
    }
}

#[test]
fn a_copy_of_a_shipped_profile_builds_what_is_shipped_until_it_has_files_of_its_own() {
    let text = "build = { context = \"python\" }";
    let shipped = brig_core::profile::Context::Shipped("python".to_owned());
    assert_eq!(built(&[], text).1.unwrap().cage.build.unwrap().context, shipped);
    let own = built(&[("python/Dockerfile", "FROM x")], text).1.unwrap();
    assert_ne!(own.cage.build.unwrap().context, shipped);
}
#[test]
fn interpreters_are_read_and_only_those_that_can_be_are_started_in_advance() {
    let read = profile(
        "[interpreter.python]\ncommand = [\"python3\", \"-I\"]\nprewarm = true\n[interpreter.lua]\ncommand = [\"lua\"]",
    );
    let python = &read.cage.interpreters["python"];
    assert_eq!((python.command.join(" ").as_str(), python.prewarm), ("python3 -I", true));
    assert!(!read.cage.interpreters["lua"].prewarm);
    for (text, message, help) in [
        (
            "[interpreter.lua]\ncommand = [\"lua\"]\nprewarm = true",
            "p.toml:4:11: `interpreter.lua.prewarm`: brig cannot start",
            "node and python",
        ),
        (
            "[interpreter.python]\nprewarm = true",
            "`interpreter.python`: `command` is missing",
            "command = [\"python3\", \"-I\"]",
        ),
        (
            "[interpreter.python]\ncommand = \"python3 -I\"",
            "p.toml:3:11: `interpreter.python.command`: this is no list",
            "as a list",
        ),
        ("[interpreter.python]\ncommand = []", "it is empty", "as a list"),
        ("[interpreter.python]\ncommand = [\"\"]", "it names no program", "as a list"),
        (
            "[interpreter.python]\ncommand = [\"a\"]\nprewarn = true",
            "`interpreter.python.prewarn` is no key, did you mean `prewarm`?",
            "command",
        ),
        ("[interpreter.\"C++\"]\ncommand = [\"a\"]", "\"C++\" is no name of a language", "a-z"),
    ] {
        let (said, helped) = refused(text);
        assert!(said.contains(message) && helped.contains(help), "{said}\n{helped}");
    }
}
