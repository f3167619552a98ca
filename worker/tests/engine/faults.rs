//! Services that fail in the middle of a monkey's life: each fault is one failure that says what happened, and the monkey goes on.
//! The services are stand-ins, and so is what breaks them ([`crate::front`]).

use std::process::Stdio;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use mobu_fleet::domain::discovery::Discovery;
use mobu_fleet::runtime::config::ServiceDiscovery;
use mobu_worker::WorkerConfig;
use serde_json::{Value, json};

use crate::front::{Fault, Front};
use crate::leader::{Leader, Process, flock, name};
use crate::service::serve;
use crate::vo::{Script, Service};

const VOTABLE: &str = "application/x-votable+xml";
const GOOD: &str = "<VOTABLE><RESOURCE type='results'><INFO name='QUERY_STATUS' value='OK'/><TABLE><FIELD name='a' datatype='int'/>\
                    </TABLE></RESOURCE></VOTABLE>";

/// Runs one monkey until it has failed and succeeded again; returns how often it failed, and its log.
async fn life(config: WorkerConfig, business: &str, options: &Value) -> (u64, String) {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, config);
    let mut all = json!({"idle_time": 0.05, "error_idle_time": 0.05});
    for (key, value) in options.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    leader.start(&flock("v", 1, business, &all)).await;
    // Announces meanwhile: a replica that hears of no leader waits before it believes the log alone.
    leader.until(|report| report.flocks.contains_key("v")).await;
    let failures = process
        .until(|handle| {
            let business = handle.monkeys(&name("v")).into_iter().next()?.business;
            (business.failure_count > 0 && business.success_count > 1).then_some(business.failure_count)
        })
        .await;
    let log = leader.log("0", "v", "bot-mobu-v1").await;
    // An orderly end takes its time and is not what this is about.
    process.kill().await;
    (failures, log)
}

/// What a fault is called in the monkey's log, and what it says.
type Wanted = (Fault, &'static str, &'static str);

/// What every client of HTTP makes of what is no good answer.
const OF_ALL: [Wanted; 5] = [
    (Fault::Closed, "transport", ""),
    (Fault::Refused, "transport", ""),
    (
        Fault::RedirectToNowhere,
        "connect",
        "could not connect to http://127.0.0.1:9/",
    ),
    (Fault::RedirectToGarbage, "redirect", "to no address"),
    (Fault::Garbage, "transport", ""),
];

async fn check_vo(business: &str, options: &Value, request: &'static str, wanted: &[Wanted]) {
    for (fault, kind, text) in wanted {
        let (service, _, _tasks) = Service::start(Script {
            capabilities: if business.starts_with("SIA") {
                "/api/sia/dp02/capabilities"
            } else {
                "/api/tap/capabilities"
            },
            ..Script::default()
        })
        .await;
        let front = Front::start(&service.base(), request, *fault).await;
        let config = service.is_at(&front.base);
        let (failures, log) = life(config, business, options).await;
        assert!(front.has_happened(), "{fault:?}: {:?}", front.asked());
        assert_eq!(failures, 1, "{fault:?}: {log}");
        let begin = format!("\n{kind}: ");
        let error = log
            .split(&begin)
            .nth(1)
            .unwrap_or_else(|| panic!("{fault:?}: no `{kind}` in {log}"));
        assert!(error.contains(text), "{fault:?}: {log}");
    }
}

/// What clients of TAP and SIA make of answers to queries.
const OF_QUERIES: [Wanted; 6] = [
    (Fault::Cut, "transport", "broke off"),
    (Fault::RedirectInCircles, "redirect", "in circles"),
    (
        Fault::Answer(500, "text/plain", "out of order"),
        "status",
        "out of order",
    ),
    (
        Fault::Answer(503, VOTABLE, GOOD),
        "status",
        "503 Server Error: Service Unavailable",
    ),
    (
        Fault::Answer(200, "text/html", "<html><p>welcome</html>"),
        "format",
        "E19",
    ),
    (
        Fault::Answer(200, VOTABLE, "<VOTABLE><RESOURCE>"),
        "format",
        "ends before it is complete",
    ),
];

#[tokio::test]
async fn a_synchronous_query_survives_every_fault_of_its_service() {
    let options = json!({"queries": ["SELECT 1"]});
    let wanted = [OF_ALL.as_slice(), OF_QUERIES.as_slice()].concat();
    check_vo("TAPQueryRunner", &options, "POST /api/tap/sync", &wanted).await;
}

#[tokio::test]
async fn a_job_survives_every_fault_of_its_service_at_each_step() {
    let options = json!({"queries": ["SELECT 1"], "sync": false});
    check_vo("TAPQueryRunner", &options, "GET /api/tap/async/7/results", &OF_QUERIES).await;
    let steps = [
        "POST /api/tap/async ",
        "GET /api/tap/async/7 ",
        "GET /api/tap/async/7?WAIT",
    ];
    for step in steps {
        check_vo("TAPQueryRunner", &options, step, &OF_ALL).await;
    }
    let nonsense = [
        (
            Fault::Answer(500, "text/plain", "out of order"),
            "status",
            "out of order",
        ),
        (
            Fault::Answer(200, "text/plain", "no job"),
            "job",
            "did not answer with the description of a job",
        ),
    ];
    check_vo("TAPQueryRunner", &options, steps[2], &nonsense).await;
}

#[tokio::test]
async fn a_search_for_images_survives_every_fault_of_its_service() {
    let wanted = [OF_ALL.as_slice(), OF_QUERIES.as_slice()].concat();
    check_vo("SIAQuerySetRunner", &json!({}), "GET /api/sia/dp02/query", &wanted).await;
}

#[tokio::test]
async fn an_http_service_may_fail_in_every_way() {
    let router = || Router::new().route("/page", get(|| async { "a page that is long enough to be cut in two" }));
    for (fault, kind) in [
        (Fault::Cut, "transport"),
        (Fault::Closed, "transport"),
        (Fault::Refused, "transport"),
        (Fault::Garbage, "transport"),
        (Fault::RedirectToNowhere, "connect"),
        (Fault::RedirectInCircles, "redirect"),
        (Fault::Answer(502, "text/plain", "bad gateway"), "status"),
    ] {
        let (base, _tasks) = serve(router()).await;
        let front = Front::start(&base, "GET /page", fault).await;
        let options =
            json!({"requests": [{"url": format!("{}/page", front.base), "expect": {"body_contains": "in two"}}]});
        let (failures, log) = life(WorkerConfig::for_tests("0", 1), "HTTPRunner", &options).await;
        assert_eq!(failures, 1, "{fault:?}: {log}");
        assert!(log.contains(&format!("\n{kind}: ")), "{fault:?}: {log}");
    }
}

/// A server with a certificate for another name, of an authority that nobody knows. It ends with the test.
pub(crate) struct Stranger {
    pub(crate) base: String,
    server: tokio::process::Child,
    _directory: tempfile::TempDir,
}

impl Stranger {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (key, certificate) = (
            directory.path().join("key.pem"),
            directory.path().join("certificate.pem"),
        );
        let made = tokio::process::Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", "/CN=elsewhere.test", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stderr(Stdio::null())
            .status()
            .await
            .unwrap();
        assert!(made.success());
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let mut server = tokio::process::Command::new("openssl")
            .args([
                "s_server",
                "-quiet",
                "-www",
                "-accept",
                &format!("127.0.0.1:{port}"),
                "-key",
            ])
            .arg(&key)
            .arg("-cert")
            .arg(&certificate)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(server.try_wait().unwrap().is_none(), "openssl does not serve");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Stranger {
            base: format!("https://127.0.0.1:{port}"),
            server,
            _directory: directory,
        }
    }

    pub(crate) async fn end(mut self) {
        self.server.kill().await.unwrap();
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_named_as_the_cause_by_every_client() {
    let stranger = Stranger::start().await;
    let base = stranger.base.clone();
    let services = json!({"tap": {"url": format!("{base}/tap")}, "sia": {"url": format!("{base}/sia")}});
    let discovery = json!({
        "datasets": {"dp02": {"services": services}},
        "services": {
            "internal": {"muster": {"url": format!("{base}/muster")}},
            "ui": {"nublado": {"url": format!("{base}/nb")}},
        },
    });
    let requests = json!({"requests": [{"url": format!("{base}/page")}]});
    let lfs = json!({"lfs_read_url": format!("{base}/read"), "lfs_write_url": format!("{base}/write")});
    for (business, options, text) in [
        (
            "TAPQueryRunner",
            json!({"queries": ["SELECT 1"]}),
            "could not connect to https://127.0.0.1",
        ),
        ("SIAQuerySetRunner", json!({}), "could not connect to https://127.0.0.1"),
        ("HTTPRunner", requests, "could not connect"),
        ("NubladoPythonLoop", json!({}), "GET https://127.0.0.1"),
        ("GitLFS", lfs, "`git push origin main`"),
    ] {
        let mut config = WorkerConfig::for_tests("0", 1);
        let services = Discovery::parse_at(&discovery, &[]).unwrap();
        config.discovery = Some(ServiceDiscovery::Static(services.into()));
        let mut leader = Leader::new().await;
        let process = Process::start(&leader.hub, config);
        let mut options = options;
        options["error_idle_time"] = json!(0.05);
        leader.start(&flock("v", 1, business, &options)).await;
        // Twice: it is tried again.
        process
            .until(|handle| {
                let business = handle.monkeys(&name("v")).into_iter().next()?.business;
                (business.failure_count > 1 && business.success_count == 0).then_some(())
            })
            .await;
        let log = leader.log("0", "v", "bot-mobu-v1").await;
        assert!(log.contains(text), "{business}: {log}");
        let cause = log.to_lowercase();
        assert!(cause.contains("certificate"), "{business}: {log}");
        process.drain().await;
    }
    stranger.end().await;
}
