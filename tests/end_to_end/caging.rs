//! What agents, and code inside a sandbox, cannot do.

use brig::api::client::Client;
use brig_core::problem::Code;
use serde_json::{Value, json};

use crate::support::brig::{Brig, text};

#[tokio::test]
async fn an_agent_has_no_way_to_decide() {
    let brig = Brig::ready().await;
    let row = brig.propose(&["true"]).await;
    let (id, digest) = (text(&row, "id"), text(&row, "digest"));
    let verdict = json!({ "digest": digest, "verdict": "approved" });
    let token = std::fs::read_to_string(brig.path("r/operator.token")).unwrap();
    let agent = Client::new(&brig.path("r/agent/agent.sock"), None);
    for path in [
        format!("/v1/proposals/{id}/verdict"),
        format!("/v1/proposals/{id}/kill"),
        "/v1/shutdown".to_owned(),
        "/v1/sandboxes/x/kill".to_owned(),
    ] {
        let refused = agent.post::<Value>(&path, &verdict).await.unwrap_err();
        assert_eq!(refused.code, Code::NotFound, "{path}");
    }
    for path in ["/v1/snapshot", "/v1/events", "/v1/proposals"] {
        // The last one is there, but only for proposing.
        let refused = agent.get::<Value>(path).await.unwrap_err();
        assert!(matches!(refused.code, Code::NotFound | Code::Malformed), "{path}: {refused}");
    }
    // The operator's token is no agent's, and wins nothing on the agents' socket.
    let agent = Client::new(&brig.path("r/agent/agent.sock"), Some(token));
    let refused = agent.get::<Value>(&format!("/v1/proposals/{id}")).await.unwrap_err();
    assert_eq!(refused.code, Code::WrongToken);

    for token in [None, Some("0".repeat(64)), Some("wrong".to_owned())] {
        let operator = Client::new(&brig.path("r/operator.sock"), token);
        let path = format!("/v1/proposals/{id}/verdict");
        let refused = operator.post::<Value>(&path, &verdict).await.unwrap_err();
        assert_eq!(refused.code, Code::WrongToken);
        assert!(refused.help.contains("operator.token"), "{refused}");
        for path in ["/v1/snapshot", "/v1/proposals"] {
            assert_eq!(operator.get::<Value>(path).await.unwrap_err().code, Code::WrongToken, "{path}");
        }
        assert_eq!(operator.post::<Value>("/v1/shutdown", &json!({})).await.unwrap_err().code, Code::WrongToken);
    }
    brig.waiting(1).await;
}

#[tokio::test]
async fn only_the_user_reaches_the_operators_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let brig = Brig::ready().await;
    for (name, mode) in
        [("r", 0o700), ("r/operator.sock", 0o600), ("r/operator.token", 0o600), ("s", 0o700), ("r/agent", 0o700)]
    {
        let found = std::fs::metadata(brig.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
}

#[tokio::test]
async fn an_agents_token_gives_it_its_name_and_hides_the_proposals_of_others() {
    let mut brig = Brig::new();
    let hash = brig_core::profile::Hash::of(b"a-token");
    std::fs::write(brig.path("c/brig.toml"), format!("[agents.tokens]\nrobot = \"{hash}\"\n")).unwrap();
    brig.serve().await;
    let others = brig.propose(&["true"]).await;
    brig.set("BRIG_AGENT_TOKEN", "a-token");
    let own = brig.propose(&["true"]).await;
    assert_eq!(own["agent"]["name"], "robot");
    let hidden = brig.brig(&["--json", "wait", "--timeout", "10ms", text(&others, "id")]).await;
    assert_eq!((hidden.code, &hidden.json()["error"]["code"]), (1, &json!("not_found")));
    brig.set("BRIG_AGENT_TOKEN", "another-token");
    let refused = brig.brig(&["--json", "run", "true"]).await;
    assert_eq!((refused.code, &refused.json()["error"]["code"]), (1, &json!("wrong_token")));
    assert!(!refused.text().contains("another-token"));
}

#[tokio::test]
async fn inside_there_is_no_socket_no_network_and_no_token() {
    let brig = Brig::ready().await;
    let token = std::fs::read_to_string(brig.path("r/operator.token")).unwrap();
    let script = r#"
        find / -xdev -type s 2>/dev/null | sed 's/^/socket /'
        find / -name 'operator.*' ! -path '*/python3*' -o -name 'agent.sock' -o -name 'docker.sock' 2>/dev/null | sed 's/^/file /'
        ls /sys/class/net | grep -v '^lo$' | sed 's/^/network /'
        env | grep -i -e brig -e docker -e token | sed 's/^/variable /'
        grep -e brig-e2e -e docker.sock -e ' /run' /proc/mounts | sed 's/^/mount /'
        (echo > /dev/tcp/1.1.1.1/53) 2>/dev/null && echo connected
        touch /x 2>/dev/null && echo written
        touch /sandbox/x && echo scratch
        id -u
    "#;
    let said = brig.run(&["--", "sh", "-c", script]).await;
    assert_eq!(said.all(), (0, "scratch\n65534\n", ""), "{said:?}");
    let said = brig.run(&["--", "sh", "-c", "cat /proc/*/environ /proc/1/cmdline 2>/dev/null | tr '\\0' '\\n'"]).await;
    assert!(!said.text().contains(token.trim()) && !said.text().contains("BRIG_"), "{said:?}");
}
