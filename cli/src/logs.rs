//! `mobu logs`: what monkeys write, once or as it comes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use mobu_fleet::domain::ids::FlockName;

use crate::args::{Connection, parse_flock};
use crate::change::replicas;
use crate::escapes::Escapes;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::server::Server;

/// How long to wait between two looks at the logs.
const POLL: Duration = Duration::from_secs(1);

const AFTER_HELP: &str = "\
Examples:
  mobu logs lambs bot-mobu-lamb1                  one monkey's log as it is
  mobu logs lambs                                 those of all monkeys, each line with its monkey's name
  mobu logs lambs --follow | grep ERROR           what comes, until the flock is stopped";

/// Print the logs of a flock's monkeys
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Logs {
    /// Name of the flock
    #[arg(value_name = "FLOCK", value_parser = parse_flock)]
    flock: FlockName,
    /// Name of one monkey
    #[arg(value_name = "MONKEY")]
    monkey: Option<String>,
    /// Go on with what is written from now on, until the flock is stopped
    #[arg(long)]
    follow: bool,
}

/// How far one monkey's log was printed.
#[derive(Debug, Default)]
struct Position {
    /// Bytes from the log's beginning.
    offset: u64,
    /// A line whose end has not come yet, if lines are printed with names.
    line: Vec<u8>,
    escapes: Escapes,
}

/// Prints the logs of one flock.
#[derive(Debug)]
struct Reader<'a> {
    server: &'a Server,
    flock: &'a str,
    /// Prints the log of this monkey alone, as it is.
    monkey: Option<&'a str>,
    positions: BTreeMap<String, Position>,
    /// Replicas that did not answer the last time, the logs of whose monkeys are not there.
    missing: BTreeSet<String>,
}

impl Logs {
    pub(crate) async fn run(self, connection: &Connection, out: &mut Output) -> Result<Outcome, Failure> {
        let server = Server::new(connection)?;
        let mut reader = Reader {
            server: &server,
            flock: self.flock.as_str(),
            monkey: self.monkey.as_deref(),
            positions: BTreeMap::new(),
            missing: BTreeSet::new(),
        };
        let outcome = reader.look(out).await?;
        if !self.follow {
            reader.end_lines(out)?;
            return Ok(outcome);
        }
        let mut is_lost = false;
        loop {
            tokio::time::sleep(POLL).await;
            match reader.look(out).await {
                Ok(_) => is_lost = false,
                Err(failure) if failure.is("flock_not_found") => {
                    reader.end_lines(out)?;
                    out.note(&format!("flock {} is gone", self.flock));
                    return Ok(Outcome::Done);
                }
                // Its replica may be away, or the coordinator: said once, tried on.
                Err(failure) if failure.is_passing() || failure.is("monkey_not_found") => {
                    if !is_lost {
                        out.note(&format!("{}; trying again", failure.chain()));
                    }
                    is_lost = true;
                }
                Err(failure) => return Err(failure),
            }
        }
    }
}

impl Reader<'_> {
    /// Prints what was written since the last look.
    async fn look(&mut self, out: &mut Output) -> Result<Outcome, Failure> {
        if let Some(monkey) = self.monkey {
            self.print(monkey.to_owned(), None, out).await?;
            return Ok(Outcome::Done);
        }
        let reply = self.server.get(&["flocks", self.flock, "monkeys"]).await?;
        let monkeys: Vec<String> = reply.read()?;
        let width = monkeys.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let mut outcome = self.note_missing(&reply.missing, out);
        for monkey in monkeys {
            match self.print(monkey.clone(), Some(width), out).await {
                // It went between the two calls.
                Err(failure) if failure.is("monkey_not_found") => {
                    out.note(&format!("no log of {monkey}: it is gone"));
                    outcome = Outcome::Failed;
                }
                result => result?,
            }
        }
        Ok(outcome)
    }

    /// Says of whose monkeys there are no logs, once for as long as it stays so.
    fn note_missing(&mut self, missing: &[String], out: &mut Output) -> Outcome {
        let missing: BTreeSet<String> = missing.iter().cloned().collect();
        let names: Vec<&str> = missing.iter().map(String::as_str).collect();
        if !names.is_empty() && missing != self.missing {
            let who = replicas(&names);
            out.note(&format!(
                "no answer from {who}: the logs of the monkeys there are left out"
            ));
        }
        let is_complete = names.is_empty();
        self.missing = missing;
        if is_complete { Outcome::Done } else { Outcome::Failed }
    }

    /// Prints one monkey's news; with its name before each line if there is a `width` for names.
    async fn print(&mut self, monkey: String, width: Option<usize>, out: &mut Output) -> Result<(), Failure> {
        let prefix = width.map(|width| format!("{monkey:width$} | "));
        let position = self.positions.entry(monkey.clone()).or_default();
        let mut stream = self.server.log(self.flock, &monkey, position.offset).await?;
        if stream.log_end.is_some_and(|end| end < position.offset) {
            // The flock was started anew, and with it the monkey's log.
            *position = Position::default();
            stream = self.server.log(self.flock, &monkey, 0).await?;
        }
        // A server that does not say where the log ends does not know offsets either: it sends all of it again.
        let mut known = match stream.log_end {
            Some(_) => 0,
            None => position.offset,
        };
        while let Some(mut piece) = stream.next().await? {
            let skipped = piece.len().min(usize::try_from(known).unwrap_or(usize::MAX));
            known -= skipped as u64;
            piece.drain(..skipped);
            position.offset += piece.len() as u64;
            let piece = position.escapes.pass(&piece, out.shows_colours());
            match &prefix {
                None => out.bytes(&piece)?,
                Some(prefix) => out.bytes(&position.whole_lines(&piece, prefix))?,
            }
        }
        if let Some(end) = stream.log_end {
            // Not the same as what was counted if the log's beginning is not kept any more.
            position.offset = end;
        }
        Ok(())
    }

    /// Prints lines that never ended.
    fn end_lines(&mut self, out: &mut Output) -> Result<(), Failure> {
        let width = self
            .positions
            .keys()
            .map(|name| name.chars().count())
            .max()
            .unwrap_or(0);
        for (monkey, position) in &mut self.positions {
            if !position.line.is_empty() {
                let line = position.whole_lines(b"\n", &format!("{monkey:width$} | "));
                out.bytes(&line)?;
            }
        }
        Ok(())
    }
}

impl Position {
    /// Takes a piece of the log and returns the lines that it completes, each behind the prefix.
    fn whole_lines(&mut self, piece: &[u8], prefix: &str) -> Vec<u8> {
        let mut lines = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                lines.extend_from_slice(prefix.as_bytes());
                lines.append(&mut self.line);
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::stand_in::{StandIn, run};

    #[tokio::test]
    async fn one_monkeys_log_is_printed_as_it_is() {
        let server = StandIn::start().await;
        server.answer_text(
            "GET /mobu/flocks/lambs/monkeys/lamb1/log",
            &[("x-log-end", "9")],
            "one\ntwö",
        );
        let end = run(&server, &["logs", "lambs", "lamb1"]).await;
        assert_eq!((end.code, end.stdout.as_str()), (0, "one\ntwö"));
    }

    #[tokio::test]
    async fn a_log_in_a_pipe_has_no_colours() {
        let server = StandIn::start().await;
        server.answer_text(
            "GET /mobu/flocks/lambs/monkeys/lamb1/log",
            &[("x-log-end", "20")],
            "[\x1b[32m\x1b[1minfo\x1b[0m] one\n",
        );
        let end = run(&server, &["logs", "lambs", "lamb1"]).await;
        assert_eq!((end.code, end.stdout.as_str()), (0, "[info] one\n"));
    }

    #[tokio::test]
    async fn replicas_that_did_not_answer_are_named_once() {
        let server = StandIn::start().await;
        let headers = [("x-fleet-missing", "1, 2")];
        server.answer("GET /mobu/flocks/lambs/monkeys", StatusCode::OK, &headers, &json!([]));
        let end = run(&server, &["logs", "lambs"]).await;
        let said = "mobu: no answer from replicas 1, 2: the logs of the monkeys there are left out\n";
        assert_eq!((end.code, end.stderr.as_str()), (1, said));
    }

    #[tokio::test]
    async fn the_lines_of_several_monkeys_carry_their_names() {
        let server = StandIn::start().await;
        server.answer(
            "GET /mobu/flocks/lambs/monkeys",
            StatusCode::OK,
            &[],
            &json!(["lamb1", "lamb10", "lamb2"]),
        );
        server.answer_text(
            "GET /mobu/flocks/lambs/monkeys/lamb1/log",
            &[("x-log-end", "8")],
            "one\ntwo\n",
        );
        server.answer_text(
            "GET /mobu/flocks/lambs/monkeys/lamb10/log",
            &[("x-log-end", "5")],
            "three",
        );
        let gone = json!({"detail": [{"msg": "Monkey lamb2 not found", "type": "monkey_not_found", "loc": ["path", "monkey"]}]});
        server.answer(
            "GET /mobu/flocks/lambs/monkeys/lamb2/log",
            StatusCode::NOT_FOUND,
            &[],
            &gone,
        );
        let end = run(&server, &["logs", "lambs"]).await;
        assert_eq!(end.stdout, "lamb1  | one\nlamb1  | two\nlamb10 | three\n");
        assert_eq!(
            (end.code, end.stderr.as_str()),
            (1, "mobu: no log of lamb2: it is gone\n")
        );
    }

    #[tokio::test]
    async fn following_resumes_at_the_logs_end_and_starts_over_with_a_new_log() {
        let server = StandIn::start().await;
        let route = "GET /mobu/flocks/lambs/monkeys/lamb1/log";
        server.answer_text(route, &[("x-log-end", "1004")], "one\n");
        let connection = crate::stand_in::connection(&server);
        let http = Server::new(&connection).unwrap();
        let mut reader = Reader {
            server: &http,
            flock: "lambs",
            monkey: Some("lamb1"),
            positions: BTreeMap::new(),
            missing: BTreeSet::new(),
        };
        let (mut out, stdout, _) = Output::captured();
        reader.look(&mut out).await.unwrap();
        server.answer_text(&format!("{route}?offset=1004"), &[("x-log-end", "1008")], "two\n");
        reader.look(&mut out).await.unwrap();
        server.answer_text(&format!("{route}?offset=1008"), &[("x-log-end", "4")], "");
        server.answer_text(route, &[("x-log-end", "4")], "new\n");
        reader.look(&mut out).await.unwrap();
        assert_eq!(reader.positions["lamb1"].offset, 4);
        assert_eq!(stdout.text(), "one\ntwo\nnew\n");
    }

    #[tokio::test]
    async fn a_server_without_offsets_is_followed_too() {
        let server = StandIn::start().await;
        let route = "GET /mobu/flocks/lambs/monkeys/lamb1/log";
        server.answer_text(route, &[], "one\n");
        server.answer_text(&format!("{route}?offset=4"), &[], "one\ntwo\n");
        let connection = crate::stand_in::connection(&server);
        let http = Server::new(&connection).unwrap();
        let mut reader = Reader {
            server: &http,
            flock: "lambs",
            monkey: Some("lamb1"),
            positions: BTreeMap::new(),
            missing: BTreeSet::new(),
        };
        let (mut out, stdout, _) = Output::captured();
        reader.look(&mut out).await.unwrap();
        reader.look(&mut out).await.unwrap();
        assert_eq!(stdout.text(), "one\ntwo\n");
    }

    #[tokio::test]
    async fn following_ends_with_the_flock() {
        let server = StandIn::start().await;
        let gone =
            json!({"detail": [{"msg": "Flock lambs not found", "type": "flock_not_found", "loc": ["path", "flock"]}]});
        server.answer_in_turn(
            "GET /mobu/flocks/lambs/monkeys",
            &[
                (StatusCode::OK, json!([])),
                (StatusCode::SERVICE_UNAVAILABLE, json!({"detail": "no broker"})),
                (StatusCode::NOT_FOUND, gone),
            ],
        );
        let end = run(&server, &["logs", "lambs", "--follow"]).await;
        assert_eq!(end.code, 0);
        assert_eq!(
            end.stderr,
            "mobu: the fleet answered 503 Service Unavailable\n  no broker; trying again\nmobu: flock lambs is gone\n"
        );
    }
}
