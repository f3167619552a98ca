//! Says what became of a change of the desired state, the same way for every command.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::server::Reply;
use crate::table::counted;

/// The option that asks for the server's own words.
#[derive(Debug, Args)]
pub(crate) struct Format {
    /// Print the fleet's answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// What became of a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Revision that it made, if that is known.
    pub revision: Option<u64>,
    /// Whether everybody has applied it; if not, `missing` may say who has not.
    pub complete: bool,
    /// Replicas that have not applied it in time.
    pub missing: Vec<String>,
    /// Replicas that cannot apply it for now, and why.
    pub failed: Vec<(String, String)>,
}

impl Change {
    /// Reads it from an answer and its body. `applied` are the status codes that promise that it was applied everywhere.
    pub(crate) fn of(reply: &Reply, body: &Value, applied: &[u16]) -> Self {
        let revision = reply.revision.or_else(|| body.get("revision").and_then(Value::as_u64));
        let mut missing = reply.missing.clone();
        if missing.is_empty() {
            missing = texts(body.get("missing"));
        }
        let replicas = [body.get("replicas"), body.pointer("/flock/replicas")];
        let failed = replicas
            .into_iter()
            .flatten()
            .filter_map(Value::as_array)
            .flatten()
            .filter_map(|replica| {
                let id = replica.get("instance_id")?.as_str()?;
                let error = replica.get("error")?.as_str()?;
                (!missing.iter().any(|other| other == id)).then(|| (id.to_owned(), error.to_owned()))
            })
            .collect();
        Self {
            revision,
            complete: missing.is_empty() && applied.contains(&reply.status.as_u16()),
            missing,
            failed,
        }
    }

    /// Prints one line that says how it went, and why it failed where it did. `done` and `accepted` begin that line.
    pub(crate) fn print(&self, out: &mut Output, done: &str, accepted: &str) -> Result<Outcome, Failure> {
        let revision = self
            .revision
            .map(|revision| format!(" (revision {revision})"))
            .unwrap_or_default();
        let line = match (self.failed.as_slice(), self.complete) {
            ([], true) => format!("{done}{revision}"),
            ([], false) => format!("{accepted}{revision}, but {}", self.waiting()),
            (failed, complete) => {
                let failed: Vec<&str> = failed.iter().map(|(id, _)| id.as_str()).collect();
                let mut line = format!("{accepted}{revision}, but failed on {}", replicas(&failed));
                if !complete {
                    line.push_str(", and ");
                    line.push_str(&self.waiting());
                }
                line
            }
        };
        out.line(&line)?;
        Ok(self.explain(out))
    }

    /// Says on stderr why it failed where it did, and returns how the command ends.
    pub(crate) fn explain(&self, out: &mut Output) -> Outcome {
        for (id, error) in &self.failed {
            out.note(&format!("replica {id}: {error}"));
        }
        match (self.failed.is_empty(), self.complete) {
            (false, _) => Outcome::Failed,
            (true, false) => Outcome::Incomplete,
            (true, true) => Outcome::Done,
        }
    }

    fn waiting(&self) -> String {
        let missing: Vec<&str> = self.missing.iter().map(String::as_str).collect();
        match missing.as_slice() {
            [] => "not applied everywhere in time".to_owned(),
            missing => format!("not applied in time by {}", replicas(missing)),
        }
    }
}

/// Prints the server's answer; where that has no body, what its headers say.
pub(crate) fn print_json(out: &mut Output, reply: &Reply, body: Value) -> Result<(), Failure> {
    out.json(&match body {
        Value::Null => json!({"revision": reply.revision, "missing": reply.missing}),
        body => body,
    })
}

/// Writes `12 monkeys on 3 replicas`, or as much of it as a flock's data says.
pub(crate) fn monkeys(flock: &Value) -> Option<String> {
    let monkeys = flock.get("monkeys")?.as_array()?;
    let replicas: BTreeSet<&str> = monkeys
        .iter()
        .filter_map(|monkey| monkey.get("replica")?.as_str())
        .collect();
    let mut text = counted(monkeys.len(), "monkey");
    if !replicas.is_empty() {
        text.push_str(" on ");
        text.push_str(&counted(replicas.len(), "replica"));
    }
    Some(text)
}

/// Returns the texts of a list, or nothing if it is no list.
pub(crate) fn texts(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(ToOwned::to_owned)
        .collect()
}

/// Writes `replica 1`, or `replicas 1, 2`.
pub(crate) fn replicas(ids: &[&str]) -> String {
    let noun = if ids.len() == 1 { "replica" } else { "replicas" };
    format!("{noun} {}", ids.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(change: &Change) -> (String, String, Outcome) {
        let (mut out, stdout, stderr) = Output::captured();
        let outcome = change
            .print(&mut out, "Stopped flock lambs", "Stop of flock lambs accepted")
            .unwrap();
        (stdout.text(), stderr.text(), outcome)
    }

    #[test]
    fn a_failure_on_one_replica_outweighs_another_that_is_late() {
        let change = Change {
            revision: Some(4),
            complete: false,
            missing: vec!["1".to_owned()],
            failed: vec![("2".to_owned(), "no token for bot-mobu-lamb-instance-2-1".to_owned())],
        };
        let (stdout, stderr, outcome) = printed(&change);
        assert_eq!(
            stdout,
            "Stop of flock lambs accepted (revision 4), but failed on replica 2, and not applied in time by replica 1\n"
        );
        assert_eq!(stderr, "mobu: replica 2: no token for bot-mobu-lamb-instance-2-1\n");
        assert_eq!(outcome, Outcome::Failed);
    }

    #[test]
    fn a_server_that_knows_no_revisions_is_not_credited_with_one() {
        let change = Change {
            complete: true,
            ..Change::default()
        };
        assert_eq!(
            printed(&change),
            ("Stopped flock lambs\n".to_owned(), String::new(), Outcome::Done)
        );
    }
}
