//! `mobu stop`.

use clap::Args;
use mobu_fleet::domain::ids::FlockName;
use reqwest::Method;

use crate::args::{Connection, parse_flock};
use crate::change::{Change, Format, print_json, texts};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::progress::Progress;
use crate::report::ReportFirst;
use crate::server::Server;
use crate::table::counted;

const AFTER_HELP: &str = "\
Examples:
  mobu stop lambs
  mobu stop lambs -o reports/lambs      keep logs and figures first
  mobu stop --all                       every flock, in one revision";

/// Stop a flock, or all of them, and wait until their monkeys have ended
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Stop {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    report: ReportFirst,
    #[command(flatten)]
    format: Format,
}

/// One flock, or every one.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Target {
    /// Name of the flock
    #[arg(value_name = "NAME", value_parser = parse_flock)]
    pub flock: Option<FlockName>,
    /// Every flock
    #[arg(long)]
    pub all: bool,
}

impl Stop {
    pub(crate) async fn run(self, connection: &Connection, out: &mut Output) -> Result<Outcome, Failure> {
        let server = Server::new(connection)?;
        let Some(flock) = &self.target.flock else {
            return self.run_for_all(&server, out).await;
        };
        self.report.run(&server, &[flock.as_str()], out).await?;
        let progress = Progress::start(out, format!("Stopping flock {flock}: waiting for its monkeys"));
        let reply = server.change(Method::DELETE, &["flocks", flock.as_str()], None).await;
        drop(progress);
        let reply = reply?;
        let body = reply.json()?;
        let change = Change::of(&reply, &body, &[200, 204]);
        if self.format.json {
            print_json(out, &reply, body)?;
            return Ok(change.explain(out));
        }
        change.print(
            out,
            &format!("Stopped flock {flock}"),
            &format!("Stop of flock {flock} accepted"),
        )
    }

    async fn run_for_all(&self, server: &Server, out: &mut Output) -> Result<Outcome, Failure> {
        if self.report.is_wanted() {
            let flocks: Vec<String> = server.get(&["flocks"]).await?.read()?;
            let flocks: Vec<&str> = flocks.iter().map(String::as_str).collect();
            self.report.run(server, &flocks, out).await?;
        }
        let progress = Progress::start(out, "Stopping every flock: waiting for their monkeys".to_owned());
        let reply = server.change(Method::POST, &["stop"], None).await;
        drop(progress);
        let reply = reply?;
        let body = reply.json()?;
        let change = Change::of(&reply, &body, &[200, 204]);
        let stopped = texts(body.get("stopped"));
        if self.format.json {
            print_json(out, &reply, body)?;
            return Ok(change.explain(out));
        }
        if stopped.is_empty() {
            return change.print(out, "No flock to stop", "No flock to stop");
        }
        let flocks = format!("{}: {}", counted(stopped.len(), "flock"), stopped.join(", "));
        change.print(out, &format!("Stopped {flocks}"), &format!("Stop accepted of {flocks}"))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use serde_json::{Value, json};

    use crate::stand_in::{StandIn, run};

    #[tokio::test]
    async fn a_stop_says_its_revision_also_as_json() {
        let server = StandIn::start().await;
        server.answer(
            "DELETE /mobu/flocks/lambs",
            StatusCode::NO_CONTENT,
            &[("x-fleet-revision", "5")],
            &Value::Null,
        );
        let end = run(&server, &["stop", "lambs"]).await;
        assert_eq!(
            (end.code, end.stdout.as_str()),
            (0, "Stopped flock lambs (revision 5)\n")
        );
        let end = run(&server, &["stop", "lambs", "--json"]).await;
        assert_eq!(
            serde_json::from_str::<Value>(&end.stdout).unwrap(),
            json!({"revision": 5, "missing": []})
        );
    }

    #[tokio::test]
    async fn a_stop_that_some_replicas_have_not_applied_exits_with_4() {
        let server = StandIn::start().await;
        let headers = [("x-fleet-revision", "5"), ("x-fleet-missing", "1, 2")];
        server.answer(
            "DELETE /mobu/flocks/lambs",
            StatusCode::ACCEPTED,
            &headers,
            &Value::Null,
        );
        let end = run(&server, &["stop", "lambs"]).await;
        assert_eq!(end.code, 4);
        assert_eq!(
            end.stdout,
            "Stop of flock lambs accepted (revision 5), but not applied in time by replicas 1, 2\n"
        );
    }

    #[tokio::test]
    async fn all_flocks_stop_in_one_call() {
        let server = StandIn::start().await;
        let body = json!({"revision": 6, "stopped": ["goats", "lambs"]});
        server.answer("POST /mobu/stop", StatusCode::OK, &[("x-fleet-revision", "6")], &body);
        let end = run(&server, &["stop", "--all"]).await;
        assert_eq!(
            (end.code, end.stdout.as_str()),
            (0, "Stopped 2 flocks: goats, lambs (revision 6)\n")
        );
        assert_eq!(server.calls().len(), 1);
    }

    #[tokio::test]
    async fn an_unknown_flock_and_a_wrong_name_have_different_exit_codes() {
        let server = StandIn::start().await;
        let body =
            json!({"detail": [{"msg": "Flock nope not found", "type": "flock_not_found", "loc": ["path", "flock"]}]});
        server.answer("DELETE /mobu/flocks/nope", StatusCode::NOT_FOUND, &[], &body);
        let end = run(&server, &["stop", "nope"]).await;
        assert_eq!(
            (end.code, end.stderr.as_str()),
            (
                1,
                "mobu: the fleet answered 404 Not Found\n  flock: Flock nope not found\n"
            )
        );
        for wrong in [&["stop", ".."][..], &["stop"], &["stop", "lambs", "--all"]] {
            assert_eq!(run(&server, wrong).await.code, 2, "{wrong:?}");
        }
        assert_eq!(server.calls().len(), 1);
    }
}
