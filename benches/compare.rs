//! The same work by what people use today: `true`, and `print(1)` in Python, by brig, by `docker run`, by `docker exec`, and by
//! llm-sandbox with its pool of Docker containers.
//!
//! The commands are whole processes, as a person or an agent starts them; what is an API is asked over it. llm-sandbox is
//! driven by `benches/pooled.py` where `BRIG_BENCH_PYTHON` names a Python that has it (`pip install 'llm-sandbox[docker]'`),
//! and left out where it does not. Its containers are not hardened by default, and its code stays in a container that is used
//! again.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use crate::support::figures::{at, load, median, ms};
use crate::support::supervisor::Supervisor;

const INTERPRETER: &str = "[interpreter.python]\ncommand = [\"python3\", \"-I\"]\nprewarm = true\n\
                           [environment]\nPATH = \"/usr/local/bin:/usr/bin:/bin\"\nHOME = \"/sandbox\"";
/// The image for llm-sandbox.
const POOLED: &str = "brig-bench-pooled:1";
const PRINT: [&str; 4] = ["python3", "-I", "-c", "print(1)"];

pub async fn run(rounds: usize) {
    let supervisor = Supervisor::start_with("target = 2\nmax = 6", 3, INTERPRETER).await;
    let (engine, spec) = supervisor.engine().await;
    supervisor.full().await;
    let image = &spec.image.id;
    let container = started(&["run", "--detach", "--rm", "--network", "none", image, "sleep", "1000000"]);
    let mut other = Other::start(image);
    let code = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(code.path(), "print(1)\n").unwrap();
    let code = code.path().to_str().unwrap();

    let mut samples: Vec<(&str, Vec<f64>)> = Vec::new();
    let mut add = |name: &'static str, took: Option<f64>| {
        let Some(took) = took else { return };
        match samples.iter_mut().find(|(known, _)| *known == name) {
            Some((_, samples)) => samples.push(took),
            None => samples.push((name, vec![took])),
        }
    };
    for round in 0..=rounds {
        let mut add = |name, took| {
            if round > 0 {
                add(name, took)
            }
        };
        supervisor.quiet().await;
        add("true: brig, API", Some(ms(supervisor.run(&["true"]).await.end)));
        supervisor.quiet().await;
        add("true: brig run", Some(whole(supervisor.command(&["run", "true"]))));
        supervisor.quiet().await;
        add("true: docker exec", Some(whole(docker(&["exec", &container, "true"]))));
        supervisor.quiet().await;
        add("true: docker run", Some(whole(docker(&["run", "--rm", "--network", "none", image, "true"]))));
        supervisor.quiet().await;
        add("true: llm-sandbox", other.as_mut().map(|it| it.ask("true")));
        supervisor.quiet().await;
        add("print(1): brig, API", Some(ms(supervisor.run_code("print(1)\n").await.end)));
        supervisor.quiet().await;
        add("print(1): brig run", Some(whole(supervisor.command(&["run", "--code", code]))));
        supervisor.quiet().await;
        let exec = [&["exec", &container], PRINT.as_slice()].concat();
        add("print(1): docker exec", Some(whole(docker(&exec))));
        supervisor.quiet().await;
        let run = [&["run", "--rm", "--network", "none", image], PRINT.as_slice()].concat();
        add("print(1): docker run", Some(whole(docker(&run))));
        supervisor.quiet().await;
        add("print(1): llm-sandbox", other.as_mut().map(|it| it.ask("print(1)")));
    }
    println!("compare: {rounds} rounds, in turn; milliseconds; load {}", load());
    println!("{:<24}{:>10}{:>10}{:>10}{:>10}", "what", "min", "p50", "p95", "against brig");
    let mut of_brig = f64::NAN;
    for (name, samples) in &mut samples {
        let p50 = median(samples);
        if name.ends_with("brig, API") {
            of_brig = p50;
        }
        let [min, p95] = [0.0, 0.95].map(|share| at(samples, share));
        println!("{name:<24}{min:>10.2}{p50:>10.2}{p95:>10.2}{:>10.1}", p50 / of_brig);
    }
    drop(other);
    started(&["kill", &container]);
    supervisor.stop().await;
    engine.remove_init_volume().await;
}

fn docker(args: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(args);
    command
}

fn started(args: &[&str]) -> String {
    let output = docker(args).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Milliseconds that a whole command takes.
fn whole(mut command: Command) -> f64 {
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).output().unwrap();
    let took = began.elapsed();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    ms(took)
}

/// llm-sandbox, with a process of its own that keeps its pool.
struct Other {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Other {
    fn start(image: &str) -> Option<Self> {
        let Some(python) = std::env::var_os("BRIG_BENCH_PYTHON") else {
            println!("BRIG_BENCH_PYTHON names no Python with llm-sandbox: it is left out");
            return None;
        };
        // It wants a Python in a place of its own, which it would make and fill over the network.
        let dockerfile = format!(
            "FROM {image}\nUSER 0\nRUN mkdir -p /sandbox/.sandbox-venv/bin && \
             ln -s \"$(command -v python3)\" /sandbox/.sandbox-venv/bin/python\n"
        );
        let mut building = docker(&["build", "--tag", POOLED, "-"]);
        let mut building = building.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        building.stdin.take().unwrap().write_all(dockerfile.as_bytes()).unwrap();
        assert!(building.wait().unwrap().success(), "the image for llm-sandbox could not be built");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/pooled.py");
        let mut command = Command::new(python);
        command.args([script, POOLED]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut other = Self { stdin: child.stdin.take(), stdout: BufReader::new(child.stdout.take().unwrap()), child };
        other.line();
        Some(other)
    }

    /// Milliseconds from the question to its answer, by the script's own clock.
    fn ask(&mut self, what: &str) -> f64 {
        writeln!(self.stdin.as_mut().unwrap(), "{what}").unwrap();
        self.line().trim().parse().unwrap()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.stdout.read_line(&mut line).unwrap() > 0, "llm-sandbox has ended");
        line
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // The end of its input closes its pool.
        self.stdin = None;
        let _ = self.child.wait();
        let _ = docker(&["rmi", "--force", POOLED]).stdout(Stdio::null()).status();
    }
}
