//! What lies below brig: a request written to an armed sandbox, and nothing else.

use std::time::{Duration, Instant};

use brig::engine::ArmedSandbox;
use brig::engine::docker::{DockerEngine, DockerSettings};
use brig::supervisor::process;
use brig_core::proposal::OutputStream;
use brig_init::wire::{FenceFinder, NONCE_LEN, Request, Step, Stream};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use super::INSTALL;

/// An engine to make sandboxes by hand.
pub fn engine() -> DockerEngine {
    DockerEngine::connect(DockerSettings {
        install: INSTALL.to_owned(),
        files: std::env::temp_dir(),
        host: process::host(),
        owner: process::me().unwrap(),
        address: None,
        context: None,
        tls: None,
    })
    .unwrap()
}

/// From the request on the stdin of a sandbox to both fences, and the bytes that came before them. The sandbox is gone
/// afterwards.
pub async fn exchange(mut sandbox: ArmedSandbox, step: Step<'_>) -> (Duration, u64) {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).unwrap();
    let (steps, marks, rlimits, files) = (vec![step], vec![], vec![], vec![]);
    let request = Request { nonce, deadline_ms: 600_000, keep_going: false, rlimits, steps, marks, files, stdin: b"" };
    let frame = request.encode().unwrap();
    let mut finders = [FenceFinder::new(nonce, Stream::Stdout), FenceFinder::new(nonce, Stream::Stderr)];
    let mut output = 0;
    let began = Instant::now();
    sandbox.stdin.write_all(&frame).await.unwrap();
    sandbox.stdin.flush().await.unwrap();
    while !finders.iter().all(FenceFinder::is_over) {
        let (stream, bytes) = sandbox.output.next().await.unwrap().unwrap();
        let scan = finders[usize::from(stream == OutputStream::Stderr)].push(&bytes);
        output += scan.output.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
    }
    let took = began.elapsed();
    drop(sandbox.stdin);
    while sandbox.output.next().await.is_some() {}
    (took, output)
}
