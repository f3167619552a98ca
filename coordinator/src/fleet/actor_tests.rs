//! The actor on the in-process link, with a paused clock and no replicas: those are in the simulation.

use mobu_fleet::domain::desired::{Change, Command};
use mobu_fleet::domain::flock::FlockConfig;
use mobu_fleet::domain::ids::{RequestId, Revision, SessionId};
use mobu_fleet::domain::messages::{RequestAnswer, RequestOutcome, Source};
use mobu_fleet::link::memory::Hub;
use serde_json::{Value, json};

use super::super::change::Wish;
use super::super::reign::ReignRules;
use super::super::state::Status;
use super::*;

struct Coordinator {
    fleet: Fleet,
    tasks: Tasks,
}

fn flock(name: &str) -> Value {
    json!({
        "name": name, "count": 2, "user_spec": {"username_prefix": "bot-mobu-x"}, "scopes": [],
        "business": {"type": "EmptyLoop"},
    })
}

fn config(name: &str) -> FlockConfig {
    FlockConfig::parse(&flock(name)).unwrap()
}

fn rules(seed: u64, autostart: &[&str]) -> FleetRules {
    FleetRules {
        fleet: "test".parse().unwrap(),
        session: SessionId::new(format!("session-{seed}")),
        version: "0".to_owned(),
        reign: ReignRules {
            replica_count: 2,
            ..ReignRules::default()
        },
        report_interval: Duration::from_secs(1),
        announce_interval: Duration::from_secs(2),
        apply_timeout: Duration::from_secs(30),
        autostart: Some(autostart.iter().map(|name| config(name)).collect()),
    }
}

fn coordinator(hub: &Hub, seed: u64, autostart: &[&str]) -> Coordinator {
    let tasks = Tasks::new();
    let fleet = start(
        rules(seed, autostart),
        Arc::new(hub.clone()),
        &tasks,
        fastrand::Rng::with_seed(seed),
    );
    Coordinator { fleet, tasks }
}

impl Coordinator {
    async fn until(&self, what: &str, condition: impl Fn(&Status) -> bool) -> Box<Status> {
        let mut last = None;
        for _ in 0..1000 {
            let status = self.fleet.status().await.unwrap();
            if condition(&status) {
                return status;
            }
            last = Some((status.stage, status.standing, status.trouble));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("waited for {what}, last seen {last:?}");
    }

    async fn leads(&self) -> Box<Status> {
        self.until("leadership", Status::is_leading).await
    }

    async fn wish(&self, command: Command, request_id: Option<&str>) -> Result<Outcome, ChangeError> {
        let wish = Wish {
            command,
            by: "test".to_owned(),
            source: Source::Http,
            request_id: request_id.map(RequestId::new),
            wait: false,
            dry_run: false,
        };
        self.fleet.change(wish).await
    }

    async fn drain(self) {
        self.tasks.drain_token().cancel();
        self.tasks.wait().await;
    }
}

fn begin(name: &str) -> Command {
    Command::Start(Box::new(config(name)))
}

#[tokio::test(start_paused = true)]
async fn a_fleet_begins_from_its_configuration_only_after_everybody_had_time_to_speak() {
    let hub = Hub::new();
    let began = now();
    let one = coordinator(&hub, 1, &["auto"]);
    let status = one
        .until("the autostart flock", |status| {
            status.desired.flocks.contains_key("auto")
        })
        .await;
    assert!(
        now() - began >= Duration::from_secs(10),
        "nobody answered, so it waited"
    );
    assert_eq!(status.standing.as_ref().unwrap().revision, Revision(1));
    assert!(matches!(
        status.history.last().unwrap().change,
        Change::Autostart { .. }
    ));
    one.drain().await;
    assert_eq!(hub.sessions(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_standby_takes_over_with_every_accepted_change() {
    let hub = Hub::new();
    let one = coordinator(&hub, 1, &[]);
    one.leads().await;
    let outcome = one.wish(begin("a"), None).await.unwrap();
    assert_eq!(outcome.revision, Revision(1));
    let two = coordinator(&hub, 2, &[]);
    two.until("the standby", |status| status.stage == "standby").await;
    assert!(matches!(
        two.wish(begin("b"), None).await,
        Err(ChangeError::NotLeading { .. })
    ));
    one.tasks.abort_token().cancel();
    one.tasks.wait().await;
    let status = two.leads().await;
    assert!(status.desired.flocks.contains_key("a"));
    assert_eq!(status.epoch.0, 2);
    assert_eq!(two.wish(begin("b"), None).await.unwrap().revision, Revision(2));
    two.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_connection_is_made_anew_and_nothing_is_forgotten_even_if_the_log_is() {
    let hub = Hub::new();
    let one = coordinator(&hub, 1, &[]);
    one.leads().await;
    one.wish(begin("a"), None).await.unwrap();
    one.wish(begin("b"), None).await.unwrap();
    hub.lose_newest(1);
    one.until("the new epoch", |status| status.is_leading() && status.epoch.0 == 2)
        .await;
    let status = one.fleet.status().await.unwrap();
    assert_eq!(status.desired.flocks.len(), 2, "the coordinator itself still knew");
    assert!(matches!(status.history.last().unwrap().change, Change::Recover));
    hub.wipe();
    let status = one
        .until("the third epoch", |status| status.is_leading() && status.epoch.0 == 3)
        .await;
    assert_eq!(status.desired.flocks.len(), 2);
    one.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_repeated_wish_changes_nothing_also_under_the_next_leader() {
    let hub = Hub::new();
    let one = coordinator(&hub, 1, &[]);
    one.leads().await;
    let first = one.wish(begin("a"), Some("id-1")).await.unwrap();
    let again = one.wish(begin("a"), Some("id-1")).await.unwrap();
    assert_eq!(
        (first.revision, again.revision, again.change),
        (Revision(1), Revision(1), None)
    );
    one.drain().await;
    let two = coordinator(&hub, 2, &[]);
    two.leads().await;
    let later = two.wish(begin("a"), Some("id-1")).await.unwrap();
    assert_eq!((later.revision, later.change), (Revision(1), None));
    two.drain().await;
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_and_wrong_ones_kept_as_dead_letters() {
    let hub = Hub::new();
    let client = hub.open("client").await.unwrap();
    let (reply_to, mut replies) = client.replies().await.unwrap();
    let requests = [
        json!({"kind": "start", "flock": flock("a")}),
        json!({"kind": "stop", "flock": "nope"}),
        json!({"kind": "start", "flock": {"name": "a"}}),
        json!({"kind": "refresh", "repo_url": "u", "repo_ref": "r"}),
    ];
    for (number, request) in requests.iter().enumerate() {
        let mut message = Message::new("fleet.request.v1", request.to_string());
        message.message_id = Some(format!("m{number}"));
        message.correlation_id = Some(number.to_string());
        message.reply_to = Some(reply_to.clone());
        client.publish(Address::Requests, message).await.unwrap();
    }
    let one = coordinator(&hub, 1, &[]);
    let mut answers = Vec::new();
    for _ in &requests {
        let message = replies.recv().await.unwrap();
        let answer = RequestAnswer::decode(&message.kind, &message.payload).unwrap();
        answers.push((message.correlation_id.unwrap(), answer.outcome));
    }
    // A wrong one is answered once it is settled, and others meanwhile.
    answers.sort_by(|(one, _), (other, _)| one.cmp(other));
    let accepted = |changed| RequestOutcome::Accepted {
        revision: Revision(1),
        changed,
    };
    assert_eq!(answers[0], ("0".to_owned(), accepted(true)));
    assert!(
        matches!(&answers[1].1, RequestOutcome::Rejected { code: 404, .. }),
        "{answers:?}"
    );
    assert!(
        matches!(&answers[2].1, RequestOutcome::Rejected { code: 422, error } if error["detail"][0]["type"] == "missing")
    );
    assert_eq!(answers[3].1, accepted(false));
    let reasons: Vec<_> = hub.dead_letters().into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(reasons[0], "Flock nope not found");
    assert!(
        reasons[1].starts_with("body.flock.count: Field required"),
        "{reasons:?}"
    );
    one.drain().await;
}

#[tokio::test(start_paused = true)]
async fn nonsense_on_any_inbox_harms_nobody() {
    let hub = Hub::new();
    let one = coordinator(&hub, 1, &[]);
    one.leads().await;
    let stranger = hub.open("stranger").await.unwrap();
    for to in [Address::Everyone, Address::Coordinators, Address::Requests] {
        for payload in [b"\xff\xfe".as_ref(), b"{}", b"[[[[", b"{\"schema\": 99}"] {
            stranger.publish(to.clone(), Message::new("", payload)).await.unwrap();
        }
    }
    stranger.append(Bytes::from_static(b"not an entry")).await.unwrap();
    one.until("the dead letters", |_| hub.dead_letters().len() == 12).await;
    assert_eq!(one.wish(begin("a"), None).await.unwrap().revision, Revision(1));
    let status = one.fleet.status().await.unwrap();
    assert_eq!(status.unusable_messages, 13);
    one.drain().await;
}

#[tokio::test(start_paused = true)]
async fn callers_are_answered_while_a_long_log_is_read() {
    let hub = Hub::new();
    let first = coordinator(&hub, 1, &["auto"]);
    first.leads().await;
    for number in 0..600 {
        first.wish(begin(&format!("flock-{}", number % 3)), None).await.unwrap();
    }
    let all = first.fleet.status().await.unwrap().standing.unwrap().revision;
    let second = coordinator(&hub, 2, &["auto"]);
    let mut seen = Vec::new();
    // Without a pause: time would pass only once nobody has anything to do, and so after the whole log.
    while seen.last() != Some(&Some(all)) {
        let standing = second.fleet.status().await.unwrap().standing;
        seen.push(standing.map(|standing| standing.revision));
    }
    let is_midway = |revision: &Option<Revision>| revision.is_some_and(|revision| revision < all);
    assert!(seen.iter().any(is_midway), "it was silent until it had read everything");
    first.drain().await;
    second.drain().await;
}
