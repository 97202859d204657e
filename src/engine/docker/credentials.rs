//! Logins for registries, as the docker client of the supervisor's user keeps them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

/// The key that the docker client files the registry under that a reference without one means.
const DEFAULT_KEY: &str = "https://index.docker.io/v1/";
/// The same registry, as references name it.
const DEFAULT_HOST: &str = "docker.io";
/// How long a program that keeps logins may take.
const ASKING: Duration = Duration::from_secs(10);
/// What it may answer, and what the client's settings may have.
const LONGEST_ANSWER: u64 = 64 << 10;
const LONGEST_SETTINGS: u64 = 1 << 20;
/// Registries that a build is given the logins of, at most.
const MOST: usize = 32;

/// The login for an image's registry, and what was wrong with it: without one it is tried as anybody.
pub async fn of(reference: &str) -> (Option<DockerCredentials>, Option<String>) {
    let host = host(reference);
    let login = match settings().await {
        Ok(Some(settings)) => login(&settings, host).await,
        Ok(None) => Ok(None),
        Err(why) => Err(why),
    };
    match login {
        Ok(login) => (login, None),
        Err(why) => (None, Some(format!("there was no login for {host}: {why}"))),
    }
}

/// All logins, by registry, for a build that may begin from anything.
pub async fn all() -> (HashMap<String, DockerCredentials>, Option<String>) {
    let mut logins = HashMap::new();
    let settings = match settings().await {
        Ok(Some(settings)) => settings,
        Ok(None) => return (logins, None),
        Err(why) => return (logins, Some(why)),
    };
    let mut remark = None;
    let names: std::collections::BTreeSet<_> = settings.auths.keys().chain(settings.helpers.keys()).collect();
    for name in names.into_iter().take(MOST) {
        match login(&settings, plain(name)).await {
            Ok(Some(login)) => drop(logins.insert(name.clone(), login)),
            Ok(None) => {}
            Err(why) => remark = Some(format!("there was no login for {}: {why}", plain(name))),
        }
    }
    (logins, remark)
}

/// `config.json`, as far as it is about logins.
#[derive(Debug, Default, Deserialize)]
struct Settings {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
struct Auth {
    /// `user:password` in base64.
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identitytoken: String,
}

/// What a helper answers.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

async fn settings() -> Result<Option<Settings>, String> {
    let place = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = place("DOCKER_CONFIG").or_else(|| place("HOME").map(|home| home.join(".docker")));
    let Some(path) = directory.map(|directory| directory.join("config.json")) else { return Ok(None) };
    let mut text = Vec::new();
    let read = async { tokio::fs::File::open(&path).await?.take(LONGEST_SETTINGS).read_to_end(&mut text).await };
    match read.await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    }
    serde_json::from_slice(&text).map(Some).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

async fn login(settings: &Settings, host: &str) -> Result<Option<DockerCredentials>, String> {
    let key = if host == DEFAULT_HOST { DEFAULT_KEY } else { host };
    let helper = settings.helpers.iter().find(|(name, _)| plain(name) == plain(key)).map(|(_, helper)| helper);
    let found = match helper.or(settings.store.as_ref()) {
        Some(helper) => ask(helper, key).await?,
        None => match settings.auths.iter().find(|(name, _)| plain(name) == plain(key)) {
            Some((_, auth)) => from_settings(auth)?,
            None => None,
        },
    };
    let Some(mut login) = found else { return Ok(None) };
    login.serveraddress = Some(key.to_owned());
    if is_garbled(&login) {
        return Err("its password has a character that cannot be handed on; log in with an access token".to_owned());
    }
    Ok(Some(login))
}

fn from_settings(auth: &Auth) -> Result<Option<DockerCredentials>, String> {
    if !auth.identitytoken.is_empty() {
        return Ok(Some(token(&auth.identitytoken)));
    }
    if auth.auth.is_empty() {
        return Ok(None);
    }
    let wrong = || "the docker client's settings hold no user:password in base64".to_owned();
    // The one reader of base64 that is here anyway.
    let decoded: brig_core::blob::Blob =
        serde_json::from_value(serde_json::json!({ "base64": auth.auth })).map_err(|_| wrong())?;
    let text = String::from_utf8(decoded.0).map_err(|_| wrong())?;
    let (user, secret) = text.split_once(':').ok_or_else(wrong)?;
    Ok(Some(password(user, secret.trim_end_matches('\0'))))
}

/// Asks the program that keeps the login. One that knows none says so and fails.
async fn ask(helper: &str, key: &str) -> Result<Option<DockerCredentials>, String> {
    if helper.is_empty() || !helper.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        return Err(format!("`{helper}` is no name of a program that keeps logins"));
    }
    let program = format!("docker-credential-{helper}");
    let asking = async {
        let mut child = Command::new(&program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that answers without reading is fine too.
            let _ = stdin.write_all(key.as_bytes()).await;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
        }
        Ok::<_, std::io::Error>((child.wait().await?, answer))
    };
    let (status, answer) = match tokio::time::timeout(ASKING, asking).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(format!("{program} cannot be run: {error}")),
        Err(_) => return Err(format!("{program} did not answer within {} s", ASKING.as_secs())),
    };
    if !status.success() {
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        if text.contains("not found") {
            return Ok(None);
        }
        return Err(format!("{program} failed ({status})"));
    }
    let answer: Answer = serde_json::from_slice(&answer).map_err(|_| format!("{program} answered no login"))?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => token(&answer.secret),
        user => password(user, &answer.secret),
    }))
}

fn token(token: &str) -> DockerCredentials {
    DockerCredentials { identitytoken: Some(token.to_owned()), ..DockerCredentials::default() }
}

fn password(user: &str, password: &str) -> DockerCredentials {
    let (username, password) = (Some(user.to_owned()), Some(password.to_owned()));
    DockerCredentials { username, password, ..DockerCredentials::default() }
}

/// The client library writes the header in the wrong one of base64's alphabets, and the daemon takes what it cannot read
/// for no login at all: better said than taken for a wrong password.
fn is_garbled(login: &DockerCredentials) -> bool {
    let json = serde_json::to_vec(login).unwrap_or_default();
    json.chunks(3).any(|chunk| {
        let [a, b, c] = [0, 1, 2].map(|at| chunk.get(at).copied().unwrap_or(0));
        [a >> 2, (a & 3) << 4 | b >> 4, (b & 15) << 2 | c >> 6, c & 63].iter().any(|&digit| digit >= 62)
    })
}

/// The registry that a reference names, or means.
fn host(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => DEFAULT_HOST,
    }
}

/// A registry as the settings may name it, without scheme and path.
fn plain(name: &str) -> &str {
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    name.split('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_registry_is_the_part_that_has_a_dot_or_a_port() {
        for (reference, name) in [
            ("busybox", DEFAULT_HOST),
            ("me/it:1", DEFAULT_HOST),
            ("localhost/it", "localhost"),
            ("box:5000/it", "box:5000"),
            ("a.example/me/it@sha256:0", "a.example"),
        ] {
            assert_eq!(host(reference), name);
        }
    }

    #[tokio::test]
    async fn logins_are_found_however_they_are_filed() {
        let auths =
            r#"{"auths": {"https://a.example/v2/": {"auth": "bWU6czpl"}, "b": {"identitytoken": "t"}, "c": {}}}"#;
        let auths = settings(auths);
        let found = login(&auths, "a.example").await.unwrap().unwrap();
        assert_eq!((found.username.as_deref(), found.password.as_deref()), (Some("me"), Some("s:e")));
        assert_eq!(login(&auths, "b").await.unwrap().unwrap().identitytoken.as_deref(), Some("t"));
        assert_eq!(login(&auths, "c").await, Ok(None));
        assert_eq!(login(&auths, "d").await, Ok(None));
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_login_is_said_and_not_its_content() {
        let cases = [
            (r#"{"auths": {"a": {"auth": "secret!"}}}"#, "base64"),
            (r#"{"credsStore": "brig-has-no-such"}"#, "docker-credential-brig-has-no-such cannot be run"),
            (r#"{"credHelpers": {"a": "../x"}}"#, "no name of a program"),
            // `me:~~~~`
            (r#"{"auths": {"a": {"auth": "bWU6fn5+fg=="}}}"#, "access token"),
        ];
        for (text, part) in cases {
            let why = login(&settings(text), "a").await.unwrap_err();
            assert!(why.contains(part) && !why.contains("secret!"), "{why}");
        }
    }
}
