//! Businesses in a lab, against the stand-in for a hub.

use std::time::Duration;

use mobu_fleet::domain::discovery::Discovery;
use mobu_fleet::domain::events::Act;
use mobu_fleet::domain::messages::FlockPhase;
use mobu_fleet::domain::monkey::MonkeyData;
use mobu_fleet::runtime::clock;
use mobu_fleet::runtime::config::ServiceDiscovery;
use serde_json::{Value, json};
use stand_ins::hub::{Hub, Knobs, Login, Spawn};

use crate::leader::{Leader, Listener, PATIENCE, Process, flock, name, unhurried};

const USER: &str = "bot-mobu-n1";

/// A flock of one in labs of a stand-in.
struct Bench {
    hub: Hub,
    leader: Leader,
    process: Process,
    listener: Listener,
    is_stopped: bool,
}

impl Bench {
    /// Starts a flock of `NubladoPythonLoop` with these options over ones that lose no time.
    async fn start(knobs: Knobs, options: Value) -> Self {
        let hub = Hub::start(knobs).await;
        Self::on(hub, options).await
    }

    async fn on(hub: Hub, options: Value) -> Self {
        let discovery = Discovery::parse_at(&hub.discovery(), &[]).unwrap();
        let mut leader = Leader::new().await;
        let listener = Listener::on(&leader.hub, "n.NubladoPythonLoop.#").await;
        let mut config = unhurried();
        config.event_rate = 1000;
        config.discovery = Some(ServiceDiscovery::Static(discovery.into()));
        let process = Process::start(&leader.hub, config);
        let mut all = json!({
            "idle_time": 0.01, "error_idle_time": 3600, "spawn_settle_time": 0, "execution_idle_time": 0.01,
            "max_executions": 2, "image": {"class": "latest-weekly", "size": "Small", "debug": true},
        });
        for (key, value) in options.as_object().unwrap() {
            all[key] = value.clone();
        }
        leader.start(&flock("n", 1, "NubladoPythonLoop", &all)).await;
        leader.until(|report| report.flocks.contains_key("n")).await;
        Self {
            hub,
            leader,
            process,
            listener,
            is_stopped: false,
        }
    }

    fn monkey(&self) -> Option<MonkeyData> {
        self.process.handle.monkeys(&name("n")).into_iter().next()
    }

    async fn until<T>(&self, wanted: impl Fn(&Hub) -> Option<T>) -> T {
        let deadline = clock::now() + PATIENCE;
        loop {
            if let Some(value) = wanted(&self.hub) {
                return value;
            }
            assert!(
                clock::now() < deadline,
                "{:#?}\n{:#?}\n{:#?}",
                self.hub.requests(),
                self.hub.complaints(),
                self.monkey()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn until_code(&self, code: &str) {
        self.until(|hub| hub.code().iter().any(|run| run == code).then_some(()))
            .await;
    }

    /// Waits for so many iterations that ended well.
    async fn successes(&mut self, count: u64) -> MonkeyData {
        let deadline = clock::now() + PATIENCE;
        loop {
            if let Some(monkey) = self.monkey() {
                if monkey.business.success_count >= count {
                    return monkey;
                }
                let log = if monkey.business.failure_count > 0 || clock::now() > deadline {
                    self.log().await
                } else {
                    String::new()
                };
                assert!(
                    log.is_empty(),
                    "{log}\n{:#?}\n{:#?}",
                    self.hub.requests(),
                    self.hub.complaints()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for the first failure; returns the monkey's log.
    async fn failure(&mut self) -> String {
        let deadline = clock::now() + PATIENCE;
        loop {
            let log = self.log().await;
            if log.contains("Restarting failed monkey") {
                return log;
            }
            assert!(clock::now() < deadline, "{log}\n{:#?}", self.hub.requests());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn log(&mut self) -> String {
        if self.monkey().is_none() {
            return String::new();
        }
        self.leader.log("0", "n", USER).await
    }

    /// Stops the flock. It is not abandoned before the test loses its patience.
    async fn stop(&mut self) {
        if !std::mem::replace(&mut self.is_stopped, true) {
            self.leader.stop("n").await;
            self.leader.until_gone("n").await;
        }
    }

    /// Stops the flock, which leaves no lab and has done nothing wrong. It does not wait for a lab to go, so we do.
    async fn end(mut self) -> Hub {
        self.stop().await;
        self.until(|hub| hub.labs().is_empty().then_some(())).await;
        assert_eq!(self.hub.complaints(), Vec::<String>::new());
        self.process.drain().await;
        self.hub
    }
}

fn count(requests: &[String], wanted: &str) -> usize {
    requests.iter().filter(|request| request.starts_with(wanted)).count()
}

#[tokio::test]
async fn an_iteration_is_a_lab_a_session_and_code_and_leaves_nothing() {
    let mut bench = Bench::start(Knobs::default(), json!({"working_directory": "a \"dir\""})).await;
    let monkey = bench.successes(2).await;
    assert_eq!((monkey.business.failure_count, monkey.business.running_code), (0, None));
    let log = bench.log().await;
    let hub = bench.end().await;
    let requests = hub.requests();
    let wanted = [
        "GET /nb/hub/home",
        "GET /nb/hub/login",
        "GET /nb/hub/home",
        "GET /nb/hub/api/users/bot-mobu-n1",
        "GET /nb/hub/spawn",
        "POST /nb/hub/spawn",
        "GET /nb/hub/spawn-pending/bot-mobu-n1",
        "GET /nb/hub/api/users/bot-mobu-n1/server/progress",
        "GET /nb/user/bot-mobu-n1/lab",
        "GET /nb/hub/api/oauth2/authorize",
        "GET /nb/user/bot-mobu-n1/oauth_callback",
        "GET /nb/user/bot-mobu-n1/lab",
        "GET /nb/user/bot-mobu-n1/lab",
        "POST /nb/user/bot-mobu-n1/api/sessions",
    ];
    assert_eq!(requests[..wanted.len()], wanted);
    assert_eq!(hub.forms()[0], "image_class=latest-weekly&size=Small&enable_debug=true");
    assert!(
        hub.code()
            .iter()
            .any(|code| code.contains("os.chdir(\"a \\\"dir\\\"\")")),
        "{:?}",
        hub.code()
    );
    let events = [
        "Starting up...",
        "Logging in to hub",
        "Starting next iteration",
        "Spawning lab",
        "Spawn in progress (",
        "Spawn complete (",
        "Logging in to lab",
        "Creating lab session",
        "Running on image example.org/lab:w_2026_01 (Weekly 2026_01)",
        "Running on node node-1",
        "Changing directories to a \\\"dir\\\"",
        "print(2+2, end=\\\"\\\") -> 4",
        "print(2+2, end=\\\"\\\") -> 4",
        "Deleting lab session",
        "Logging in to hub",
        "Deleting lab",
        "Lab successfully deleted",
        "Idling...",
    ];
    let mut rest = log.as_str();
    for event in events {
        let at = rest
            .find(&format!("\"event\": \"{event}"))
            .unwrap_or_else(|| panic!("{event} in {rest}"));
        rest = &rest[at + 1..];
    }
}

#[tokio::test]
async fn both_sub_protocols_carry_output_errors_and_what_comes_late() {
    for speaks_v1 in [true, false] {
        let code = "print(a)\nerr(b)\nlate(c)\nlate(d)";
        let knobs = Knobs {
            speaks_v1,
            ..Knobs::default()
        };
        let mut bench = Bench::start(knobs, json!({"code": code})).await;
        bench.successes(1).await;
        let log = bench.log().await;
        assert!(log.contains("-> abcd\""), "{log}");
        assert!(!log.contains("Ignoring"), "{log}");
        bench.end().await;
    }
}

#[tokio::test]
async fn garbage_on_the_socket_is_warned_of_and_a_missing_idle_is_not_waited_for() {
    for speaks_v1 in [true, false] {
        let knobs = Knobs {
            speaks_v1,
            ..Knobs::default()
        };
        let mut bench = Bench::start(
            knobs,
            json!({"code": "garbage\nprint(x)\nreply_only", "max_executions": 1}),
        )
        .await;
        bench.successes(1).await;
        let log = bench.log().await;
        let count = |text: &str| log.matches(text).count();
        assert_eq!(count("Ignoring unparsable web socket message"), 3, "{log}");
        assert_eq!(count("Ignoring unrecognized WebSocket message"), 1, "{log}");
        assert!(log.contains("-> x\""), "{log}");
        bench.end().await;
    }
}

#[tokio::test]
async fn code_that_fails_says_how_and_its_lab_goes() {
    for (code, text) in [
        (
            "print(a)\nraise X\nprint(b)",
            "execute: E: raise X\ntraceback:\nTraceback\n\nraise X",
        ),
        ("raise_quietly", "execute: the kernel gave the status `aborted`"),
        ("close", "websocket: JupyterLab WebSocket unexpectedly closed: "),
        ("drop", "websocket: Error talking to lab WebSocket: "),
        (
            "flood",
            "websocket: Error talking to lab WebSocket: Space limit exceeded",
        ),
        ("sleep", "timeout: running code timed out after 200ms"),
    ] {
        let mut options = json!({"code": code, "max_websocket_message_size": 500_000});
        if code == "sleep" {
            options["cell_execution_timeout"] = json!(0.2);
        }
        let mut bench = Bench::start(Knobs::default(), options).await;
        let log = bench.failure().await;
        assert!(log.contains(text), "{code}: {log}");
        assert!(
            log.contains("Deleting lab session") && log.contains("Deleting lab\""),
            "{code}: {log}"
        );
        assert_eq!(bench.hub.labs(), Vec::<String>::new());
        assert_eq!(bench.monkey().unwrap().business.image, None);
        bench.end().await;
    }
}

#[tokio::test]
async fn a_session_whose_kernel_cannot_be_reached_is_deleted() {
    let knobs = Knobs {
        broken: Some("GET /nb/user/bot-mobu-n1/api/kernels"),
        ..Knobs::default()
    };
    let mut bench = Bench::start(knobs, json!({})).await;
    let log = bench.failure().await;
    assert!(
        log.contains("websocket: JupyterLab WebSocket unexpectedly closed"),
        "{log}"
    );
    let requests = bench.hub.requests();
    assert_eq!(
        count(&requests, "DELETE /nb/user/bot-mobu-n1/api/sessions"),
        1,
        "{requests:?}"
    );
    bench.end().await;
}

#[tokio::test]
async fn a_kernel_that_dies_is_a_failure_and_the_next_session_has_another_one() {
    for speaks_v1 in [true, false] {
        for (code, state) in [("print(a)\ndie", "restarting"), ("print(a)\ndie_late", "dead")] {
            let knobs = Knobs {
                speaks_v1,
                ..Knobs::default()
            };
            let options = json!({"code": code, "error_idle_time": 0.01, "execution_idle_time": 0.1});
            let mut bench = Bench::start(knobs, options).await;
            let log = bench.failure().await;
            let text = format!("kernel: the kernel died; its lab calls it `{state}`");
            assert!(
                log.contains(&text) && log.contains("\"phase\": \"execute_python\""),
                "{code}: {log}"
            );
            let sessions = "POST /nb/user/bot-mobu-n1/api/sessions";
            bench
                .until(|hub| (count(&hub.requests(), sessions) > 1).then_some(()))
                .await;
            bench.end().await;
        }
    }
}

#[tokio::test]
async fn code_that_fails_is_logged_with_what_it_printed_and_then_with_the_error() {
    for (code, error) in [
        ("print(a)\nerr(b)\nraise X", "execute: E: raise X"),
        ("print(a)\nerr(b)\nsleep", "timeout: running code timed out"),
        ("print(a)\nerr(b)\nclose", "websocket: "),
        ("print(a)\nerr(b)\ndie", "kernel: "),
    ] {
        let mut options = json!({"code": code});
        if code.ends_with("sleep") {
            options["cell_execution_timeout"] = json!(3.0);
        }
        let mut bench = Bench::start(Knobs::default(), options).await;
        let log = bench.failure().await;
        let printed = log.find("did not end well, after it had printed: ab\"");
        let printed = printed.unwrap_or_else(|| panic!("{code}: {log}"));
        assert!(log[printed..].contains(error), "{code}: {log}");
        bench.end().await;
    }
}

#[tokio::test]
async fn a_lab_that_does_not_come_is_a_failure_with_a_reason() {
    for (spawn, text) in [
        (Spawn::Fails, "spawn: Lab did not spawn: Spawn failed: no room"),
        (Spawn::Ends, "spawn: Lab did not spawn: Server requested"),
        (Spawn::Never, "timeout: Lab did not spawn after "),
        (Spawn::Silent, "timeout: Lab did not spawn after "),
        (Spawn::BreaksOff, "/server/progress broke off"),
        (
            Spawn::Page,
            "its content type is `text/html; charset=utf-8`, not text/event-stream",
        ),
    ] {
        let knobs = Knobs {
            spawn,
            ..Knobs::default()
        };
        let options = match spawn {
            Spawn::Never | Spawn::Silent => json!({"spawn_timeout": 0.5}),
            _ => json!({}),
        };
        let mut bench = Bench::start(knobs, options).await;
        let log = bench.failure().await;
        assert!(
            log.contains(text) && log.contains("\"phase\": \"spawn_lab\""),
            "{spawn:?}: {log}"
        );
        assert_eq!(
            bench.hub.labs(),
            Vec::<String>::new(),
            "{spawn:?}: a lab that still comes is called off"
        );
        bench.end().await;
    }
}

#[tokio::test]
async fn what_comes_byte_by_byte_is_not_waited_for_without_end() {
    for (drips, options, text) in [
        (
            "GET /nb/hub/api/users",
            json!({"jupyter_timeout": 0.5}),
            "had no complete answer within 500ms",
        ),
        (
            "GET /nb/hub/spawn",
            json!({"spawn_timeout": 0.5}),
            "timeout: Lab did not spawn after ",
        ),
    ] {
        let knobs = Knobs {
            drips: Some(drips),
            ..Knobs::default()
        };
        let mut bench = Bench::start(knobs, options).await;
        let log = bench.failure().await;
        assert!(log.contains(text), "{drips}: {log}");
        bench.hub.set(|knobs| knobs.drips = None);
        bench.end().await;
    }
}

#[tokio::test]
async fn silence_between_two_events_is_limited() {
    let knobs = Knobs {
        spawn: Spawn::Silent,
        ..Knobs::default()
    };
    let mut bench = Bench::start(knobs, json!({"jupyter_timeout": 3.0})).await;
    let log = bench.failure().await;
    assert!(log.contains("with nothing heard for 3s"), "{log}");
    bench.end().await;
}

#[tokio::test]
async fn events_that_are_none_are_skipped() {
    let knobs = Knobs {
        spawn: Spawn::LabAfterGarbage,
        spawn_time: Duration::from_millis(100),
        ..Knobs::default()
    };
    let mut bench = Bench::start(knobs, json!({})).await;
    bench.successes(1).await;
    let log = bench.log().await;
    assert_eq!(
        log.matches("Ignoring invalid spawn progress event").count() % 3,
        0,
        "{log}"
    );
    assert!(
        log.contains("Ignoring invalid spawn progress event: no JSON at all"),
        "{log}"
    );
    bench.end().await;
}

#[tokio::test]
async fn logins_that_lead_nowhere_end_and_show_no_secret() {
    for (login, text) in [
        (Login::Circles, "redirect: Redirect loop: "),
        (Login::Wanders, "redirect: more than 30 redirects, the next one to "),
        (
            Login::LeadsAway,
            "redirect: Unexpected redirect: http://127.0.0.2:9/nb/hub/home?state=*** ",
        ),
        (Login::Refuses, "/nb/hub/login?next=*** was answered with status 403"),
    ] {
        let knobs = Knobs {
            login,
            ..Knobs::default()
        };
        let mut bench = Bench::start(knobs, json!({})).await;
        let log = bench.failure().await;
        assert!(
            log.contains(text) && log.contains("\"phase\": \"hub_login\""),
            "{login:?}: {log}"
        );
        assert!(!log.contains("secret"), "{login:?}: {log}");
        let most = if login == Login::Wanders { 40 } else { 10 };
        assert!(bench.hub.requests().len() < most, "{:?}", bench.hub.requests());
        bench.stop().await;
        bench.process.drain().await;
    }
}

/// Runs a monkey at a hub that puts its token into whatever it says, until its log says `last`; returns the log, which has the token
/// nowhere, nor has anything else that is told of the monkey.
async fn betrayed(knobs: Knobs, options: Value, last: &str) -> String {
    let knobs = Knobs { betrays: true, ..knobs };
    let mut bench = Bench::start(knobs, options).await;
    let deadline = clock::now() + PATIENCE;
    let log = loop {
        let log = bench.log().await;
        if log.contains(last) {
            break log;
        }
        if log.contains("Unable to delete lab, trying again") {
            bench.hub.set(|knobs| knobs.broken = None);
        }
        assert!(clock::now() < deadline, "no `{last}` in {log}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let tokens = bench.hub.tokens();
    let [token] = tokens.as_slice() else {
        panic!("one monkey, one token: {tokens:?}")
    };
    let (_, secret) = token.split_once('.').unwrap();
    let failed = log.contains("Restarting failed monkey");
    let told = |report: &mobu_fleet::domain::messages::Report| report.flocks["n"].failures.clone();
    let report = bench
        .leader
        .until(|report| !failed || told(report).is_some_and(|failures| !failures.causes.is_empty()))
        .await;
    bench.hub.set(|knobs| knobs.broken = None);
    for text in [&log, &format!("{report:?}"), &format!("{:?}", bench.monkey())] {
        assert!(!text.contains(secret), "{text}");
    }
    bench.end().await;
    log
}

#[tokio::test]
async fn a_token_that_hub_lab_or_kernel_give_back_is_in_no_log_and_no_report() {
    let shows = |log: &str, texts: &[&str]| {
        let public = log.split("gt-").nth(1).and_then(|rest| rest.split('.').next()).unwrap();
        for text in texts {
            let text = text.replace("TOKEN", &format!("gt-{public}.***"));
            assert!(log.contains(&text), "{text} in {log}");
        }
    };
    let garbage = Knobs {
        spawn: Spawn::LabAfterGarbage,
        spawn_time: Duration::from_millis(100),
        ..Knobs::default()
    };
    let log = betrayed(garbage, json!({"code": "garbage\nprint(x)"}), "-> gt-").await;
    shows(
        &log,
        &[
            "Ignoring invalid spawn progress event: TOKEN no JSON at all",
            "): TOKEN Server ready at",
            "Running on image TOKEN example.org/lab",
            "(TOKEN Weekly",
            "Running on node TOKEN node-1",
            "\"type\": \"TOKEN debug_event\"",
            "-> TOKEN x",
        ],
    );
    let fails = Knobs {
        spawn: Spawn::Fails,
        ..Knobs::default()
    };
    let log = betrayed(fails, json!({}), "Restarting failed monkey").await;
    shows(&log, &["Lab did not spawn: TOKEN Spawn failed"]);
    let log = betrayed(Knobs::default(), json!({"code": "raise X"}), "Restarting failed monkey").await;
    shows(&log, &["TOKEN raise X"]);
    for broken in ["POST /nb/hub/spawn", "DELETE /nb/hub/api", "DELETE /nb/user"] {
        let knobs = Knobs {
            broken: Some(broken),
            ..Knobs::default()
        };
        let log = betrayed(knobs, json!({"delete_lab": true}), "Restarting failed monkey").await;
        shows(&log, &["out of order</h1>TOKEN"]);
    }
}

#[tokio::test]
async fn a_hub_that_is_out_of_order_is_a_failure_at_each_step() {
    for step in [
        "GET /nb/hub/home",
        "GET /nb/hub/spawn",
        "POST /nb/hub/spawn",
        "GET /nb/user/bot-mobu-n1/lab",
        "GET /nb/hub/api/oauth2",
        "POST /nb/user/bot-mobu-n1/api/sessions",
        "GET /nb/user/bot-mobu-n1/api/kernels",
        "DELETE /nb/user/bot-mobu-n1/api/sessions",
    ] {
        let knobs = Knobs {
            broken: Some(step),
            ..Knobs::default()
        };
        let mut bench = Bench::start(knobs, json!({})).await;
        let log = bench.failure().await;
        assert!(log.contains("was answered with status 503"), "{step}: {log}");
        assert!(!log.contains("oauth-secret"), "{step}: {log}");
        bench.hub.set(|knobs| knobs.broken = None);
        bench.end().await;
    }
}

#[tokio::test]
async fn a_lab_that_was_left_behind_is_deleted_first() {
    let hub = Hub::start(Knobs {
        delete_time: Duration::from_secs(3),
        ..Knobs::default()
    })
    .await;
    hub.leave_lab(USER);
    let mut bench = Bench::on(hub, json!({})).await;
    bench.successes(1).await;
    let log = bench.log().await;
    assert!(log.contains("Waiting for lab deletion ("), "{log}");
    assert_eq!(bench.hub.most_labs(), 1);
    bench.end().await;
}

#[tokio::test]
async fn a_lab_that_does_not_go_is_a_failure() {
    let knobs = Knobs {
        delete_time: Duration::from_secs(3600),
        ..Knobs::default()
    };
    let mut bench = Bench::start(knobs, json!({"delete_timeout": 0.1})).await;
    let log = bench.failure().await;
    assert!(log.contains("timeout: Lab not deleted after "), "{log}");
    bench.hub.set(|knobs| knobs.delete_time = Duration::ZERO);
    bench.end().await;
}

#[tokio::test]
async fn a_lab_that_is_kept_lasts_over_iterations_until_the_stop() {
    let mut bench = Bench::start(Knobs::default(), json!({"delete_lab": false, "get_node": false})).await;
    let monkey = bench.successes(3).await;
    let image = json!({"description": "Weekly 2026_01", "reference": "example.org/lab:w_2026_01"});
    assert_eq!(monkey.business.image, Some(image));
    let hub = bench.end().await;
    assert_eq!(count(&hub.requests(), "POST /nb/hub/spawn"), 1);
    assert!(!hub.code().iter().any(|code| code.contains("get_node")));
}

#[tokio::test]
async fn a_lab_that_tells_no_image_has_an_empty_one() {
    let knobs = Knobs {
        tells_image: false,
        ..Knobs::default()
    };
    let mut bench = Bench::start(knobs, json!({"delete_lab": false})).await;
    assert_eq!(bench.successes(1).await.business.image, Some(json!({})));
    assert!(bench.log().await.contains("Unable to get running image from reply"));
    bench.end().await;
}

#[tokio::test]
async fn labs_with_hosts_of_their_own_are_found() {
    let knobs = Knobs {
        has_subdomains: true,
        ..Knobs::default()
    };
    let mut bench = Bench::start(knobs, json!({})).await;
    bench.successes(2).await;
    bench.end().await;
}

#[tokio::test]
async fn a_monkey_goes_on_after_a_failure() {
    let knobs = Knobs {
        broken: Some("POST /nb/hub/spawn"),
        ..Knobs::default()
    };
    let mut bench = Bench::start(knobs, json!({"error_idle_time": 0.01})).await;
    bench.failure().await;
    bench.hub.set(|knobs| knobs.broken = None);
    let deadline = clock::now() + PATIENCE;
    while bench.monkey().is_none_or(|monkey| monkey.business.success_count == 0) {
        assert!(clock::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bench.end().await;
}

#[tokio::test]
async fn a_stop_interrupts_a_cell_and_everything_goes() {
    let mut bench = Bench::start(Knobs::default(), json!({"code": "sleep"})).await;
    bench.until_code("sleep").await;
    bench.stop().await;
    let requests = bench.hub.requests();
    assert_eq!(
        count(&requests, "POST /nb/user/bot-mobu-n1/api/kernels"),
        1,
        "{requests:?}"
    );
    assert_eq!(
        count(&requests, "DELETE /nb/user/bot-mobu-n1/api/sessions"),
        1,
        "{requests:?}"
    );
    bench.end().await;
}

#[tokio::test]
async fn a_stop_is_prompt_wherever_it_comes_and_leaves_no_lab() {
    let long = Duration::from_secs(3600);
    let lab = |spawn_time, delete_time| Knobs {
        spawn_time,
        delete_time,
        ..Knobs::default()
    };
    let quick = || lab(Duration::ZERO, Duration::ZERO);
    for (what, knobs, options) in [
        (
            "GET /nb/hub/api/users/bot-mobu-n1/server/progress",
            lab(long, Duration::ZERO),
            json!({}),
        ),
        ("GET /nb/hub/spawn-pending", quick(), json!({"spawn_settle_time": 3600})),
        (
            "GET /nb/user/bot-mobu-n1/api/kernels",
            quick(),
            json!({"execution_idle_time": 3600}),
        ),
        (
            "DELETE /nb/hub/api/users/bot-mobu-n1/server",
            quick(),
            json!({"idle_time": 3600}),
        ),
    ] {
        let mut bench = Bench::start(knobs, options).await;
        bench
            .until(|hub| (count(&hub.requests(), what) > 0).then_some(()))
            .await;
        bench.stop().await;
        bench.end().await;
    }
    for what in [
        "GET /nb/hub/spawn",
        "POST /nb/hub/spawn",
        "GET /nb/user",
        "POST /nb/user/bot-mobu-n1/api/sessions",
    ] {
        let knobs = Knobs {
            hangs: Some(what),
            ..Knobs::default()
        };
        let mut bench = Bench::start(knobs, json!({})).await;
        bench
            .until(|hub| (count(&hub.requests(), what) > 0).then_some(()))
            .await;
        bench.stop().await;
        bench.end().await;
    }
}

const DELETION: &str = "DELETE /nb/hub/api/users/bot-mobu-n1/server";

#[tokio::test]
async fn a_goodbye_that_goes_wrong_is_said_again_until_it_is_taken() {
    let mut bench = Bench::start(Knobs::default(), json!({"delete_lab": false, "idle_time": 3600})).await;
    bench.successes(1).await;
    bench.hub.set(|knobs| knobs.broken = Some(DELETION));
    bench.leader.stop("n").await;
    bench
        .until(|hub| (count(&hub.requests(), DELETION) > 1).then_some(()))
        .await;
    bench.hub.set(|knobs| knobs.broken = None);
    bench.is_stopped = true;
    bench.leader.until_gone("n").await;
    bench.end().await;
}

#[tokio::test]
async fn a_lab_that_is_still_coming_is_called_off_as_soon_as_the_hub_lets_it() {
    let knobs = Knobs {
        spawn_time: Duration::from_secs(2),
        refuses_hasty_ends: true,
        ..Knobs::default()
    };
    let mut bench = Bench::start(knobs, json!({})).await;
    let asked = "GET /nb/hub/api/users/bot-mobu-n1/server/progress";
    bench
        .until(|hub| (count(&hub.requests(), asked) > 0).then_some(()))
        .await;
    bench.stop().await;
    assert!(count(&bench.hub.requests(), DELETION) > 1, "{:?}", bench.hub.requests());
    bench.end().await;
}

#[tokio::test]
async fn a_lab_of_an_earlier_run_goes_at_a_stop_in_the_error_pause() {
    let hub = Hub::start(Knobs {
        broken: Some(DELETION),
        ..Knobs::default()
    })
    .await;
    hub.leave_lab(USER);
    let mut bench = Bench::on(hub, json!({})).await;
    let log = bench.failure().await;
    assert_eq!(bench.hub.labs(), [USER], "{log}");
    bench.hub.set(|knobs| knobs.broken = None);
    bench.end().await;
}

#[tokio::test]
async fn no_lab_is_born_after_the_goodbye() {
    // Within the time for an answer, and beyond it, when nobody listens any more.
    for (time, longest) in [(1, 20), (6, 25)] {
        let knobs = Knobs {
            thinking_time: Duration::from_secs(time),
            ..Knobs::default()
        };
        let mut bench = Bench::start(knobs, json!({})).await;
        bench
            .until(|hub| (count(&hub.requests(), "POST /nb/hub/spawn") > 0).then_some(()))
            .await;
        let begun = clock::now();
        bench.stop().await;
        assert!(begun.elapsed() < Duration::from_secs(longest), "{:?}", begun.elapsed());
        assert_eq!(bench.hub.most_labs(), 1, "it came, {:?}", bench.hub.requests());
        bench.end().await;
    }
}

#[tokio::test]
async fn who_never_asked_for_a_lab_does_not_wait_for_a_mute_hub() {
    let knobs = Knobs {
        hangs: Some("GET /nb/hub"),
        ..Knobs::default()
    };
    let mut bench = Bench::start(knobs, json!({})).await;
    bench
        .until(|hub| (count(&hub.requests(), "GET /nb/hub/home") > 0).then_some(()))
        .await;
    let begun = clock::now();
    bench.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    bench.process.drain().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_lab_to_go() {
    let knobs = Knobs {
        delete_time: Duration::from_secs(3600),
        ..Knobs::default()
    };
    let mut bench = Bench::start(knobs, json!({"delete_timeout": 3600})).await;
    bench
        .until(|hub| (count(&hub.requests(), "DELETE /nb/hub/api") > 0).then_some(()))
        .await;
    bench.stop().await;
    bench.process.drain().await;
}

#[tokio::test]
async fn a_stop_before_the_first_login_asks_for_no_lab() {
    let mut bench = Bench::start(Knobs::default(), json!({"jitter": 3600})).await;
    bench.leader.until_phase("n", FlockPhase::Running).await;
    bench.stop().await;
    let hub = bench.end().await;
    assert_eq!(count(&hub.requests(), "POST /nb/hub/spawn"), 0);
}

#[tokio::test]
async fn spawn_code_and_deletion_are_events_with_durations() {
    let knobs = Knobs {
        delete_time: Duration::from_millis(50),
        ..Knobs::default()
    };
    let mut bench = Bench::start(knobs, json!({"code": "print(4)"})).await;
    for what in ["spawn", "python", "python", "delete", "spawn"] {
        let act = bench.listener.hear().await.act;
        let name = match &act {
            Act::NubladoSpawnLab { .. } => "spawn",
            Act::NubladoPythonExecution { code, .. } if code == "print(4)" => "python",
            Act::NubladoDeleteLab { .. } => "delete",
            _ => panic!("{act:?}"),
        };
        assert_eq!((name, act.is_success()), (what, true), "{act:?}");
        assert!(act.duration().is_some_and(|duration| !duration.is_zero()), "{act:?}");
    }
    bench.end().await;
}

#[tokio::test]
async fn code_that_fails_is_an_event_without_a_duration() {
    let mut bench = Bench::start(Knobs::default(), json!({"code": "raise X"})).await;
    let ran = |act: &Act| matches!(act, Act::NubladoPythonExecution { .. });
    let act = bench.listener.until(ran).await;
    assert_eq!((act.is_success(), act.duration()), (false, None), "{act:?}");
    bench.end().await;
}

#[tokio::test]
async fn a_lab_that_does_not_come_or_go_is_an_event_with_the_time_that_it_took() {
    let knobs = Knobs {
        spawn: Spawn::Fails,
        ..Knobs::default()
    };
    let mut bench = Bench::start(knobs, json!({})).await;
    let act = bench.listener.hear().await.act;
    assert!(
        matches!(act, Act::NubladoSpawnLab { success: false, duration } if duration > 0.0),
        "{act:?}"
    );
    bench.end().await;
    let knobs = Knobs {
        delete_time: Duration::from_secs(3600),
        ..Knobs::default()
    };
    let mut bench = Bench::start(knobs, json!({"delete_timeout": 0.1})).await;
    let deleted = |act: &Act| matches!(act, Act::NubladoDeleteLab { .. });
    let act = bench.listener.until(deleted).await;
    assert!(
        matches!(act, Act::NubladoDeleteLab { success: false, duration } if duration >= 0.1),
        "{act:?}"
    );
    bench.hub.set(|knobs| knobs.delete_time = Duration::ZERO);
    bench.end().await;
}

#[tokio::test]
async fn a_spawn_that_a_stop_interrupts_is_a_success_and_its_hurried_deletion_no_event() {
    let knobs = Knobs {
        spawn_time: Duration::from_secs(3600),
        ..Knobs::default()
    };
    let mut bench = Bench::start(knobs, json!({})).await;
    let asked = "GET /nb/hub/api/users/bot-mobu-n1/server/progress";
    bench
        .until(|hub| (count(&hub.requests(), asked) > 0).then_some(()))
        .await;
    bench.stop().await;
    let act = bench.listener.hear().await.act;
    assert!(matches!(act, Act::NubladoSpawnLab { success: true, .. }), "{act:?}");
    bench.hub.set(|knobs| knobs.spawn_time = Duration::ZERO);
    let again = json!({"spawn_settle_time": 0});
    bench.leader.start(&flock("n", 1, "NubladoPythonLoop", &again)).await;
    let act = bench.listener.hear().await.act;
    assert!(matches!(act, Act::NubladoSpawnLab { .. }), "{act:?}");
    bench.is_stopped = false;
    bench.end().await;
}
