use std::sync::Mutex;
use std::time::Duration;

use mobu_fleet::domain::flock::FlockConfig;
use mobu_fleet::domain::ids::MonkeyName;
use mobu_fleet::domain::monkey::MonkeyState;
use mobu_fleet::runtime::tasks::Tasks;
use mobu_fleet::runtime::telemetry::LogProfile;
use secrecy::SecretString;
use serde_json::json;
use tokio::task::JoinSet;

use super::super::roster::{Lives, Roster};
use super::super::spool::Spool;
use super::super::{AuthenticatedUser, Counts, FlockRun, Surroundings, UserOrigin};
use super::*;
use crate::client::repository::Clones;
use crate::config::WorkerConfig;
use crate::measure::lateness::LatenessGauge;
use crate::measure::outlet::Outlet;
use crate::measure::tally::Tally;

/// What a scripted business does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Succeed,
    Fail,
    FailForGood,
    /// Fails with all that is known.
    FailAtLength,
    Panic,
    /// Ignores every wish to stop.
    Hang,
}

/// A business that does what a test says, and notes what was asked of it.
struct Scripted {
    acts: Arc<Mutex<Vec<Act>>>,
    notes: Arc<Mutex<Vec<&'static str>>>,
}

impl Scripted {
    async fn act(&self) -> Result<(), IterationError> {
        let act = {
            let mut acts = self.acts.lock().unwrap();
            if acts.is_empty() { Act::Succeed } else { acts.remove(0) }
        };
        match act {
            Act::Succeed => Ok(()),
            Act::Fail => Err(IterationError::retry("test", "it failed")),
            Act::FailForGood => Err(IterationError::fatal("test", "it failed for good")),
            Act::FailAtLength => Err(IterationError::retry("test", "gt-key.secret is not wanted")
                .during(Phase::SpawnLab)
                .at_shown("http://x/gt-key.secret")
                .status(503)),
            Act::Panic => panic!("on purpose"),
            Act::Hang => std::future::pending().await,
        }
    }

    fn note(&self, what: &'static str) {
        self.notes.lock().unwrap().push(what);
    }
}

impl Business for Scripted {
    async fn startup(&mut self, _: &Monkey) -> Result<(), IterationError> {
        self.note("startup");
        self.act().await
    }

    async fn execute(&mut self, _: &Monkey) -> Result<(), IterationError> {
        self.note("execute");
        self.act().await
    }

    async fn shutdown(&mut self, _: &Monkey) -> Result<(), IterationError> {
        self.note("shutdown");
        self.act().await
    }

    async fn depart(&mut self, _: &Monkey) {
        self.note("depart");
    }

    async fn close(&mut self, _: &Monkey) {
        self.note("close");
    }
}

/// A monkey with a scripted life.
struct Bench {
    monkey: Arc<Monkey>,
    tasks: JoinSet<()>,
    notes: Arc<Mutex<Vec<&'static str>>>,
}

pub(crate) fn run(restart: bool) -> Arc<FlockRun> {
    let config = FlockConfig::parse(&json!({
        "name": "a", "count": 1, "user_spec": {"username_prefix": "bot-mobu-a"}, "scopes": [],
        "business": {"type": "EmptyLoop", "restart": restart, "options": {"idle_time": 10, "error_idle_time": 60}},
    }))
    .unwrap();
    Arc::new(FlockRun {
        name: config.name.clone(),
        business: config.business.clone(),
        scopes: config.scopes.clone(),
        counts: Counts::default(),
        tally: Tally::default(),
        causes: Arc::default(),
        surroundings: Arc::new(Surroundings {
            instance_id: "0".parse().unwrap(),
            is_one_of_many: false,
            spool: Some(Arc::new(Spool::create(None, 1 << 20).unwrap())),
            profile: LogProfile::Production,
            seed: 7,
            query_sets: Arc::default(),
            locator: None,
            git_environment: WorkerConfig::for_tests("0", 1).git_environment,
            clones: Clones::new(Tasks::new(), None, Vec::new()),
            lateness: LatenessGauge::default(),
            outlet: Outlet::new(1000),
        }),
    })
}

pub(crate) fn monkey(run: &Arc<FlockRun>, name: &str) -> Arc<Monkey> {
    let user = AuthenticatedUser {
        username: MonkeyName::new(name),
        uidnumber: None,
        gidnumber: None,
        groups: [].into(),
        token: SecretString::from("gt-key.secret"),
        origin: UserOrigin::Local,
    };
    Arc::new(Monkey::new(run.clone(), user))
}

fn scripted(acts: &[Act], restart: bool) -> Bench {
    let monkey = monkey(&run(restart), "bot-mobu-a1");
    let (acts, notes) = (Arc::new(Mutex::new(acts.to_vec())), Arc::new(Mutex::new(Vec::new())));
    let mut tasks = JoinSet::new();
    let made = notes.clone();
    tasks.spawn(live(monkey.clone(), move |_| Scripted {
        acts: acts.clone(),
        notes: made.clone(),
    }));
    Bench { monkey, tasks, notes }
}

impl Bench {
    async fn sleep(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// State, successes and failures.
    fn figures(&self) -> (MonkeyState, u64, u64) {
        let data = self.monkey.data();
        (data.state, data.business.success_count, data.business.failure_count)
    }

    /// The events of the log, the first one left out.
    fn events(&self) -> Vec<String> {
        let text = self.monkey.read_log(0, u32::MAX).unwrap().text;
        let event = |line: &str| {
            Some(
                line.split("\"event\": \"")
                    .nth(1)?
                    .split("\", \"logger")
                    .next()?
                    .to_owned(),
            )
        };
        text.lines().filter_map(event).skip(1).collect()
    }

    async fn stop(&mut self) {
        self.monkey.stop();
        while self.tasks.join_next().await.is_some() {}
    }

    fn notes(&self) -> Vec<&'static str> {
        self.notes.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn an_orderly_life_leaves_the_lines_of_the_contract() {
    let mut bench = scripted(&[], false);
    assert_eq!(bench.figures(), (MonkeyState::Idle, 0, 0));
    bench.sleep(15).await;
    assert_eq!(bench.figures(), (MonkeyState::Running, 2, 0));
    bench.stop().await;
    assert_eq!(bench.figures(), (MonkeyState::Finished, 2, 0));
    assert_eq!(
        bench.notes(),
        ["startup", "execute", "execute", "shutdown", "close", "depart"]
    );
    assert_eq!(
        bench.events(),
        [
            "Starting up...",
            "Starting next iteration",
            "Idling...",
            "Starting next iteration",
            "Idling...",
            "Stopping...",
            "Shutting down...",
            "Stopped",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_monkey_restarts_after_its_error_pause_and_keeps_its_counts() {
    let mut bench = scripted(&[Act::Succeed, Act::Succeed, Act::Fail], true);
    bench.sleep(15).await;
    assert_eq!(bench.figures(), (MonkeyState::Error, 1, 1));
    bench.sleep(60).await;
    assert_eq!(bench.figures(), (MonkeyState::Running, 2, 1));
    bench.stop().await;
    assert_eq!(
        bench.notes()[..5],
        ["startup", "execute", "execute", "close", "startup"]
    );
    let events = bench.events();
    assert!(
        events.contains(&"Exception thrown while doing monkey business".to_owned()),
        "{events:?}"
    );
    assert!(
        events.contains(&"Restarting failed monkey after 0:01:00s".to_owned()),
        "{events:?}"
    );
    let text = bench.monkey.read_log(0, u32::MAX).unwrap().text;
    assert!(
        text.contains("\"exception\": \"test: it failed\"}\ntest: it failed\n"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_restart_and_after_a_fatal_failure_a_monkey_stays_stopping() {
    for (acts, restart) in [([Act::Fail], false), ([Act::FailForGood], true)] {
        let bench = scripted(&acts, restart);
        bench.sleep(1000).await;
        assert_eq!(
            bench.figures(),
            (MonkeyState::Stopping, 0, 1),
            "a failed start-up counts as a failure"
        );
        assert!(bench.monkey.has_ended());
        assert_eq!(bench.notes(), ["startup", "close", "depart"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_of_one_monkey_with_a_new_business_afterwards() {
    let mut bench = scripted(&[Act::Succeed, Act::Panic], true);
    bench.sleep(1).await;
    assert_eq!(bench.figures(), (MonkeyState::Error, 0, 1));
    assert_eq!(
        bench.notes(),
        ["startup", "execute", "depart"],
        "nobody knows what it had"
    );
    bench.sleep(60).await;
    assert_eq!(bench.figures(), (MonkeyState::Running, 1, 1));
    let text = bench.monkey.read_log(0, u32::MAX).unwrap().text;
    assert!(text.contains("panic: the business panicked: on purpose"), "{text}");
    bench.stop().await;
    assert_eq!(bench.figures().0, MonkeyState::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_the_error_pause_ends_it_and_nothing_runs_again() {
    let mut bench = scripted(&[Act::Fail], true);
    bench.sleep(1).await;
    assert_eq!(bench.figures().0, MonkeyState::Error);
    let begun = tokio::time::Instant::now();
    bench.stop().await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(bench.figures(), (MonkeyState::Finished, 0, 1));
    assert_eq!(bench.notes(), ["startup", "close", "depart"]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_while_stopping_is_logged_and_alerts_nobody() {
    let mut bench = scripted(&[Act::Succeed, Act::Succeed, Act::Fail], true);
    bench.sleep(1).await;
    bench.stop().await;
    assert_eq!(
        bench.figures(),
        (MonkeyState::Finished, 1, 0),
        "a failed shutdown counts for nothing"
    );
    let events = bench.events();
    assert!(
        events.contains(&"Not sending alert because state is STOPPING".to_owned()),
        "{events:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_monkey_that_was_stopped_before_it_began_never_runs() {
    let mut bench = scripted(&[], true);
    bench.stop().await;
    assert_eq!(
        (bench.figures().0, bench.notes()),
        (MonkeyState::Finished, vec!["depart"])
    );
}

#[tokio::test(start_paused = true)]
async fn monkeys_that_do_not_stop_in_time_are_abandoned_and_the_others_are_not() {
    let run = run(true);
    let monkeys: Vec<_> = ["bot-mobu-a1", "bot-mobu-a2"]
        .iter()
        .map(|name| monkey(&run, name))
        .collect();
    let notes = Arc::new(Mutex::new(Vec::new()));
    let mut lives = Lives::default();
    for (monkey, act) in monkeys.iter().zip([Act::Hang, Act::Succeed]) {
        let acts = Arc::new(Mutex::new(vec![Act::Succeed, act]));
        let notes = notes.clone();
        lives.tasks.spawn(live(monkey.clone(), move |_| Scripted {
            acts: acts.clone(),
            notes: notes.clone(),
        }));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = tokio::time::Instant::now();
    lives
        .stop(&run.name, &Roster::new(monkeys.clone()), Duration::from_secs(5))
        .await;
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    assert_eq!(
        [monkeys[0].state(), monkeys[1].state()],
        [MonkeyState::Stopping, MonkeyState::Finished]
    );
    assert_eq!(run.counts.by_state().map(|(_, count)| count).sum::<u64>(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_says_in_the_log_what_it_was_at_and_never_the_token() {
    let bench = scripted(&[Act::Succeed, Act::FailAtLength], true);
    bench.sleep(1).await;
    let text = bench.monkey.read_log(0, u32::MAX).unwrap().text;
    let line = text.lines().find(|line| line.contains("Exception thrown")).unwrap();
    assert!(
        line.contains(
            "\"kind\": \"test\", \"phase\": \"spawn_lab\", \"url\": \"http://x/gt-key.***\", \"status\": 503, \"event\": "
        ),
        "{line}"
    );
    assert!(!text.contains("gt-key.secret"), "{text}");
}
