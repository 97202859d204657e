//! What one who proposes can take from the others: places, time and memory.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::support::world::{World, bounded, pass};

/// Connections of one user on the agents' socket.
const EACH: usize = 256;

async fn connect(world: &World) -> UnixStream {
    UnixStream::connect(world.places.agent_socket()).await.unwrap()
}

/// Begins a proposal whose body has so many bytes, and sends only these.
async fn begin(world: &World, length: usize, body: &str) -> UnixStream {
    let mut stream = connect(world).await;
    let head =
        format!("POST /v1/proposals HTTP/1.1\r\nhost: brig\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    stream
}

/// The status of an answer, and what it says.
async fn answer(stream: &mut UnixStream) -> (u16, Value) {
    let mut bytes = Vec::new();
    bounded("the answer", stream.read_to_end(&mut bytes)).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

/// Whether the supervisor closes a connection, and says nothing.
async fn is_closed(stream: &mut UnixStream) -> bool {
    bounded("the connection's end", stream.read(&mut [0])).await.is_ok_and(|read| read == 0)
}

#[tokio::test(start_paused = true)]
async fn a_user_has_so_many_connections_and_idle_ones_are_closed() {
    let world = World::new().await;
    let mut idle = Vec::new();
    for _ in 0..EACH {
        idle.push(connect(&world).await);
    }
    assert!(is_closed(&mut connect(&world).await).await, "one more than a user may have is left open");
    pass(Duration::from_secs(11)).await;
    for stream in &mut idle {
        assert!(is_closed(stream).await, "a connection that asks nothing is left open");
    }
    world.propose("ls").await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let world = World::new().await;
    let mut slow = begin(&world, 10, "{").await;
    pass(Duration::from_secs(31)).await;
    let (status, body) = answer(&mut slow).await;
    assert_eq!((status, body["error"]["code"].as_str().unwrap()), (400, "malformed"), "{body}");
    assert_eq!(body["error"]["message"], "the request's body did not come within 30 s");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_users_bodies_are_read_while_there_is_room_and_then_wait() {
    let world = World::new().await;
    let mut large = begin(&world, 16 << 20, "{").await;
    pass(Duration::from_secs(20)).await;
    let draft = json!({"steps": [{"argv": ["ls"]}]}).to_string();
    let mut small = begin(&world, draft.len(), &draft).await;
    pass(Duration::from_secs(5)).await;
    assert_eq!(world.snapshot().await.proposals, [], "it was read where there was no room");
    pass(Duration::from_secs(6)).await;
    assert_eq!(answer(&mut large).await.0, 400);
    assert_eq!(answer(&mut small).await.0, 200);
    // Both have given back what they took.
    world.propose("ls").await;
    world.end().await;
}
