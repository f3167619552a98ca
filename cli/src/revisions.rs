//! `mobu revisions`: what changed, when, and who asked for it.

use clap::Args;
use serde_json::Value;

use crate::args::Connection;
use crate::change::{Format, texts};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::server::Server;
use crate::table::{UNKNOWN, render};

const AFTER_HELP: &str = "\
Examples:
  mobu revisions
  mobu revisions --json | jq '.[0]'";

/// List the last changes of what shall run
#[derive(Debug, Args)]
#[command(visible_alias = "log", after_help = AFTER_HELP)]
pub(crate) struct Revisions {
    #[command(flatten)]
    format: Format,
}

impl Revisions {
    pub(crate) async fn run(self, connection: &Connection, out: &mut Output) -> Result<Outcome, Failure> {
        let reply = Server::new(connection)?.get(&["revisions"]).await?;
        if self.format.json {
            out.json(&reply.json()?)?;
        } else {
            out.line(&table(&reply.read::<Vec<Value>>()?))?;
        }
        Ok(Outcome::Done)
    }
}

fn table(revisions: &[Value]) -> String {
    let rows = revisions
        .iter()
        .map(|revision| {
            vec![
                text(revision.get("revision")),
                text(revision.get("at")),
                text(revision.get("source")),
                text(revision.get("by")),
                revision.get("change").map_or_else(|| UNKNOWN.to_owned(), change),
                replicas(revision.get("replicas")),
            ]
        })
        .collect();
    render(&["REVISION", "AT", "SOURCE", "BY", "CHANGE", "REPLICAS"], &[0], rows)
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => UNKNOWN.to_owned(),
    }
}

/// Writes a change as `start lambs`.
fn change(change: &Value) -> String {
    let mut parts = vec![text(change.get("kind"))];
    parts.extend(change.get("flock").and_then(Value::as_str).map(ToOwned::to_owned));
    for key in ["flocks", "started"] {
        parts.extend(texts(change.get(key)));
    }
    let stopped = texts(change.get("stopped"));
    if !stopped.is_empty() {
        parts.push(format!("(stopped {})", stopped.join(" ")));
    }
    if let Some(repo) = change.get("repo_url").and_then(Value::as_str) {
        parts.push(format!("({repo} {})", text(change.get("repo_ref"))));
    }
    parts.join(" ")
}

/// Counts what the replicas made of a revision, as in `2 applied, 1 failed: 2`; those that have not applied it are named.
fn replicas(replicas: Option<&Value>) -> String {
    let Some(replicas) = replicas.and_then(Value::as_object) else {
        return UNKNOWN.to_owned();
    };
    let mut counts = std::collections::BTreeMap::<&str, Vec<&str>>::new();
    for (id, made) in replicas {
        let outcome = made
            .get("outcome")
            .or(Some(made))
            .and_then(Value::as_str)
            .unwrap_or(UNKNOWN);
        counts.entry(outcome).or_default().push(id);
    }
    let parts: Vec<String> = counts
        .into_iter()
        .map(|(outcome, ids)| match outcome {
            "applied" => format!("{} applied", ids.len()),
            other => format!("{} {other}: {}", ids.len(), ids.join(" ")),
        })
        .collect();
    if parts.is_empty() {
        "-".to_owned()
    } else {
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use insta::assert_snapshot;
    use serde_json::json;

    use crate::stand_in::{StandIn, run};

    #[tokio::test]
    async fn revisions_are_a_table_with_what_each_changed() {
        let server = StandIn::start().await;
        let body = json!([
            {"revision": 12, "at": "2026-01-02T03:04:05Z", "source": "github", "by": "octocat",
             "change": {"kind": "refresh", "flocks": ["a", "b"], "repo_url": "https://example.org/n", "repo_ref": "main"},
             "replicas": {"0": {"outcome": "applied"}, "1": {"outcome": "failed", "error": "x"}, "2": {"outcome": "applied"}}},
            {"revision": 11, "at": "2026-01-02T03:04:00Z", "source": "http", "by": "ada", "change": {"kind": "start", "flock": "a"}},
            {"revision": 1, "source": "autostart", "change": {"kind": "autostart", "started": ["a"], "stopped": ["z"]}, "replicas": {}}]);
        server.answer("GET /mobu/revisions", StatusCode::OK, &[], &body);
        let end = run(&server, &["revisions"]).await;
        assert_eq!(end.code, 0);
        assert_snapshot!(end.stdout, @r"
        REVISION  AT                    SOURCE     BY       CHANGE                                    REPLICAS
              12  2026-01-02T03:04:05Z  github     octocat  refresh a b (https://example.org/n main)  2 applied, 1 failed: 1
              11  2026-01-02T03:04:00Z  http       ada      start a                                   ?
               1  ?                     autostart  ?        autostart a (stopped z)                   -
        ");
        let end = run(&server, &["log", "--json"]).await;
        assert_eq!(serde_json::from_str::<serde_json::Value>(&end.stdout).unwrap(), body);
    }
}
