//! `mobu start`.

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use crate::args::Connection;
use crate::change::{Change, Format, monkeys, print_json};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::progress::Progress;
use crate::server::Server;
use crate::spec::SpecFile;

const AFTER_HELP: &str = "\
Examples:
  mobu start -f lambs.yaml
  mobu start -f lambs.yaml --json | jq '.monkeys[].name'
  sed s/COUNT/50/ lambs.yaml.in | mobu start -f -";

/// Start a flock, or restart it with another configuration
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Start {
    #[command(flatten)]
    spec: SpecFile,
    #[command(flatten)]
    format: Format,
}

impl Start {
    pub(crate) async fn run(self, connection: &Connection, out: &mut Output) -> Result<Outcome, Failure> {
        let spec = self.spec.read()?;
        let name = spec
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or("without a name")
            .to_owned();
        let server = Server::new(connection)?;
        let progress = Progress::start(out, format!("Starting flock {name}: waiting for the replicas"));
        let reply = server.change(Method::PUT, &["flocks"], Some(&spec)).await;
        drop(progress);
        let reply = reply?;
        let body = reply.json()?;
        let change = Change::of(&reply, &body, &[200, 201]);
        if self.format.json {
            print_json(out, &reply, body)?;
            return Ok(change.explain(out));
        }
        let monkeys = monkeys(&body).map(|text| format!(": {text}")).unwrap_or_default();
        change.print(
            out,
            &format!("Started flock {name}{monkeys}"),
            &format!("Start of flock {name} accepted"),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::http::StatusCode;
    use serde_json::json;

    use crate::stand_in::{StandIn, monkeys_on, run};

    fn spec(folder: &Path) -> String {
        let path = folder.join("lambs.yaml");
        std::fs::write(&path, "name: lambs\ncount: 2\nscopes: []\n").unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_started_flock_is_one_line_with_its_monkeys_replicas_and_revision() {
        let server = StandIn::start().await;
        server.answer(
            "PUT /mobu/flocks",
            StatusCode::CREATED,
            &[("x-fleet-revision", "4")],
            &monkeys_on(&["0", "1", "2"], 4),
        );
        let folder = tempfile::tempdir().unwrap();
        let end = run(&server, &["start", "-f", &spec(folder.path())]).await;
        assert_eq!(end.code, 0);
        assert_eq!(
            end.stdout,
            "Started flock lambs: 12 monkeys on 3 replicas (revision 4)\n"
        );
        assert_eq!(end.stderr, "");
        let call = server.calls().remove(0);
        assert_eq!(call.body, json!({"name": "lambs", "count": 2, "scopes": []}));
        assert_eq!(call.header("content-type"), Some("application/json"));
    }

    #[tokio::test]
    async fn who_has_not_applied_in_time_is_named_and_the_exit_code_is_4() {
        let server = StandIn::start().await;
        let body = json!({"status": "incomplete", "revision": 4, "missing": ["1"], "flock": monkeys_on(&["0"], 2)});
        server.answer("PUT /mobu/flocks", StatusCode::ACCEPTED, &[], &body);
        let folder = tempfile::tempdir().unwrap();
        let end = run(&server, &["start", "-f", &spec(folder.path())]).await;
        assert_eq!(end.code, 4);
        assert_eq!(
            end.stdout,
            "Start of flock lambs accepted (revision 4), but not applied in time by replica 1\n"
        );
    }

    #[tokio::test]
    async fn a_replica_that_failed_is_named_with_its_error_and_the_exit_code_is_1() {
        let server = StandIn::start().await;
        let mut body = monkeys_on(&["0"], 2);
        body["replicas"] = json!([
            {"instance_id": "0", "state": "ready", "applied_revision": 4, "report_age": 0.1, "error": null},
            {"instance_id": "1", "state": "ready", "applied_revision": 4, "report_age": 0.1, "error": "no tokens"}]);
        server.answer(
            "PUT /mobu/flocks",
            StatusCode::CREATED,
            &[("x-fleet-revision", "4")],
            &body,
        );
        let folder = tempfile::tempdir().unwrap();
        let end = run(&server, &["start", "-f", &spec(folder.path())]).await;
        assert_eq!(end.code, 1);
        assert_eq!(
            end.stdout,
            "Start of flock lambs accepted (revision 4), but failed on replica 1\n"
        );
        assert_eq!(end.stderr, "mobu: replica 1: no tokens\n");
    }

    #[tokio::test]
    async fn a_refused_flock_shows_the_fleets_words_and_json_stays_clean() {
        let server = StandIn::start().await;
        let body =
            json!({"detail": [{"type": "missing", "loc": ["body", "business"], "msg": "Field required", "input": {}}]});
        server.answer("PUT /mobu/flocks", StatusCode::UNPROCESSABLE_ENTITY, &[], &body);
        let folder = tempfile::tempdir().unwrap();
        let end = run(&server, &["start", "--json", "-f", &spec(folder.path())]).await;
        assert_eq!(end.code, 1);
        assert_eq!(end.stdout, "");
        assert_eq!(
            end.stderr,
            "mobu: the fleet answered 422 Unprocessable Entity\n  business: Field required\n"
        );
    }

    #[tokio::test]
    async fn a_missing_spec_file_is_a_usage_error_and_nothing_is_sent() {
        let server = StandIn::start().await;
        let end = run(&server, &["start", "-f", "no-such-file.yaml"]).await;
        assert_eq!(end.code, 2);
        assert!(
            end.stderr.starts_with("mobu: cannot read no-such-file.yaml: "),
            "{}",
            end.stderr
        );
        assert!(server.calls().is_empty());
    }
}
