//! What a replica tells of its monkeys' work: failures by cause, events, figures, and whether it is itself too slow.

use std::time::Duration;

use mobu_fleet::domain::events::Act;
use mobu_fleet::domain::ids::MonkeyName;
use mobu_fleet::domain::messages::FlockPhase;
use mobu_worker::WorkerConfig;
use regex::Regex;
use serde_json::json;

use crate::leader::{Leader, Listener, PATIENCE, Process, flock, idlers, name};

fn publishing() -> WorkerConfig {
    WorkerConfig {
        event_rate: 100,
        ..WorkerConfig::for_tests("0", 1)
    }
}

/// A flock whose requests nobody answers: the port is that of a listener that has gone.
fn failing(name: &str) -> serde_json::Value {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let requests = json!([{"method": "GET", "url": format!("http://u:p@{free}/a?token=hidden")}]);
    flock(
        name,
        2,
        "HTTPRunner",
        &json!({"requests": requests, "idle_time": 1, "error_idle_time": 1}),
    )
}

#[tokio::test]
async fn whoever_listens_hears_what_monkeys_did() {
    let mut leader = Leader::new().await;
    let mut listener = Listener::on(&leader.hub, "lambs.EmptyLoop.#").await;
    let process = Process::start(&leader.hub, publishing());
    leader.start(&idlers("others", 1)).await;
    leader.start(&idlers("lambs", 1)).await;
    let event = listener.hear().await;
    assert_eq!(event.flock, Some(name("lambs")));
    assert_eq!(event.username, MonkeyName::new("bot-mobu-lambs1"));
    assert_eq!(
        (event.business.as_str(), event.act),
        ("EmptyLoop", Act::EmptyLoop { success: true })
    );
    process.drain().await;
}

#[tokio::test]
async fn failures_are_reported_by_cause_and_without_secrets() {
    let mut leader = Leader::new().await;
    let mut listener = Listener::on(&leader.hub, "#.http_request").await;
    let process = Process::start(&leader.hub, publishing());
    leader.start(&failing("lambs")).await;
    let told = |flock: &mobu_fleet::domain::messages::FlockReport| flock.failures.clone();
    let report = leader
        .until(|report| {
            let failures = report.flocks.get("lambs").and_then(told);
            failures.is_some_and(|failures| failures.causes[0].count >= 2)
        })
        .await;
    let failures = told(&report.flocks["lambs"]).unwrap();
    let [cause] = &*failures.causes else {
        panic!("one cause: {failures:?}")
    };
    assert_eq!(
        (cause.kind.as_str(), cause.phase.as_deref()),
        ("connect", Some("request"))
    );
    assert!(cause.url.as_ref().unwrap().ends_with("/a"), "{cause:?}");
    assert!(cause.example.contains("could not connect"), "{cause:?}");
    assert!(!format!("{report:?}").contains("hidden"), "{report:?}");
    let event = listener.hear().await;
    assert!(
        matches!(
            event.act,
            Act::HttpRequest {
                success: false,
                status: None,
                ..
            }
        ),
        "{event:?}"
    );
    process.drain().await;
}

#[tokio::test]
async fn a_flock_that_cannot_start_says_why_as_a_cause_too() {
    let mut leader = Leader::new().await;
    let mut config = WorkerConfig::for_tests("0", 1);
    config.tokens = mobu_worker::TokenSource::Gafaelfawr {
        token: "gt-key.secret".into(),
        timeout: Duration::from_secs(1),
    };
    let discovery = mobu_fleet::domain::discovery::Discovery::parse_at(&json!({}), &[]).unwrap();
    config.discovery = Some(mobu_fleet::runtime::config::ServiceDiscovery::Static(discovery.into()));
    let process = Process::start(&leader.hub, config);
    leader.start(&idlers("lambs", 1)).await;
    let report = leader
        .until(|report| report.flocks.get("lambs").is_some_and(|flock| flock.failures.is_some()))
        .await;
    let flock = &report.flocks["lambs"];
    assert_eq!(flock.phase, FlockPhase::Failed);
    let cause = &flock.failures.as_ref().unwrap().causes[0];
    assert_eq!(
        (cause.kind.as_str(), cause.phase.as_deref()),
        ("discovery", Some("discovery"))
    );
    process.drain().await;
}

#[tokio::test]
async fn a_replica_whose_threads_are_busy_says_that_it_is_overloaded() {
    let mut leader = Leader::new().await;
    let config = WorkerConfig {
        report_interval: Duration::from_millis(500),
        max_lateness: Duration::from_millis(20),
        ..WorkerConfig::for_tests("0", 1)
    };
    let process = Process::start(&leader.hub, config);
    let mut lambs = idlers("lambs", 20);
    lambs["business"]["options"]["idle_time"] = json!(0.05);
    leader.start(&lambs).await;
    leader.until_phase("lambs", FlockPhase::Running).await;
    // All of this runs on one thread: whoever keeps it keeps the monkeys waiting.
    let deadline = std::time::Instant::now() + PATIENCE;
    while !process.handle.status().borrow().process.overloaded {
        assert!(std::time::Instant::now() < deadline, "it does not notice");
        std::thread::sleep(Duration::from_millis(150));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let report = leader.until(|report| report.process.overloaded).await;
    assert!(report.process.lateness.unwrap().max_ms > 20.0, "{report:?}");
    process.drain().await;
}

#[tokio::test]
async fn the_figures_are_what_prometheus_reads() {
    let mut leader = Leader::new().await;
    let config = WorkerConfig {
        http_bind: Some("127.0.0.1:0".parse().unwrap()),
        ..publishing()
    };
    let process = Process::start(&leader.hub, config);
    leader.start(&failing("lambs")).await;
    leader.start(&idlers("sheep", 1)).await;
    leader
        .until(|report| report.flocks.get("lambs").is_some_and(|lambs| lambs.failure_count > 0))
        .await;
    leader
        .until(|report| report.flocks.get("sheep").is_some_and(|sheep| sheep.success_count > 0))
        .await;
    let url = format!("http://{}/metrics", process.handle.admin_address().unwrap());
    let page = reqwest::get(url).await.unwrap().text().await.unwrap();
    check_exposition(&page);
    for beginning in [
        "mobu_events_total{flock=\"sheep\",business=\"EmptyLoop\",event=\"empty_loop\",outcome=\"success\"} ",
        "mobu_events_total{flock=\"lambs\",business=\"HTTPRunner\",event=\"http_request\",outcome=\"failure\"} ",
        "mobu_event_duration_seconds_bucket{flock=\"lambs\",business=\"HTTPRunner\",event=\"http_request\",outcome=\"failure\",le=\"0.001\"} ",
        "mobu_iteration_duration_seconds_count{flock=\"lambs\",business=\"HTTPRunner\",outcome=\"failure\"} ",
        "mobu_worker_overloaded 0",
    ] {
        assert!(
            page.lines().any(|line| line.starts_with(beginning)),
            "{beginning}\n{page}"
        );
    }
    assert!(!page.contains("bot-mobu"), "no figure is about one monkey:\n{page}");
    process.drain().await;
}

/// Reads a page as Prometheus does: each family is announced once and before its samples, whose names and values are right,
/// and the buckets of a histogram grow up to its count.
fn check_exposition(page: &str) {
    let head = Regex::new(r"^# TYPE ([a-z_]+) (counter|gauge|histogram)$").unwrap();
    let sample = Regex::new(r#"^([a-z_]+)(?:\{((?:[a-z]+="[^"\\]*",?)+)\})? ([0-9.e+-]+)$"#).unwrap();
    let (mut family, mut kind, mut seen) = (String::new(), String::new(), Vec::new());
    let mut bucket: Option<(String, f64)> = None;
    for line in page.lines() {
        if let Some(found) = head.captures(line) {
            (family, kind) = (found[1].to_owned(), found[2].to_owned());
            assert!(!seen.contains(&family), "{family} comes twice");
            seen.push(family.clone());
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let found = sample.captures(line).unwrap_or_else(|| panic!("not a sample: {line}"));
        let value: f64 = found[3].parse().unwrap();
        let rest = found[1]
            .strip_prefix(family.as_str())
            .unwrap_or_else(|| panic!("{line} belongs to no family"));
        match (kind.as_str(), rest) {
            ("histogram", "_bucket") => {
                let labels = &found[2];
                let series = labels[..labels.rfind(",le=").unwrap()].to_owned();
                if let Some((before, count)) = &bucket
                    && *before == series
                {
                    assert!(value >= *count, "{line} has less than the bucket before");
                }
                bucket = Some((series, value));
            }
            ("histogram", "_count") => {
                let (series, count) = bucket.take().unwrap();
                assert!(series == found[2] && count.total_cmp(&value).is_eq(), "{line}");
            }
            ("histogram", "_sum") | (_, "") => {}
            _ => panic!("{line} does not belong to {family}"),
        }
    }
    assert!(seen.len() > 10);
}
