//! `mobu report`: a flock's logs and figures as files, named as monkeyflocker names them.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use mobu_fleet::domain::ids::FlockName;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::args::{Connection, parse_flock};
use crate::change::texts;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::progress::Progress;
use crate::server::Server;
use crate::table::counted;

const AFTER_HELP: &str = "\
Example:
  mobu report lambs -o reports/lambs    writes {user}_log.txt and {user}_stats.json per monkey";

/// Write the log and the figures of every monkey of a flock into a directory
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Report {
    /// Name of the flock
    #[arg(value_name = "NAME", value_parser = parse_flock)]
    flock: FlockName,
    /// Directory to write into; made if it is not there
    #[arg(short = 'o', long, env = "MONKEYFLOCKER_OUTPUT", value_name = "DIR")]
    output: PathBuf,
}

/// The option of other commands that asks for a report before anything is changed.
#[derive(Debug, Args)]
pub(crate) struct ReportFirst {
    /// Write a report into this directory first
    #[arg(short = 'o', long, env = "MONKEYFLOCKER_OUTPUT", value_name = "DIR")]
    output: Option<PathBuf>,
}

impl Report {
    pub(crate) async fn run(self, connection: &Connection, out: &mut Output) -> Result<Outcome, Failure> {
        let server = Server::new(connection)?;
        let written = write(&server, self.flock.as_str(), &self.output, out).await?;
        out.line(&written.sentence(self.flock.as_str(), &self.output))?;
        Ok(written.outcome())
    }
}

impl ReportFirst {
    /// Returns whether a report is asked for.
    pub(crate) const fn is_wanted(&self) -> bool {
        self.output.is_some()
    }

    /// Writes the reports of some flocks, if they are asked for. If one cannot be written whole, nothing is to be changed:
    /// what it lacks would be lost.
    pub(crate) async fn run(&self, server: &Server, flocks: &[&str], out: &mut Output) -> Result<(), Failure> {
        let Some(folder) = &self.output else {
            return Ok(());
        };
        for flock in flocks {
            let written = write(server, flock, folder, out).await?;
            out.note(&written.sentence(flock, folder));
            if written.outcome() != Outcome::Done {
                return Err(Failure::Report);
            }
        }
        Ok(())
    }
}

/// What a report holds.
#[derive(Debug, Default)]
struct Written {
    monkeys: usize,
    logs_missing: usize,
    replicas_missing: Vec<String>,
}

impl Written {
    fn sentence(&self, flock: &str, folder: &Path) -> String {
        let monkeys = counted(self.monkeys, "monkey");
        let mut text = format!("Reported {monkeys} of flock {flock} in {}", folder.display());
        if !self.replicas_missing.is_empty() {
            text.push_str("; no answer from replica ");
            text.push_str(&self.replicas_missing.join(", "));
        }
        text
    }

    fn outcome(&self) -> Outcome {
        match (self.logs_missing, self.replicas_missing.is_empty()) {
            (0, true) => Outcome::Done,
            (0, false) => Outcome::Incomplete,
            _ => Outcome::Failed,
        }
    }
}

async fn write(server: &Server, flock: &str, folder: &Path, out: &mut Output) -> Result<Written, Failure> {
    let _progress = Progress::start(out, format!("Reporting flock {flock}"));
    let reply = server.get(&["flocks", flock]).await?;
    let body = reply.json()?;
    let mut written = Written {
        replicas_missing: reply.missing.clone(),
        ..Written::default()
    };
    if written.replicas_missing.is_empty() {
        written.replicas_missing = texts(body.get("missing"));
    }
    fs::create_dir_all(folder).map_err(|source| file(folder, source))?;
    for monkey in body.get("monkeys").and_then(Value::as_array).into_iter().flatten() {
        let Some(name) = monkey.get("name").and_then(Value::as_str) else {
            continue;
        };
        let user = monkey.pointer("/user/username").and_then(Value::as_str).unwrap_or(name);
        let stem = stem(user);
        write_stats(monkey.clone(), &folder.join(format!("{stem}_stats.json")))?;
        match write_log(server, flock, name, &folder.join(format!("{stem}_log.txt"))).await {
            Ok(()) => {}
            // A fleet that keeps no logs, or a monkey that has just gone: the other files are worth having.
            Err(failure @ Failure::Refused { .. }) => {
                out.note(&format!("no log of {name}: {failure}"));
                written.logs_missing += 1;
            }
            Err(failure) => return Err(failure),
        }
        written.monkeys += 1;
    }
    Ok(written)
}

fn write_stats(mut monkey: Value, path: &Path) -> Result<(), Failure> {
    monkey.sort_all_objects();
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    monkey
        .serialize(&mut serializer)
        .expect("a JSON value can be written to memory");
    fs::write(path, text).map_err(|source| file(path, source))
}

async fn write_log(server: &Server, flock: &str, monkey: &str, path: &Path) -> Result<(), Failure> {
    let mut stream = server.log(flock, monkey, 0).await?;
    let mut target = File::create(path).map_err(|source| file(path, source))?;
    while let Some(piece) = stream.next().await? {
        target.write_all(&piece).map_err(|source| file(path, source))?;
    }
    Ok(())
}

/// Makes a user's name safe as part of a file name: mobu lets it hold anything behind its prefix.
fn stem(user: &str) -> String {
    user.chars()
        .map(|c| {
            if c.is_control() || "/\\:*?\"<>|".contains(c) {
                '_'
            } else {
                c
            }
        })
        .collect()
}

fn file(path: &Path, source: std::io::Error) -> Failure {
    Failure::File {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use insta::assert_snapshot;
    use serde_json::{Value, json};

    use crate::stand_in::{StandIn, run};

    async fn fleet_with_one_monkey() -> StandIn {
        let server = StandIn::start().await;
        let body = json!({"name": "lambs", "config": {}, "monkeys": [{
            "state": "RUNNING", "name": "bot-mobu/../lamb1",
            "user": {"username": "bot-mobu/../lamb1", "scopes": [], "token": "gt-key.***"},
            "business": {"success_count": 3, "name": "EmptyLoop", "failure_count": 0, "refreshing": false}}]});
        server.answer("GET /mobu/flocks/lambs", StatusCode::OK, &[], &body);
        server.answer_text(
            "GET /mobu/flocks/lambs/monkeys/bot-mobu%2F..%2Flamb1/log",
            &[],
            "2026-01-01 first\n",
        );
        server
    }

    #[tokio::test]
    async fn a_report_is_two_files_per_monkey_inside_the_directory() {
        let server = fleet_with_one_monkey().await;
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("made/with parents");
        let end = run(&server, &["report", "lambs", "-o", target.to_str().unwrap()]).await;
        assert_eq!((end.code, end.stderr.as_str()), (0, ""));
        assert_eq!(
            end.stdout,
            format!("Reported 1 monkey of flock lambs in {}\n", target.display())
        );
        let log = std::fs::read_to_string(target.join("bot-mobu_.._lamb1_log.txt")).unwrap();
        assert_eq!(log, "2026-01-01 first\n");
        let stats = std::fs::read_to_string(target.join("bot-mobu_.._lamb1_stats.json")).unwrap();
        assert_snapshot!(stats, @r#"
        {
            "business": {
                "failure_count": 0,
                "name": "EmptyLoop",
                "refreshing": false,
                "success_count": 3
            },
            "name": "bot-mobu/../lamb1",
            "state": "RUNNING",
            "user": {
                "scopes": [],
                "token": "gt-key.***",
                "username": "bot-mobu/../lamb1"
            }
        }
        "#);
    }

    #[tokio::test]
    async fn a_stop_with_output_reports_first_and_keeps_stdout_for_its_result() {
        let server = fleet_with_one_monkey().await;
        server.answer("DELETE /mobu/flocks/lambs", StatusCode::NO_CONTENT, &[], &Value::Null);
        let folder = tempfile::tempdir().unwrap();
        let end = run(&server, &["stop", "lambs", "-o", folder.path().to_str().unwrap()]).await;
        assert_eq!((end.code, end.stdout.as_str()), (0, "Stopped flock lambs\n"));
        let order: Vec<String> = server.calls().into_iter().map(|call| call.route).collect();
        assert_eq!(order.last().unwrap(), "DELETE /mobu/flocks/lambs");
        assert_eq!(order.len(), 3);
    }

    #[tokio::test]
    async fn nothing_is_stopped_if_its_report_lacks_a_log() {
        let server = fleet_with_one_monkey().await;
        let body = json!({"detail": [{"msg": "Mobu is not configured to retain monkey logs", "type": "mobu_not_retaining_logs"}]});
        server.answer(
            "GET /mobu/flocks/lambs/monkeys/bot-mobu%2F..%2Flamb1/log",
            StatusCode::NOT_FOUND,
            &[],
            &body,
        );
        let folder = tempfile::tempdir().unwrap();
        let end = run(&server, &["stop", "lambs", "-o", folder.path().to_str().unwrap()]).await;
        assert_eq!(end.code, 1);
        assert!(
            end.stderr.contains("Mobu is not configured to retain monkey logs"),
            "{}",
            end.stderr
        );
        assert!(server.calls().iter().all(|call| !call.route.starts_with("DELETE")));
    }
}
