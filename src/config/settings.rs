//! `brig.toml`: what holds for the whole of brig. Every key is optional.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use brig_core::problem::{Code, Problem};
use brig_core::profile::Hash;
use brig_core::retention::Retention;

use super::Places;
use super::read::{Item, Section, Source};

/// The settings, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The profile of proposals that name none.
    pub default_profile: String,
    /// Where that was written, for messages.
    pub default_profile_at: Option<String>,
    /// The console's theme.
    pub theme: String,
    /// Proposals that may wait at once.
    pub queue_limit: u32,
    /// Whether an agent under the operator's own user may be approved by rule. It could decide for itself by other
    /// means, so it may not unless the operator says so.
    pub allow_own_user: bool,
    /// Agents by name, with the SHA-256 of their tokens.
    pub agent_tokens: BTreeMap<String, Hash>,
    /// Where the engine is.
    pub engine: EngineSettings,
    /// Sandboxes that are being made at once, in all pools together.
    pub pool_creators: u32,
    /// How much is kept of what has happened.
    pub retention: Retention,
}

/// Where the engine is; found by itself where nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineSettings {
    /// Its address.
    pub address: Option<String>,
    /// The docker context that has its address.
    pub context: Option<String>,
    /// Encrypts `address`.
    pub tls: Option<TlsSettings>,
}

/// Files in PEM format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Who may have signed the daemon's certificate; those that this system trusts when it is not set.
    pub ca: Option<PathBuf>,
    /// This side's certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_profile: "shell".to_owned(),
            default_profile_at: None,
            theme: "dark".to_owned(),
            queue_limit: 1000,
            allow_own_user: false,
            agent_tokens: BTreeMap::new(),
            engine: EngineSettings::default(),
            pool_creators: 4,
            retention: Retention::default(),
        }
    }
}

impl Settings {
    /// Reads `brig.toml`; without one, everything has its default.
    ///
    /// # Errors
    /// `config` for what is written there, `local_io` when it cannot be read.
    pub fn load(places: &Places) -> Result<Self, Problem> {
        let path = places.brig_toml();
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&path.display().to_string(), &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Problem::new(Code::LocalIo, format!("cannot read {}: {error}", path.display()))),
        }
    }

    /// Reads the text of a file that is called `name`.
    ///
    /// # Errors
    /// `config`, with file, line and column.
    pub fn parse(name: &str, text: &str) -> Result<Self, Problem> {
        let document = Source { name, text }.parse()?;
        let root = document.root();
        root.only(&["default_profile", "theme", "queue", "agents", "engine", "pool", "retention"], &[])?;
        let mut settings = Self::default();
        if let Some(item) = root.item("default_profile") {
            settings.default_profile = name_of(&item)?.to_owned();
            settings.default_profile_at = Some(item.place());
        }
        if let Some(item) = root.item("theme") {
            settings.theme = name_of(&item)?.to_owned();
        }
        if let Some(item) = only_key(&root, "queue", "limit")? {
            settings.queue_limit = small(&item, 100_000)?;
        }
        if let Some(item) = only_key(&root, "pool", "creators")? {
            settings.pool_creators = small(&item, 64)?;
        }
        if let Some(section) = root.section("engine")? {
            settings.engine = engine(&section)?;
        }
        if let Some(section) = root.section("retention")? {
            settings.retention = retention(&section)?;
        }
        if let Some(agents) = root.section("agents")? {
            agents.only(&["allow_own_user", "tokens"], &[])?;
            if let Some(item) = agents.item("allow_own_user") {
                settings.allow_own_user = item.flag()?;
            }
            if let Some(tokens) = agents.section("tokens")? {
                settings.agent_tokens = self::tokens(&tokens)?;
            }
        }
        Ok(settings)
    }
}

fn retention(section: &Section<'_>) -> Result<Retention, Problem> {
    const MINUTE: u64 = 60_000;
    const TEN_YEARS: u64 = 3650 * 24 * 60 * MINUTE;
    section.only(&["output_age", "output_size", "journal_age", "journal_size", "keep_free"], &[])?;
    let mut retention = Retention::default();
    for (key, value) in [("output_age", &mut retention.output_age_ms), ("journal_age", &mut retention.journal_age_ms)] {
        if let Some(item) = section.item(key) {
            *value = item.duration(MINUTE..=TEN_YEARS)?;
        }
    }
    for (key, value, least) in [
        ("output_size", &mut retention.output_bytes, 1 << 20),
        ("journal_size", &mut retention.journal_bytes, 1 << 20),
        ("keep_free", &mut retention.keep_free, 0),
    ] {
        if let Some(item) = section.item(key) {
            *value = item.size(least..=1 << 50)?;
        }
    }
    Ok(retention)
}

/// The one key of a table that has no other.
fn only_key<'a>(root: &Section<'a>, table: &str, key: &str) -> Result<Option<Item<'a>>, Problem> {
    let Some(section) = root.section(table)? else { return Ok(None) };
    section.only(&[key], &[])?;
    Ok(section.item(key))
}

fn small(item: &Item<'_>, most: u32) -> Result<u32, Problem> {
    Ok(u32::try_from(item.number(1..=u64::from(most))?).unwrap_or(most))
}

fn name_of<'a>(item: &Item<'a>) -> Result<&'a str, Problem> {
    let text = item.text()?;
    if is_name(text) {
        return Ok(text);
    }
    Err(item.problem(&format!("\"{text}\" is no name"), NAME_FORM))
}

/// What names look like, for messages.
pub const NAME_FORM: &str = "a name is 1 to 64 of a-z, 0-9, - and _";

/// Whether this can be the name of a profile, a theme or an agent.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

fn engine(section: &Section<'_>) -> Result<EngineSettings, Problem> {
    section.only(&["address", "context", "tls"], &[])?;
    let mut engine = EngineSettings::default();
    if let Some(item) = section.item("address") {
        engine.address = Some(address(&item)?.to_owned());
    }
    if let Some(item) = section.item("context") {
        let name = item.text()?;
        if engine.address.is_some() {
            return Err(item.problem("`engine.address` is set as well", "keep the one that is meant"));
        }
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(item.problem(&format!("\"{name}\" names no context"), "`docker context ls` lists them"));
        }
        engine.context = Some(name.to_owned());
    }
    if let Some(item) = section.item("tls") {
        if !engine.address.as_deref().is_some_and(|address| address.starts_with("tcp://")) {
            let instead = "set `engine.address` to \"tcp://HOST:PORT\"; a context has certificates of its own";
            return Err(item.problem("there is no TCP address that this encrypts", instead));
        }
        engine.tls = Some(tls(&item.table()?)?);
    }
    Ok(engine)
}

fn tls(section: &Section<'_>) -> Result<TlsSettings, Problem> {
    section.only(&["ca", "cert", "key"], &[])?;
    let path = |key: &str| -> Result<Option<PathBuf>, Problem> {
        let Some(item) = section.item(key) else { return Ok(None) };
        let path = PathBuf::from(item.text()?);
        if path.is_absolute() {
            return Ok(Some(path));
        }
        Err(item.problem(&format!("\"{}\" is no absolute path", path.display()), "write the file's whole path"))
    };
    let tls = TlsSettings { ca: path("ca")?, cert: path("cert")?, key: path("key")? };
    match (section.item("cert"), section.item("key")) {
        (Some(item), None) => Err(item.problem("a certificate needs its key", "set `engine.tls.key` as well")),
        (None, Some(item)) => Err(item.problem("a key needs its certificate", "set `engine.tls.cert` as well")),
        _ => Ok(tls),
    }
}

fn address<'a>(item: &Item<'a>) -> Result<&'a str, Problem> {
    let text = item.text()?;
    let fits = match text.split_once("://") {
        Some(("unix", path)) => path.starts_with('/') && path.len() > 1,
        Some(("tcp" | "http" | "https" | "ssh", rest)) => !rest.is_empty() && !rest.starts_with('/'),
        _ => false,
    };
    if fits && !text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Ok(text);
    }
    Err(item.problem(
        &format!("\"{text}\" is no address of an engine"),
        "write \"unix:///var/run/docker.sock\", \"ssh://USER@HOST\" or \"tcp://HOST:PORT\" (with `[engine.tls]`)",
    ))
}

fn tokens(section: &Section<'_>) -> Result<BTreeMap<String, Hash>, Problem> {
    let mut tokens = BTreeMap::new();
    for (name, item) in section.items() {
        if !is_name(name) {
            return Err(item.problem(&format!("\"{name}\" cannot be an agent's name"), NAME_FORM));
        }
        let hash = item.text()?;
        let Some(hash) = Hash::parse(&hash.to_ascii_lowercase()) else {
            // The value is not repeated: it may be the token itself, and messages end up in logs.
            return Err(item.problem(
                "this is no SHA-256 in hexadecimal",
                "write the token's hash, never the token: printf %s \"$TOKEN\" | sha256sum",
            ));
        };
        if let Some((other, _)) = tokens.iter().find(|(_, known)| **known == hash) {
            return Err(
                item.problem(&format!("agent `{other}` has the same token"), "give each agent a token of its own")
            );
        }
        tokens.insert(name.to_owned(), hash);
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (String, String) {
        let problem = Settings::parse("brig.toml", text).unwrap_err();
        assert_eq!(problem.code, Code::Config);
        (problem.message, problem.help)
    }

    #[test]
    fn every_key_is_optional_and_every_key_is_read() {
        assert_eq!(Settings::parse("brig.toml", "").unwrap(), Settings::default());
        let hash = Hash::of(b"secret");
        let text = format!(
            "default_profile = \"python\"\ntheme = \"light\"\n[queue]\nlimit = 7\n[agents]\nallow_own_user = true\n\
             [agents.tokens]\nbot = \"{hash}\"\n[engine]\naddress = \"unix:///run/docker.sock\"\n[pool]\ncreators = 1\n\
             [retention]\noutput_age = \"7d\"\noutput_size = \"2g\"\njournal_age = \"90d\"\njournal_size = \"64m\"\nkeep_free = 0\n"
        );
        let settings = Settings::parse("brig.toml", &text).unwrap();
        assert_eq!(settings.default_profile, "python");
        assert_eq!(settings.default_profile_at.as_deref(), Some("brig.toml:1:19"));
        assert_eq!(settings.theme, "light");
        assert_eq!((settings.queue_limit, settings.pool_creators, settings.allow_own_user), (7, 1, true));
        let Retention { output_age_ms, output_bytes, journal_age_ms, journal_bytes, keep_free } = settings.retention;
        assert_eq!((output_age_ms, output_bytes), (7 * 86_400_000, 2 << 30));
        assert_eq!((journal_age_ms, journal_bytes, keep_free), (90 * 86_400_000, 64 << 20, 0));
        assert_eq!(settings.agent_tokens["bot"], hash);
        assert_eq!(settings.engine.address.as_deref(), Some("unix:///run/docker.sock"));
    }

    #[test]
    fn a_reader_learns_where_what_and_what_instead() {
        let all = "known here: default_profile, theme, queue, agents, engine, pool, retention";
        for (text, message, help) in [
            ("thme = \"dark\"", "brig.toml:1:1: `thme` is no key, did you mean `theme`?", all),
            ("\n  nonsense = 1", "brig.toml:2:3: `nonsense` is no key", all),
            ("[queue]\nlimt = 1", "brig.toml:2:1: `queue.limt` is no key, did you mean `limit`?", "known here: limit"),
            (
                "queue.limit = 0",
                "brig.toml:1:15: `queue.limit`: 0 is out of range",
                "write a whole number from 1 to 100000",
            ),
            (
                "queue.limit = \"9\"",
                "brig.toml:1:15: `queue.limit`: this is a text",
                "write a whole number from 1 to 100000",
            ),
            (
                "retention.output_age = 7",
                "brig.toml:1:24: `retention.output_age`: 7 has no unit",
                "write \"7s\" if seconds are meant; a duration is a number with a unit, as in \"10s\", \"15m\" or \"1h30m\" (ms, s, m, h, d)",
            ),
            (
                "retention.journal_size = \"1k\"",
                "brig.toml:1:26: `retention.journal_size`: 1k is out of range",
                "write a size from 1m to 1048576g",
            ),
            ("pool = 3", "brig.toml:1:8: `pool`: this is a whole number", "write a table, as in [pool]"),
            ("theme = \"Dark!\"", "brig.toml:1:9: `theme`: \"Dark!\" is no name", NAME_FORM),
            (
                "agents.allow_own_user = \"yes\"",
                "brig.toml:1:25: `agents.allow_own_user`: this is a text",
                "write true or false, without quotes",
            ),
            (
                "engine.address = \"/var/run/docker.sock\"",
                "brig.toml:1:18: `engine.address`: \"/var/run/docker.sock\" is no address of an engine",
                "write \"unix:///var/run/docker.sock\", \"ssh://USER@HOST\" or \"tcp://HOST:PORT\" (with `[engine.tls]`)",
            ),
            (
                "engine = { address = \"unix:///x\", context = \"east\" }",
                "brig.toml:1:45: `engine.context`: `engine.address` is set as well",
                "keep the one that is meant",
            ),
            (
                "engine = { context = \"east\", tls = { ca = \"/ca\" } }",
                "brig.toml:1:36: `engine.tls`: there is no TCP address that this encrypts",
                "set `engine.address` to \"tcp://HOST:PORT\"; a context has certificates of its own",
            ),
            (
                "engine = { address = \"tcp://x:1\", tls = { ca = \"ca.pem\" } }",
                "brig.toml:1:48: `engine.tls.ca`: \"ca.pem\" is no absolute path",
                "write the file's whole path",
            ),
            (
                "engine = { address = \"tcp://x:1\", tls = { cert = \"/c\" } }",
                "brig.toml:1:50: `engine.tls.cert`: a certificate needs its key",
                "set `engine.tls.key` as well",
            ),
        ] {
            assert_eq!(refused(text), (message.to_owned(), help.to_owned()));
        }
    }

    #[test]
    fn a_token_that_was_written_instead_of_its_hash_is_not_repeated() {
        let (message, help) = refused("agents.tokens.bot = \"hunter2\"");
        assert_eq!(message, "brig.toml:1:21: `agents.tokens.bot`: this is no SHA-256 in hexadecimal");
        assert!(help.contains("sha256sum"), "{help}");
        let hash = Hash::of(b"x");
        let (message, _) = refused(&format!("[agents.tokens]\na = \"{hash}\"\nb = \"{hash}\""));
        assert_eq!(message, "brig.toml:3:5: `agents.tokens.b`: agent `a` has the same token");
    }

    #[test]
    fn text_that_is_no_toml_is_shown_where_it_stops() {
        let (message, help) = refused("theme = \"dark\"\nqueue = [\n");
        assert!(message.starts_with("brig.toml:"), "{message}");
        assert_eq!(help, "the file must be TOML, see https://toml.io");
        let (message, _) = refused("theme = \"a\"\ntheme = \"b\"");
        assert!(message.starts_with("brig.toml:2:1: duplicate key"), "{message}");
    }
}
