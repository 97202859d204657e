//! A daemon that answers just enough, for what the real one cannot be made to do on demand: hang, and pull.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// What the daemon does with a pull.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pulls {
    /// Says nothing, for ever.
    Hang,
    /// Tells of some layers and has the image.
    Work,
    /// Tells of a layer and then of a failure.
    Fail,
}

/// Listens at `socket` from now on.
pub fn start(socket: &Path, pulls: Pulls) {
    listen(socket, pulls, "1.41");
}

/// Listens as a Docker from before 20.10 would.
pub fn too_old(socket: &Path) {
    listen(socket, Pulls::Hang, "1.40");
}

fn listen(socket: &Path, pulls: Pulls, version: &'static str) {
    let listener = UnixListener::bind(socket).unwrap();
    let has_image = Arc::new(AtomicBool::new(false));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, pulls, version, Arc::clone(&has_image)));
        }
    });
}

async fn answer(mut stream: UnixStream, pulls: Pulls, version: &str, has_image: Arc<AtomicBool>) {
    let mut head = vec![0; 8192];
    let length = stream.read(&mut head).await.unwrap();
    let head = String::from_utf8_lossy(&head[..length]).into_owned();
    let line = head.lines().next().unwrap_or_default().to_owned();
    let (status, body) = match line.as_str() {
        line if line.contains("/version") => ("200 OK", format!(r#"{{"Version":"99","ApiVersion":"{version}"}}"#)),
        line if line.contains("/info") => {
            let processor = std::env::consts::ARCH;
            let body =
                format!(r#"{{"OSType":"linux","Architecture":"{processor}","SecurityOptions":["name=seccomp"]}}"#);
            ("200 OK", body)
        }
        line if line.contains("/images/create") => match pulls {
            Pulls::Hang => std::future::pending().await,
            Pulls::Work => {
                has_image.store(true, Ordering::Relaxed);
                ("200 OK", LINES.to_owned())
            }
            Pulls::Fail => ("200 OK", format!("{}\n{FAILURE}\n", LINES.lines().next().unwrap())),
        },
        _ if has_image.load(Ordering::Relaxed) => ("200 OK", r#"{"Id":"sha256:77"}"#.to_owned()),
        _ => ("404 Not Found", r#"{"message":"No such image"}"#.to_owned()),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

const LINES: &str = r#"{"id":"a1","status":"Downloading","progressDetail":{"current":1000000,"total":4000000}}
{"id":"b2","status":"Downloading","progressDetail":{"current":2500000,"total":2500000}}
{"status":"Status: Downloaded newer image"}
"#;

const FAILURE: &str =
    r#"{"errorDetail":{"message":"toomanyrequests: slow down"},"error":"toomanyrequests: slow down"}"#;
