//! Pictures from the real views. They are compared with what is in the repository; `BRIG_BLESS=1` writes them anew.

use std::path::PathBuf;

use super::super::fixtures::{Harness, detail, story_output, theme};
use super::super::msg::Msg;
use super::super::svg;
use crossterm::event::KeyCode;

fn picture(harness: &Harness, name: &str) -> String {
    let theme = theme(name);
    svg::render(&harness.draw(&theme), "#d0d0d0", "#101010")
}

fn dashboard(size: (u16, u16)) -> Harness {
    let mut harness = Harness::with_story(size);
    harness.select("c4m8z1vd");
    let id = harness.state.output.as_ref().unwrap().of.clone();
    harness.send(Msg::Output(id.clone(), story_output()));
    harness.send(Msg::OutputState(id, Ok(())));
    harness.key('g');
    harness.key('2');
    harness.key('1');
    harness
}

#[test]
fn the_readmes_picture_is_what_the_console_draws() {
    let mut harness = dashboard((100, 30));
    harness.select("c4m8z1vd");
    let id = harness.state.output.as_ref().unwrap().of.clone();
    harness.send(Msg::Output(id.clone(), story_output()));
    harness.send(Msg::OutputState(id, Ok(())));
    harness.wait(1000);
    let svg = picture(&harness, "dark");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("screenshots/dashboard.svg");
    if std::env::var_os("BRIG_BLESS").is_some() {
        std::fs::write(&path, &svg).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(svg == committed, "{} is out of date: look at what has changed, then set BRIG_BLESS=1", path.display());
}

/// Writes what there is to look at into the folder that `BRIG_PICTURES` names, in all sizes and themes.
#[test]
fn pictures_to_look_at() {
    let Some(folder) = std::env::var_os("BRIG_PICTURES").map(PathBuf::from) else { return };
    for size in [(60, 16), (80, 24), (100, 30), (120, 40), (200, 60)] {
        for theme in ["dark", "light", "none"] {
            let save = |harness: &Harness, name: &str| {
                let file = format!("{name}-{}x{}-{theme}.svg", size.0, size.1);
                std::fs::write(folder.join(file), picture(harness, theme)).unwrap();
            };
            let mut harness = dashboard(size);
            harness.wait(1000);
            save(&harness, "queue");
            harness.select("c4m8z1vd");
            let id = harness.state.output.as_ref().unwrap().of.clone();
            harness.send(Msg::Output(id.clone(), story_output()));
            save(&harness, "output");
            harness.key('3');
            harness.key('G');
            save(&harness, "pool");
            harness.key('?');
            save(&harness, "help");
            harness.press(KeyCode::Esc);
            harness.key('q');
            save(&harness, "quit");
            harness.press(KeyCode::Esc);
            harness.select("b6y3q9ha");
            harness.wait(1000);
            harness.key('r');
            harness.write("it deploys to staging, which is frozen until Monday");
            save(&harness, "reject");
            harness.press(KeyCode::Esc);
            harness.wait(1000);
            harness.key('a');
            let row = harness.state.proposal(&harness.state.queue_list.cursor.clone().unwrap()).unwrap().clone();
            harness.send(Msg::Detail(row.id.clone(), Ok(Box::new(detail(&row, &["sh", "deploy.sh"])))));
            harness.wait(6000);
            save(&harness, "review");
            harness.press(KeyCode::Esc);
            let problem =
                brig_core::problem::Problem::new(brig_core::problem::Code::NoSupervisor, "it has ended the connection");
            harness.send(Msg::Lost(problem));
            save(&harness, "lost");
            let mut empty = Harness::new(size);
            let mut story = super::super::fixtures::story();
            story.proposals.clear();
            story.sandboxes.retain(|row| row.proposal.is_none());
            empty.update(crate::api::wire::Update::Snapshot(story));
            save(&empty, "empty");
        }
    }
}
