//! `mobu publish`: the changes of the desired state as messages, for where the broker can be reached and the coordinator cannot.

use std::time::Duration;

use clap::{Args, Subcommand};
use mobu_fleet::domain::ids::{FleetName, FlockName};
use mobu_fleet::domain::messages::{REQUEST_KIND, ReplicaOutcome, RequestAnswer, RequestOutcome, Wire};
use mobu_fleet::link::amqp::AmqpConfig;
use mobu_fleet::link::amqp::client::{AmqpClient, Answers, InvalidClient};
use mobu_fleet::link::{Address, LinkError, Message};
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::args::Connection;
use crate::change::Change;
use crate::failure::{Failure, Outcome, problems};
use crate::output::Output;
use crate::progress::Progress;
use crate::spec::SpecFile;
use crate::{refresh, stop};

const AFTER_HELP: &str = "\
Examples:
  mobu publish start -f lambs.yaml --wait
  mobu publish stop lambs
  mobu publish refresh --repo https://github.com/example/notebooks --ref main --no-answer

Without --wait the command ends when the change is accepted: it is durable then, and every replica will apply it.";

/// Start, stop or refresh flocks by messages to the broker
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Publish {
    #[command(flatten)]
    broker: Broker,
    #[command(flatten)]
    delivery: Delivery,
    #[command(subcommand)]
    request: Request,
}

fn parse_fleet(text: &str) -> Result<FleetName, String> {
    text.parse()
        .map_err(|_| format!("a fleet's name matches {}", FleetName::PATTERN))
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Broker")]
struct Broker {
    /// Address of the broker, or of several of one cluster, separated by commas
    #[arg(
        long,
        global = true,
        env = "MOBU_AMQP_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    amqp_url: Option<SecretString>,
    /// Name of the fleet
    #[arg(long, global = true, env = "MOBU_FLEET", value_name = "FLEET", default_value = "mobu", value_parser = parse_fleet)]
    fleet: FleetName,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Request")]
struct Delivery {
    /// Wait until every replica has applied it, too
    #[arg(long, global = true, conflicts_with = "no_answer")]
    wait: bool,
    /// Only store the request, and do not wait for what the fleet says to it
    #[arg(long, global = true)]
    no_answer: bool,
    /// Name of the request: one that the fleet has seen changes nothing when it comes again
    #[arg(long, global = true, value_name = "ID")]
    message_id: Option<String>,
    /// Print the fleet's last answer as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Request {
    /// Start a flock, or restart it with another configuration
    #[command(after_help = "Example:\n  mobu publish start -f lambs.yaml --wait")]
    Start {
        #[command(flatten)]
        spec: SpecFile,
    },
    /// Stop a flock, or all of them
    #[command(after_help = "Examples:\n  mobu publish stop lambs\n  mobu publish stop --all --wait")]
    Stop {
        #[command(flatten)]
        target: stop::Target,
    },
    /// Tell a flock's monkeys to fetch their notebooks anew
    #[command(
        after_help = "Examples:\n  mobu publish refresh notebooks\n  mobu publish refresh --repo https://github.com/example/notebooks --ref main"
    )]
    Refresh {
        #[command(flatten)]
        target: refresh::Target,
    },
}

impl Publish {
    pub(crate) async fn run(self, connection: &Connection, out: &mut Output) -> Result<Outcome, Failure> {
        let client = self.broker.client()?;
        let (mut payload, wording) = self.request.payload()?;
        let Delivery {
            wait, no_answer, json, ..
        } = self.delivery;
        payload["wait"] = wait.into();
        let id = self.delivery.message_id.unwrap_or_else(|| Uuid::now_v7().to_string());
        let mut message = Message::new(REQUEST_KIND, payload.to_string());
        message.message_id = Some(id.clone());
        let failed = |source| Failure::Link { id: id.clone(), source };
        if no_answer {
            let sent = Box::pin(client.publish_only(Address::Requests, message)).await;
            sent.map_err(failed)?;
            if json {
                out.json(&json!({"message_id": id}))?;
            } else {
                out.line(&format!("{} requested (message {id})", wording.wish))?;
            }
            return Ok(Outcome::Done);
        }
        let progress = Progress::start(out, format!("{} requested: waiting for the fleet", wording.wish));
        let mut answers = Box::pin(client.request(message, connection.timeout))
            .await
            .map_err(failed)?;
        let heard = hear(&mut answers, wait, &id, connection.timeout).await;
        drop(progress);
        heard?.print(&wording, json, out)
    }
}

impl Broker {
    fn client(&self) -> Result<AmqpClient, Failure> {
        let list = self.amqp_url.as_ref().map(ExposeSecret::expose_secret);
        let list = list.filter(|list| !list.is_empty()).ok_or_else(|| {
            Failure::Usage(
                "--amqp-url or MOBU_AMQP_URL is needed, for example amqp://user:password@127.0.0.1:5672".to_owned(),
            )
        })?;
        AmqpConfig::parse_urls(list)
            .map_err(InvalidClient::from)
            .and_then(|urls| AmqpClient::new(&AmqpConfig::new(urls, self.fleet.clone())))
            .map_err(|error| Failure::Usage(error.to_string()))
    }
}

/// How a request is called.
#[derive(Debug)]
struct Wording {
    /// As in `Stop of flock lambs`.
    wish: String,
    /// As in `Stopped flock lambs`.
    done: String,
}

impl Request {
    /// Returns what is sent, and how it is called. Whether it is right is the fleet's to say.
    fn payload(&self) -> Result<(Value, Wording), Failure> {
        let worded = |wish: &str, done: &str, what: &str| Wording {
            wish: format!("{wish} of {what}"),
            done: format!("{done} {what}"),
        };
        let named = |flock: &FlockName| format!("flock {flock}");
        Ok(match self {
            Self::Start { spec } => {
                let flock = spec.read()?;
                let name = flock.get("name").and_then(Value::as_str).unwrap_or("without a name");
                let wording = worded("Start", "Started", &format!("flock {name}"));
                (json!({"kind": "start", "flock": flock}), wording)
            }
            Self::Stop { target } => match &target.flock {
                Some(flock) => (
                    json!({"kind": "stop", "flock": flock.as_str()}),
                    worded("Stop", "Stopped", &named(flock)),
                ),
                None => (
                    json!({"kind": "stop", "all": true}),
                    worded("Stop", "Stopped", "every flock"),
                ),
            },
            Self::Refresh { target } => match target {
                refresh::Target { flock: Some(flock), .. } => (
                    json!({"kind": "refresh", "flock": flock.as_str()}),
                    worded("Refresh", "Refreshed", &named(flock)),
                ),
                refresh::Target { repo, reference, .. } => (
                    json!({"kind": "refresh", "repo_url": repo, "repo_ref": reference}),
                    worded("Refresh", "Refreshed", "what uses this repository and branch"),
                ),
            },
        })
    }
}

/// What was answered, as far as answers came.
#[derive(Debug)]
struct Heard {
    first: RequestAnswer,
    /// To a request that asked to wait, unless it did not come in time.
    second: Option<RequestAnswer>,
    wait: bool,
}

/// Waits for the answers to a request; a second one that does not come is no error, because the first says that it is durable.
async fn hear(answers: &mut Answers, wait: bool, id: &str, patience: Duration) -> Result<Heard, Failure> {
    let first = answers.next().await.map_err(|source| match source {
        LinkError::TimedOut { .. } => Failure::Unanswered {
            id: id.to_owned(),
            seconds: patience.as_secs_f64(),
        },
        source => Failure::Link {
            id: id.to_owned(),
            source,
        },
    })?;
    let first = decode(&first)?;
    let mut second = None;
    if wait
        && matches!(first.outcome, RequestOutcome::Accepted { .. })
        && let Ok(message) = answers.next().await
    {
        second = Some(decode(&message)?);
    }
    Ok(Heard { first, second, wait })
}

fn decode(message: &Message) -> Result<RequestAnswer, Failure> {
    RequestAnswer::decode(&message.kind, &message.payload).map_err(|error| Failure::Foreign {
        origin: "the fleet".to_owned(),
        reason: error.to_string(),
    })
}

impl Heard {
    fn print(self, wording: &Wording, json: bool, out: &mut Output) -> Result<Outcome, Failure> {
        let RequestOutcome::Accepted { revision, changed } = self.first.outcome else {
            return Err(refused(self.first.outcome));
        };
        let last = self.second.as_ref().unwrap_or(&self.first);
        let json = json.then(|| serde_json::to_value(last).expect("an answer has no keys other than texts"));
        let change = match self.second.map(|answer| answer.outcome) {
            Some(RequestOutcome::Applied { revision, replicas }) => Change {
                revision: Some(revision.0),
                complete: true,
                missing: Vec::new(),
                failed: failures(replicas),
            },
            Some(RequestOutcome::Incomplete {
                revision,
                replicas,
                missing,
            }) => Change {
                revision: Some(revision.0),
                complete: false,
                missing: missing.iter().map(ToString::to_string).collect(),
                failed: failures(replicas),
            },
            Some(outcome) => return Err(refused(outcome)),
            None => Change {
                revision: Some(revision.0),
                complete: !self.wait,
                ..Change::default()
            },
        };
        if let Some(json) = json {
            out.json(&json)?;
            return Ok(change.explain(out));
        }
        let accepted = format!("{} accepted", wording.wish);
        let done = match (changed, self.wait) {
            (false, _) => format!("{accepted}, but it changes nothing"),
            (true, false) => accepted.clone(),
            (true, true) => wording.done.clone(),
        };
        change.print(out, &done, &accepted)
    }
}

fn failures<K: ToString>(replicas: impl IntoIterator<Item = (K, ReplicaOutcome)>) -> Vec<(String, String)> {
    replicas
        .into_iter()
        .filter_map(|(id, outcome)| match outcome {
            ReplicaOutcome::Failed { error } => Some((id.to_string(), error)),
            ReplicaOutcome::Applied | ReplicaOutcome::Pending => None,
        })
        .collect()
}

/// Makes a failure of an answer that is not what belongs here: nearly always a rejection.
fn refused(outcome: RequestOutcome) -> Failure {
    match outcome {
        RequestOutcome::Rejected { code, error } => Failure::Refused {
            // A code that is none could only come from a fleet that is not ours.
            status: StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST),
            problems: problems(error.to_string().as_bytes()),
        },
        other => Failure::Foreign {
            origin: "the fleet".to_owned(),
            reason: format!("{other:?} came where another answer belongs"),
        },
    }
}

#[cfg(test)]
mod tests {
    use mobu_fleet::domain::ids::Revision;
    use mobu_fleet::domain::messages::SCHEMA;

    use super::*;
    use crate::stand_in::run_at;

    const ACCEPTED: RequestOutcome = RequestOutcome::Accepted {
        revision: Revision(4),
        changed: true,
    };

    fn printed(first: RequestOutcome, second: Option<RequestOutcome>, wait: bool) -> (u8, String) {
        let (mut out, stdout, stderr) = Output::captured();
        let wording = Wording {
            wish: "Stop of flock lambs".to_owned(),
            done: "Stopped flock lambs".to_owned(),
        };
        let answer = |outcome| RequestAnswer {
            schema: SCHEMA,
            outcome,
        };
        let heard = Heard {
            first: answer(first),
            second: second.map(answer),
            wait,
        };
        let result = heard.print(&wording, false, &mut out);
        (out.finish(&result), stdout.text() + &stderr.text())
    }

    #[test]
    fn an_accepted_request_is_only_called_done_once_it_is_applied() {
        let (code, text) = printed(ACCEPTED, None, false);
        assert_eq!(
            (code, text.as_str()),
            (0, "Stop of flock lambs accepted (revision 4)\n")
        );
        let applied = RequestOutcome::Applied {
            revision: Revision(4),
            replicas: [("0".parse().unwrap(), ReplicaOutcome::Applied)].into(),
        };
        let (code, text) = printed(ACCEPTED, Some(applied), true);
        assert_eq!((code, text.as_str()), (0, "Stopped flock lambs (revision 4)\n"));
        let (code, text) = printed(ACCEPTED, None, true);
        assert_eq!(code, 4);
        assert_eq!(
            text,
            "Stop of flock lambs accepted (revision 4), but not applied everywhere in time\n"
        );
    }

    #[test]
    fn who_is_late_or_failed_is_named() {
        let replicas = [
            ("0".parse().unwrap(), ReplicaOutcome::Applied),
            ("1".parse().unwrap(), ReplicaOutcome::Pending),
        ];
        let incomplete = RequestOutcome::Incomplete {
            revision: Revision(4),
            replicas: replicas.into(),
            missing: vec!["1".parse().unwrap()],
        };
        let (code, text) = printed(ACCEPTED, Some(incomplete), true);
        assert_eq!(code, 4);
        assert_eq!(
            text,
            "Stop of flock lambs accepted (revision 4), but not applied in time by replica 1\n"
        );
        let error = "no tokens".to_owned();
        let failed = RequestOutcome::Applied {
            revision: Revision(4),
            replicas: [("2".parse().unwrap(), ReplicaOutcome::Failed { error })].into(),
        };
        let (code, text) = printed(ACCEPTED, Some(failed), true);
        assert_eq!(code, 1);
        assert_eq!(
            text,
            "Stop of flock lambs accepted (revision 4), but failed on replica 2\nmobu: replica 2: no tokens\n"
        );
    }

    #[test]
    fn a_rejected_request_shows_the_same_text_as_over_http() {
        let rejected = RequestOutcome::Rejected {
            code: 404,
            error: json!({"detail": [{"msg": "Flock nope not found", "type": "flock_not_found", "loc": ["body", "flock"]}]}),
        };
        let (code, text) = printed(rejected, None, false);
        assert_eq!(code, 1);
        assert_eq!(
            text,
            "mobu: the fleet answered 404 Not Found\n  flock: Flock nope not found\n"
        );
    }

    #[test]
    fn a_repeated_request_is_not_called_done_again() {
        let known = RequestOutcome::Accepted {
            revision: Revision(4),
            changed: false,
        };
        let (code, text) = printed(known, None, false);
        assert_eq!(code, 0);
        assert_eq!(
            text,
            "Stop of flock lambs accepted, but it changes nothing (revision 4)\n"
        );
    }

    #[tokio::test]
    async fn wrong_usage_is_told_before_anything_is_sent_and_without_passwords() {
        let url = "http://127.0.0.1:9";
        let end = run_at(url, &["publish", "stop", "lambs"]).await;
        assert_eq!(end.code, 2);
        assert!(
            end.stderr.contains("--amqp-url or MOBU_AMQP_URL is needed"),
            "{}",
            end.stderr
        );
        let end = run_at(
            url,
            &["publish", "--amqp-url", "http://joe:hunter2@broker", "stop", "lambs"],
        )
        .await;
        assert_eq!(end.code, 2);
        assert!(!end.stderr.contains("hunter2"), "{}", end.stderr);
        for wrong in [
            &["publish", "stop"][..],
            &["publish", "refresh", "--ref", "x"],
            &["publish", "stop", "lambs", "--wait", "--no-answer"],
            &["publish", "stop", "lambs", "--fleet", "a/b"],
        ] {
            assert_eq!(run_at(url, wrong).await.code, 2, "{wrong:?}");
        }
    }
}
