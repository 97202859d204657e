//! Streams of lines: a proposal with its output, and everything that a console sees.
//!
//! Each stream is written by a task into a short channel. A client that reads slowly holds up nobody but its own task; one
//! that goes away closes the channel, which the task notices at once.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use brig_core::blob::Blob;
use brig_core::id::ProposalId;
use brig_core::machine::Proposal;
use brig_core::problem::Problem;
use brig_core::proposal::Status;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::names::unknown;
use super::server::Services;
use crate::api::ndjson;
use crate::api::wire::{FollowLine, ProposalRow, Update};
use crate::journal::{Chunk, Recorded};
use crate::supervisor::message::{ConsoleMove, Mailbox, Message, Query};
use crate::supervisor::outputs::Follower;
use crate::supervisor::view;

/// Pieces that a client may be behind.
const BEHIND: usize = 4;
/// Bytes of output in a piece, about: a chunk more than this ends it.
const PIECE_BYTES: usize = 64 << 10;
/// How often a silent stream says that it is alive.
const ALIVE_EVERY: Duration = Duration::from_secs(10);

/// The writing side of a stream.
pub type Lines = mpsc::Sender<Bytes>;

/// A stream and its writing side.
pub fn channel() -> (Lines, impl Stream<Item = Bytes> + Send + 'static) {
    let (lines, inbox) = mpsc::channel(BEHIND);
    (lines, stream::unfold(inbox, |mut inbox| async move { Some((inbox.recv().await?, inbox)) }))
}

/// The client has gone away.
pub struct Left;

/// Writes a line.
pub async fn say(lines: &Lines, line: &FollowLine) -> Result<(), Left> {
    lines.send(ndjson(line)).await.map_err(|_| Left)
}

/// Writes a proposal's row, its output from chunk `from` on, and each change of the row; the last line is its final row.
/// Without `live` it ends with what there is now.
pub async fn proposal(services: &Services, id: &ProposalId, from: u64, live: bool, lines: &Lines) -> Result<(), Left> {
    let told = match services.mailbox.query(|reply| Query::Follow(id.clone(), reply)).await {
        Ok(Some(row)) => remembered(services, id, from, live, row, lines).await,
        Ok(None) => recorded(services, id, from, lines).await,
        Err(problem) => Err(Stop::Problem(problem)),
    };
    match told {
        Ok(()) => Ok(()),
        Err(Stop::Left) => Err(Left),
        Err(Stop::Problem(problem)) => say(lines, &FollowLine::Problem(problem)).await,
    }
}

enum Stop {
    Left,
    Problem(Problem),
}

impl From<Left> for Stop {
    fn from(_: Left) -> Self {
        Self::Left
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

async fn remembered(
    services: &Services,
    id: &ProposalId,
    from: u64,
    live: bool,
    mut rows: watch::Receiver<ProposalRow>,
    lines: &Lines,
) -> Result<(), Stop> {
    let open = || services.outputs.follow(id, from, services.journal.clone());
    // Before it runs there is no log yet, and what looked for one would find nothing but what the journal has.
    let writes = |row: &ProposalRow| row.run.is_some() && row.status != Status::Approved;
    let mut row = rows.borrow_and_update().clone();
    let mut output = writes(&row).then(open);
    let mut output_ended = false;
    say(lines, &FollowLine::Proposal(Box::new(row.clone()))).await?;
    if !live {
        if let Some(output) = &mut output {
            write_rest(output, lines).await?;
        }
        return Ok(());
    }
    let mut quiet_until = Instant::now() + ALIVE_EVERY;
    while !row.status.is_final() {
        tokio::select! {
            biased;
            () = lines.closed() => return Err(Stop::Left),
            chunks = next_chunks(&mut output), if !output_ended => {
                let chunks = chunks?;
                output_ended = chunks.is_empty();
                write(&chunks, lines).await?;
            }
            changed = rows.changed() => {
                if changed.is_err() {
                    return Err(Problem::new(brig_core::problem::Code::ShuttingDown, "the supervisor is ending").into());
                }
                row = rows.borrow_and_update().clone();
                if output.is_none() && writes(&row) {
                    output = Some(open());
                }
                if !row.status.is_final() {
                    say(lines, &FollowLine::Proposal(Box::new(row.clone()))).await?;
                }
            }
            () = sleep_until(quiet_until) => say(lines, &FollowLine::Alive).await?,
        }
        quiet_until = Instant::now() + ALIVE_EVERY;
    }
    if let Some(output) = &mut output {
        write_rest(output, lines).await?;
    }
    say(lines, &FollowLine::Proposal(Box::new(row))).await?;
    Ok(())
}

async fn next_chunks(output: &mut Option<Follower>) -> Result<Vec<Chunk>, Problem> {
    match output {
        Some(output) => output.next().await,
        None => pending().await,
    }
}

async fn write_rest(output: &mut Follower, lines: &Lines) -> Result<(), Stop> {
    loop {
        let chunks = tokio::select! {
            biased;
            // The journal may be failing, and what is missing come never.
            () = lines.closed() => return Err(Stop::Left),
            chunks = output.rest() => chunks?,
        };
        if chunks.is_empty() {
            return Ok(());
        }
        write(&chunks, lines).await?;
    }
}

/// A proposal that only the journal remembers: it is over.
async fn recorded(services: &Services, id: &ProposalId, from: u64, lines: &Lines) -> Result<(), Stop> {
    let Some(proposal) = read(services, id).await? else {
        return Err(unknown(services, id).await.into());
    };
    let row = Box::new(view::proposal_row(&proposal));
    say(lines, &FollowLine::Proposal(row.clone())).await?;
    let mut output = services.outputs.follow(id, from, services.journal.clone());
    write_rest(&mut output, lines).await?;
    say(lines, &FollowLine::Proposal(row)).await?;
    Ok(())
}

/// What the journal knows of a proposal.
pub async fn read(services: &Services, id: &ProposalId) -> Result<Option<Proposal>, Problem> {
    let recorded = services.journal.entries_of(id).await?;
    let entries: Vec<_> = recorded.into_iter().map(|Recorded { at, entry, .. }| (at, entry)).collect();
    Ok(Proposal::from_entries(&entries))
}

/// Writes chunks in pieces of bounded size: what a client that does not read is behind by is memory.
async fn write(chunks: &[Chunk], lines: &Lines) -> Result<(), Left> {
    let mut piece = BytesMut::new();
    for chunk in chunks {
        piece.extend_from_slice(&ndjson(&FollowLine::Output {
            seq: chunk.seq,
            at: chunk.at,
            stream: chunk.stream,
            step: chunk.step,
            data: Blob(chunk.bytes.to_vec()),
        }));
        if piece.len() >= PIECE_BYTES {
            lines.send(piece.split().freeze()).await.map_err(|_| Left)?;
        }
    }
    if piece.is_empty() {
        return Ok(());
    }
    lines.send(piece.freeze()).await.map_err(|_| Left)
}

/// Counts a console for as long as its stream is open.
pub struct OpenConsole {
    mailbox: Mailbox,
    consoles: Arc<AtomicU32>,
}

impl OpenConsole {
    /// A console came.
    pub async fn came(services: &Services) -> Self {
        services.consoles.fetch_add(1, Ordering::Relaxed);
        services.mailbox.send(Message::Console(ConsoleMove::Came)).await;
        Self { mailbox: services.mailbox.clone(), consoles: Arc::clone(&services.consoles) }
    }
}

impl Drop for OpenConsole {
    fn drop(&mut self) {
        self.consoles.fetch_sub(1, Ordering::Relaxed);
        let mailbox = self.mailbox.clone();
        tokio::spawn(async move { mailbox.send(Message::Console(ConsoleMove::Left)).await });
    }
}

/// Writes everything that changes, beginning with everything there is, until the client goes away. One that falls too far
/// behind is given everything anew.
pub async fn everything(services: Services, lines: Lines) {
    let _open = OpenConsole::came(&services).await;
    while let Ok((snapshot, mut updates)) = services.mailbox.query(Query::Watch).await {
        if lines.send(ndjson(&Update::Snapshot(snapshot))).await.is_err() {
            return;
        }
        loop {
            let update = tokio::select! {
                biased;
                () = lines.closed() => return,
                update = updates.recv() => update,
                () = tokio::time::sleep(ALIVE_EVERY) => Ok(ndjson(&Update::Alive)),
            };
            match update {
                Ok(line) => {
                    if lines.send(line).await.is_err() {
                        return;
                    }
                }
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return,
            }
        }
    }
}
