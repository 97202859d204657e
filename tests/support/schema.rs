//! Looks whether a value is what a JSON schema says: as much of JSON Schema 2020-12 as brig's own documents use. A word that
//! it does not know is an error, so nothing goes unchecked; and so is a field that the schema does not describe, although
//! the schema lets others have more of them.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use brig::cli::answers;
use regex_automata::dfa::regex::Regex;
use serde_json::{Map, Value};

/// What is only said to people, or looked at nowhere.
const WORDS: [&str; 10] = [
    "title",
    "description",
    "default",
    "examples",
    "format",
    "contentEncoding",
    "$schema",
    "$defs",
    "discriminator",
    "deprecated",
];

/// Fails unless `value` is what `schema` says. `document` is what references are looked up in.
pub fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    Check { document }.whole(schema, value, "$")
}

/// The same, as an assertion that shows the value.
#[track_caller]
pub fn assert_fits(document: &Value, schema: &Value, value: &Value) {
    if let Err(wrong) = fits(document, schema, value) {
        panic!("{wrong}\nin {value:#}");
    }
}

/// Which of the answers in `docs/schema.json` a command with these arguments prints.
pub fn answer_of(args: &[impl AsRef<OsStr>]) -> String {
    let words: Vec<_> = args.iter().filter_map(|it| it.as_ref().to_str()).collect();
    let has = |word: &str| words.contains(&word) || word.starts_with("--") && words.contains(&&word[1..3]);
    let first = words.iter().find(|word| !word.starts_with('-')).unwrap();
    let is_it = |command: &str| command.split(' ').next() == Some(*first) && command.split(' ').all(has);
    let all = answers::all();
    let longest = all.iter().filter(|it| is_it(it.command)).max_by_key(|it| it.command.len());
    longest.unwrap_or_else(|| panic!("no answer of `brig {}` is described", words.join(" "))).command.to_owned()
}

/// Fails unless the text is what the document says that the command (or `error`) prints. Gives the last value of it.
pub fn assert_printed(document: &Value, command: &str, text: &str) -> Value {
    let answer = answers::all().into_iter().find(|it| it.command == command);
    let name = answer.map_or_else(|| command.to_owned(), |it| it.name());
    let is_lines = answer.is_some_and(|it| it.is_lines);
    assert!(is_lines || text.lines().count() == 1, "`brig {command} --json` prints other than one line: {text}");
    let mut last = Value::Null;
    for line in text.lines() {
        last = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_fits(document, &document["$defs"][&name], &last);
    }
    last
}

struct Check<'a> {
    document: &'a Value,
}

/// The fields of a value that a schema describes; nothing where it describes whatever there may be.
type Described = Option<BTreeSet<String>>;

impl Check<'_> {
    /// A value with all of its fields.
    fn whole(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let described = self.part(schema, value, at)?;
        if let (Some(fields), Some(described)) = (value.as_object(), described)
            && let Some(field) = fields.keys().find(|field| !described.contains(*field))
        {
            return Err(format!("{at} has a field `{field}` that nothing describes"));
        }
        Ok(())
    }

    /// A value as far as this schema describes it.
    fn part(&self, schema: &Value, value: &Value, at: &str) -> Result<Described, String> {
        let words = match schema {
            Value::Bool(true) => return Ok(None),
            Value::Object(words) => words,
            other => return Err(format!("{at}: {other} lets nothing through, or is no schema")),
        };
        if words.keys().all(|word| WORDS.contains(&word.as_str())) {
            return Ok(None);
        }
        let mut described = Some(BTreeSet::new());
        for (word, wanted) in words {
            match word.as_str() {
                "$ref" => add(&mut described, self.part(self.find(wanted)?, value, at)?),
                "allOf" => {
                    for part in list(wanted) {
                        add(&mut described, self.part(part, value, at)?);
                    }
                }
                "anyOf" | "oneOf" => add(&mut described, self.one_of(list(wanted), word == "oneOf", value, at)?),
                "properties" => add(&mut described, Some(self.properties(wanted, value, at)?)),
                "additionalProperties" => add(&mut described, self.others(words, wanted, value, at)?),
                "items" => self.items(words, wanted, value, at)?,
                "prefixItems" => {
                    for (number, (schema, item)) in list(wanted).iter().zip(list(value)).enumerate() {
                        self.whole(schema, item, &format!("{at}[{number}]"))?;
                    }
                }
                _ => self.word(word, wanted, value, at)?,
            }
        }
        Ok(described)
    }

    fn find(&self, reference: &Value) -> Result<&Value, String> {
        let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
        pointer.and_then(|pointer| self.document.pointer(pointer)).ok_or_else(|| format!("there is no {reference}"))
    }

    fn one_of(&self, schemas: &[Value], just_one: bool, value: &Value, at: &str) -> Result<Described, String> {
        let mut wrong = Vec::new();
        let mut fitting = Vec::new();
        for schema in schemas {
            match self.part(schema, value, at) {
                Ok(described) => fitting.push(described),
                Err(how) => wrong.push(how),
            }
        }
        if fitting.is_empty() {
            return Err(format!("{at} fits none of {}: {}", schemas.len(), wrong.join("; ")));
        }
        if just_one && fitting.len() > 1 {
            return Err(format!("{at} fits {} of {} where one alone should", fitting.len(), schemas.len()));
        }
        let mut all = Some(BTreeSet::new());
        fitting.into_iter().for_each(|described| add(&mut all, described));
        Ok(all)
    }

    fn properties(&self, schemas: &Value, value: &Value, at: &str) -> Result<BTreeSet<String>, String> {
        let mut described = BTreeSet::new();
        for (name, schema) in schemas.as_object().into_iter().flatten() {
            if let Some(field) = value.get(name) {
                self.whole(schema, field, &format!("{at}.{name}"))?;
                described.insert(name.clone());
            }
        }
        Ok(described)
    }

    fn others(&self, words: &Map<String, Value>, schema: &Value, value: &Value, at: &str) -> Result<Described, String> {
        let mut described = BTreeSet::new();
        for (name, field) in value.as_object().into_iter().flatten() {
            if words.get("properties").and_then(|known| known.get(name)).is_none() {
                if *schema == Value::Bool(false) {
                    return Err(format!("{at} may not have a field `{name}`"));
                }
                self.whole(schema, field, &format!("{at}.{name}"))?;
                described.insert(name.clone());
            }
        }
        Ok(Some(described))
    }

    fn items(&self, words: &Map<String, Value>, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let before = words.get("prefixItems").map_or(0, |items| list(items).len());
        for (number, item) in list(value).iter().enumerate().skip(before) {
            self.whole(schema, item, &format!("{at}[{number}]"))?;
        }
        Ok(())
    }

    /// A word about the value itself.
    fn word(&self, word: &str, wanted: &Value, value: &Value, at: &str) -> Result<(), String> {
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let is_right = match word {
            "type" => match wanted {
                Value::Array(types) => types.iter().any(|it| is_a(it, value)),
                one => is_a(one, value),
            },
            "const" => value == wanted,
            "enum" => list(wanted).contains(value),
            "required" => {
                list(wanted).iter().all(|name| !value.is_object() || value.get(name.as_str().unwrap()).is_some())
            }
            "pattern" => value.as_str().is_none_or(|text| matches(wanted.as_str().unwrap(), text)),
            "minimum" => !value.is_number() || number(value) >= number(wanted),
            "maximum" => !value.is_number() || number(value) <= number(wanted),
            "minItems" => !value.is_array() || list(value).len() as u64 >= wanted.as_u64().unwrap(),
            "maxItems" => !value.is_array() || list(value).len() as u64 <= wanted.as_u64().unwrap(),
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 >= wanted.as_u64().unwrap()),
            word => return if WORDS.contains(&word) { Ok(()) } else { Err(format!("the word `{word}` is not known")) },
        };
        if is_right { Ok(()) } else { Err(format!("{at} is {value}, and {word} is {wanted}")) }
    }
}

fn add(all: &mut Described, more: Described) {
    match (&mut *all, more) {
        (Some(all), Some(more)) => all.extend(more),
        _ => *all = None,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn is_a(wanted: &Value, value: &Value) -> bool {
    match wanted.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("there is no type {other}"),
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).unwrap().is_match(text.as_bytes())
}

mod tests {
    use serde_json::json;

    use super::fits;

    #[test]
    fn what_does_not_fit_is_found() {
        let document = json!({
            "Id": { "type": "string", "pattern": "^[a-z]{3}$" },
            "Row": { "type": "object", "properties": { "id": { "$ref": "#/Id" } }, "required": ["id"] },
        });
        let lines = json!({ "oneOf": [
            { "type": "object", "properties": { "type": { "const": "row" } }, "required": ["type"], "$ref": "#/Row" },
            { "type": "object", "properties": { "type": { "const": "alive" } }, "required": ["type"] },
        ] });
        let check = |value| fits(&document, &lines, &value);
        check(json!({ "type": "row", "id": "abc" })).unwrap();
        check(json!({ "type": "alive" })).unwrap();
        for (value, why) in [
            (json!({ "type": "row" }), "required"),
            (json!({ "type": "row", "id": "ab" }), "pattern"),
            (json!({ "type": "row", "id": 7 }), "type"),
            (json!({ "type": "row", "id": "abc", "more": 1 }), "nothing describes"),
            (json!({ "type": "alive", "id": "abc" }), "nothing describes"),
            (json!({ "type": "other" }), "const"),
        ] {
            let wrong = check(value.clone()).unwrap_err();
            assert!(wrong.contains(why), "{value}: {wrong}");
        }
        let closed = json!({ "type": "object", "additionalProperties": { "type": "integer" } });
        fits(&document, &closed, &json!({ "a": 1 })).unwrap();
        assert!(fits(&document, &closed, &json!({ "a": "1" })).is_err());
        assert!(fits(&document, &json!({ "uniqueItems": true }), &json!([])).unwrap_err().contains("not known"));
    }
}
