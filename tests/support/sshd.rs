//! An SSH server on loopback with keys and a configuration of its own, and an `ssh` that goes there.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Ends with the test, and with it every session.
pub struct Sshd {
    dir: TempDir,
    server: Child,
    pub port: u16,
    pub user: String,
}

impl Sshd {
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("brig-ssh-").tempdir_in("/tmp").unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        for name in ["host", "client", "stranger"] {
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &at(name)]);
        }
        std::fs::copy(at("client.pub"), at("authorized")).unwrap();
        // The server wants this directory, which a service manager makes elsewhere.
        let _ = std::fs::create_dir_all("/run/sshd");
        let port = free_port();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n",
            at("host"),
            at("authorized")
        );
        std::fs::write(at("sshd.conf"), config).unwrap();
        let known = std::fs::read_to_string(at("host.pub")).unwrap();
        std::fs::write(at("known"), format!("[127.0.0.1]:{port} {known}")).unwrap();
        let log = std::fs::File::create(at("sshd.log")).unwrap();
        let server = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &at("sshd.conf")])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("these tests need openssh-server");
        let user = run("id", &["-un"]).trim().to_owned();
        let sshd = Self { dir, server, port, user };
        sshd.write_ssh("client", "known");
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "sshd does not listen: {}", sshd.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        sshd
    }

    /// As `DOCKER_HOST` names it.
    pub fn address(&self) -> String {
        format!("ssh://{}@127.0.0.1:{}", self.user, self.port)
    }

    /// An `ssh` that reads no configuration but the test's: `ssh` looks for the user's in the home that the system has.
    pub fn write_ssh(&self, key: &str, known: &str) {
        let bin = self.dir.path().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let script = format!(
            "#!/bin/sh\nexec /usr/bin/ssh -F none -o IdentityFile={0}/{key} -o IdentitiesOnly=yes -o IdentityAgent=none \
             -o UserKnownHostsFile={0}/{known} -o GlobalKnownHostsFile=none \"$@\"\n",
            self.dir.path().display()
        );
        let draft = bin.join("draft");
        std::fs::write(&draft, script).unwrap();
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(draft, bin.join("ssh")).unwrap();
    }

    /// A `PATH` on which that `ssh` comes first.
    pub fn path(&self) -> String {
        format!("{}:{}", self.dir.path().join("bin").display(), std::env::var("PATH").unwrap())
    }

    /// The processes that talk to this server.
    pub fn clients(&self) -> Vec<PathBuf> {
        let wanted = self.dir.path().display().to_string();
        let is_client = |path: &Path| {
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.starts_with("/usr/bin/ssh\0") && line.contains(&wanted)
        };
        let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        all.filter(|path| is_client(path)).collect()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("sshd.log")).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        if std::thread::panicking() {
            eprintln!("sshd said:\n{}", self.log());
        }
    }
}

/// One that nobody listens on.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}
