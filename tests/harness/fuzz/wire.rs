//! What travels between the processes of a fleet, and from clients to it.

use mobu_fleet::domain::events::Event;
use mobu_fleet::domain::fold::View;
use mobu_fleet::domain::messages::{
    Announcement, Answer, CoordinatorReport, LogEntry, Query, ReadEntry, Report, RequestAnswer, Wire,
};
use mobu_fleet::domain::request::{self, RequestError};
use mobu_fleet::domain::schema::message_types;
use serde_json::{Value, json};

use super::secret::{is_hidden, keeps_it};
use super::{Form, Target, documents, promise};

/// Messages of an earlier version.
const RECORDED: &str = include_str!("../../wire/7516704.json");

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "control_messages",
        form: Form::Json,
        seeds: || examples(&["Announcement", "Query"]),
        words: &["state", "flock", "log", "monkeys"],
        check: |input| {
            both_ways::<Announcement>(input)?;
            both_ways::<Query>(input)
        },
    },
    Target {
        name: "state_log",
        form: Form::Json,
        seeds: || {
            let mut seeds = examples(&["LogEntry"]);
            seeds.extend(documents::flocks().iter().map(entry_of));
            seeds
        },
        words: &["claim", "state", "takeover"],
        check: entry,
    },
    Target {
        name: "reports",
        form: Form::Json,
        seeds: || examples(&["Report", "CoordinatorReport"]),
        words: &["running", "starting", "failed"],
        check: |input| {
            both_ways::<Report>(input)?;
            both_ways::<CoordinatorReport>(input)
        },
    },
    Target {
        name: "answers",
        form: Form::Json,
        seeds: || examples(&["Answer", "RequestAnswer", "Event"]),
        words: &["not_here", "unknown", "accepted"],
        check: |input| {
            both_ways::<Answer>(input)?;
            both_ways::<RequestAnswer>(input)?;
            both_ways::<Event>(input)
        },
    },
    Target {
        name: "requests",
        form: Form::Json,
        seeds: || {
            let starts = documents::flocks()
                .into_iter()
                .map(|flock| json!({ "kind": "start", "flock": flock }));
            let mut seeds = examples(&["Request"]);
            seeds.extend(starts.map(|start| start.to_string().into_bytes()));
            seeds
        },
        words: &["start", "stop", "refresh"],
        check: a_request,
    },
];

/// Returns the documented and the recorded examples of some messages.
fn examples(names: &[&str]) -> Vec<Vec<u8>> {
    let recorded: Value = serde_json::from_str(RECORDED).expect("a recording is JSON");
    let recorded = names.iter().filter_map(|name| recorded.get(name)?.as_object());
    let recorded = recorded.flat_map(|examples| examples.values().cloned());
    let documented = message_types()
        .into_iter()
        .filter(|message| names.contains(&message.name));
    let documented = documented.flat_map(|message| message.examples.into_iter().map(|(_, example)| example));
    recorded
        .chain(documented)
        .map(|example| example.to_string().into_bytes())
        .collect()
}

fn entry_of(flock: &Value) -> Vec<u8> {
    let entry = json!({
        "schema": 1, "epoch": 3, "owner": "o", "seq": 1, "kind": "state", "revision": 9, "by": "somebody", "source": "http",
        "at": "2026-11-22T12:00:00Z",
        "state": {
            "revision": 9,
            "flocks": { flock["name"].as_str().unwrap_or("x"): {
                "config": flock, "generation": 9, "refresh_generation": 9, "since": "2026-11-22T12:00:00Z", "by_autostart": true,
            } },
            "stopped": { "other": { "revision": 4 } },
        },
    });
    entry.to_string().into_bytes()
}

/// What is read and written again is read as the same.
fn both_ways<T: Wire + PartialEq + std::fmt::Debug>(input: &[u8]) -> Result<(), String> {
    match T::decode(T::KIND, input) {
        Ok(message) => {
            let encoded = message.encode();
            let again = T::decode(T::KIND, &encoded)
                .map_err(|error| format!("what was written as {} cannot be read: {error}", T::KIND))?;
            promise(again == message, || format!("{message:?} is read as {again:?}"))
        }
        Err(error) => {
            let text = error.to_string();
            promise(text.contains(T::KIND) || text.contains("schema"), || {
                format!("the error does not say what was expected: {text}")
            })
        }
    }
}

fn entry(input: &[u8]) -> Result<(), String> {
    both_ways::<LogEntry>(input)?;
    let mut view = View::default();
    match LogEntry::read(input) {
        Ok(entry) => {
            if let ReadEntry::Whole(LogEntry { state: Some(state), .. }) = &entry {
                let merged = state.merge(state);
                promise(merged.flocks.len() <= state.flocks.len(), || {
                    "a state merged with itself has more flocks".to_owned()
                })?;
                let again = serde_json::to_vec(state).map_err(|error| error.to_string())?;
                let again: mobu_fleet::domain::desired::DesiredState =
                    serde_json::from_slice(&again).map_err(|error| error.to_string())?;
                promise(again.digest() == state.digest(), || {
                    "a state that was written and read again has another digest".to_owned()
                })?;
            }
            let counted = view.fold_read(0, entry.clone());
            // A reader that sees it twice, as after a reconnection, is no wiser.
            let twice = view.fold_read(1, entry);
            promise(counted == twice, || {
                format!("it counts as {counted:?}, and again as {twice:?}")
            })
        }
        Err(error) => hides(input, &error.to_string()),
    }
}

fn a_request(input: &[u8]) -> Result<(), String> {
    let first = request::parse("", input);
    match &first {
        Ok(_) => {}
        Err(RequestError::Invalid(errors)) => {
            promise(!errors.0.is_empty(), || "it is refused without a mistake".to_owned())?;
            let places = errors
                .0
                .iter()
                .all(|item| item.loc.first().is_some_and(|step| step.to_string() == "body"));
            promise(places && errors.0.iter().all(|item| !item.msg.is_empty()), || {
                format!("a mistake without its place: {errors}")
            })?;
            hides(input, &errors.to_string())?;
        }
        Err(error @ RequestError::Wire(_)) => hides(input, &error.to_string())?,
    }
    promise(request::parse("fleet.report.v1", input).is_err(), || {
        "a report is taken for a request".to_owned()
    })
}

/// What is said of an input that has secrets where they belong has none.
fn hides(input: &[u8], said: &str) -> Result<(), String> {
    match serde_json::from_slice::<Value>(input) {
        Ok(value) if !is_hidden(&value, documents::SECRET_OPTIONS) => Ok(()),
        // What is not even JSON is not repeated at all.
        _ => keeps_it("the error", said),
    }
}
