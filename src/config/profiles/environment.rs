//! `environment`: variables with their values, and secrets of which only the source is written down.

use std::collections::BTreeMap;
use std::path::Path;

use brig_core::problem::Problem;
use brig_core::profile::SecretSource;

use super::Base;
use super::volumes::tidy;
use crate::config::read::{Item, Section};

/// What every step of a profile gets.
#[derive(Default)]
pub(super) struct Environment {
    pub variables: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, SecretSource>,
}

const SECRET: &str = "write where its value comes from: { environment = \"VARIABLE\" } for one of the supervisor's own \
                      variables, or { file = \"./path\" }";

pub(super) fn read(root: &Section<'_>, base: &Base<'_>) -> Result<Environment, Problem> {
    let mut all = Environment::default();
    let Some(item) = root.item("environment") else { return Ok(all) };
    let Some(list) = item.list() else {
        if !item.is_table() {
            return Err(item.wrong("a table or a list, as in { LANG = \"C.UTF-8\" } or [\"LANG=C.UTF-8\"]"));
        }
        for (name, item) in item.table()?.items() {
            check_name(&item, name)?;
            if item.is_table() {
                all.secrets.insert(name.to_owned(), secret(&item, base)?);
            } else {
                let value = item.scalar().ok_or_else(|| item.wrong("a text in quotes, or a table for a secret"))?;
                all.variables.insert(name.to_owned(), checked(&item, value)?);
            }
        }
        return Ok(all);
    };
    for item in list {
        let text = item.text()?;
        let Some((name, value)) = text.split_once('=') else {
            return Err(item.problem(
                &format!("\"{text}\" has no value, and brig hands on no variables of its own"),
                format!("write \"{text}=VALUE\", or as a secret: environment = {{ {text} = {{ environment = \"{text}\" }} }}"),
            ));
        };
        check_name(&item, name)?;
        if all.variables.insert(name.to_owned(), checked(&item, value)?).is_some() {
            return Err(item.problem(&format!("\"{name}\" is there twice"), "keep one of them"));
        }
    }
    Ok(all)
}

fn secret(item: &Item<'_>, base: &Base<'_>) -> Result<SecretSource, Problem> {
    let section = item.table()?;
    section.only(&["environment", "file"], &[])?;
    match (section.item("environment"), section.item("file")) {
        (Some(from), None) => {
            let name = from.text()?;
            check_name(&from, name)?;
            Ok(SecretSource::Environment(name.to_owned()))
        }
        (None, Some(from)) => {
            let text = from.text()?;
            let path = match (text.strip_prefix("~/"), base.home, base.directory) {
                (Some(rest), Some(home), _) => home.join(rest),
                (None, _, Some(directory)) => directory.join(text),
                (None, _, None) if text.starts_with('/') => Path::new(text).to_path_buf(),
                _ => return Err(from.problem("it is relative to no directory", "write an absolute path")),
            };
            let path = tidy(&path);
            let plain = path.to_str().filter(|text| !text.is_empty() && !text.contains(char::is_control));
            match plain {
                Some(path) => Ok(SecretSource::File(path.to_owned())),
                None => {
                    Err(from.problem("it is no path of text", "write the path of a file with the value alone in it"))
                }
            }
        }
        (Some(_), Some(_)) => Err(item.problem("a secret comes from one place, and this names two", SECRET)),
        (None, None) => Err(item.problem("this secret comes from nowhere", SECRET)),
    }
}

pub(super) fn check_name(item: &Item<'_>, name: &str) -> Result<(), Problem> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(());
    }
    Err(item.problem(&format!("\"{name}\" is no name of a variable"), "letters, digits and _ only, no digit first"))
}

pub(super) fn checked(item: &Item<'_>, value: &str) -> Result<String, Problem> {
    if value.contains('\0') {
        return Err(item.problem("the value has a NUL, which no variable can hold", "leave it out"));
    }
    Ok(value.to_owned())
}
