//! A stand-in for a TAP and SIA service that speaks the protocols as far as a client sees them: capabilities, queries at once, jobs
//! with phases, tables. It answers what a test tells it, and notes what it is asked. It knows no ADQL and holds no data.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mobu_fleet::domain::discovery::Discovery;
use mobu_fleet::runtime::config::ServiceDiscovery;
use mobu_fleet::runtime::tasks::Tasks;
use mobu_worker::WorkerConfig;
use serde_json::{Value, json};

use crate::leader::{Leader, Process, flock, name, unhurried};
use crate::service::serve;

/// What a test tells the service, and what it has been asked.
#[derive(Default)]
pub(crate) struct Service {
    pub(crate) script: Mutex<Script>,
    asked: Mutex<Vec<Asked>>,
    base: Mutex<String>,
}

/// How the service behaves.
#[derive(Clone)]
pub(crate) struct Script {
    /// Where capabilities are: below the base, or beside it.
    pub(crate) capabilities: &'static str,
    /// The answer to a query, with its status.
    pub(crate) answer: (u16, String),
    /// Whether answers never come.
    pub(crate) hangs: bool,
    /// Phases of a job at each look with `WAIT`; the last one stays.
    pub(crate) phases: Vec<&'static str>,
    /// Where the result of a job is; nowhere of ours unless it is empty.
    pub(crate) result: String,
    /// How long it takes to make a job.
    pub(crate) making: Duration,
    /// Why jobs fail.
    pub(crate) message: &'static str,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) what: String,
    pub(crate) body: String,
    pub(crate) has_token: bool,
}

pub(crate) fn votable(status: &str, text: &str) -> String {
    format!(
        "<VOTABLE><RESOURCE type='results'><INFO name='QUERY_STATUS' value='{status}'>{text}</INFO><TABLE><FIELD name='a' \
         datatype='int'/><DATA><TABLEDATA><TR><TD>1</TD></TR></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"
    )
}

impl Default for Script {
    fn default() -> Self {
        Self {
            capabilities: "/api/tap/capabilities",
            answer: (200, votable("OK", "")),
            hangs: false,
            phases: vec!["COMPLETED"],
            result: String::new(),
            making: Duration::ZERO,
            message: "",
        }
    }
}

impl Service {
    /// Serves; returns also a configuration of a worker that finds the service.
    pub(crate) async fn start(script: Script) -> (Arc<Self>, WorkerConfig, Tasks) {
        let service = Arc::new(Self {
            script: Mutex::new(script),
            ..Self::default()
        });
        let router = Router::new().fallback(answer).with_state(service.clone());
        let (base, tasks) = serve(router).await;
        let config = service.is_at(&base);
        (service, config, tasks)
    }

    /// Where it is.
    pub(crate) fn base(&self) -> String {
        self.base.lock().unwrap().clone()
    }

    /// Says that it is there from now on; returns a configuration of a worker that finds it there.
    pub(crate) fn is_at(&self, base: &str) -> WorkerConfig {
        base.clone_into(&mut self.base.lock().unwrap());
        let services =
            json!({"tap": {"url": format!("{base}/api/tap")}, "sia": {"url": format!("{base}/api/sia/dp02")}});
        let discovery = json!({"datasets": {"dp02": {"services": services}}});
        let mut config = unhurried();
        config.discovery = Some(ServiceDiscovery::Static(Arc::new(
            Discovery::parse_at(&discovery, &[]).unwrap(),
        )));
        config
    }

    /// What it was asked so far, as `METHOD path`.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The same in words, without what a monkey did after its first iteration.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.what).collect()
    }

    fn job(&self, phase: &str) -> Response {
        let script = self.script.lock().unwrap().clone();
        let result = if script.result.is_empty() {
            "7/results/result"
        } else {
            &script.result
        };
        let text = format!(
            "<uws:job xmlns:uws='http://www.ivoa.net/xml/UWS/v1.0' xmlns:xlink='http://www.w3.org/1999/xlink'>\
             <uws:jobId>7</uws:jobId><uws:phase>{phase}</uws:phase><uws:results><uws:result id='result' xlink:href='{result}'/>\
             </uws:results><uws:errorSummary><uws:message>{}</uws:message></uws:errorSummary></uws:job>",
            script.message
        );
        ([("content-type", "text/xml")], text).into_response()
    }
}

async fn answer(State(service): State<Arc<Service>>, request: Request) -> Response {
    let what = format!("{} {}", request.method(), request.uri());
    let token = request.headers().get("authorization");
    let has_token = token.is_some_and(|token| token.to_str().unwrap().starts_with("Bearer gt-"));
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let count = {
        let mut asked = service.asked.lock().unwrap();
        asked.push(Asked {
            what: what.clone(),
            body: body.clone(),
            has_token,
        });
        asked.iter().filter(|asked| asked.what.contains("WAIT")).count()
    };
    let script = service.script.lock().unwrap().clone();
    let base = service.base.lock().unwrap().clone();
    let (method, path) = what.split_once(' ').unwrap();
    let job = format!("{base}/api/tap/async/7");
    match (method, path) {
        ("GET", path) if path == script.capabilities => {
            let text = format!(
                "<capabilities><capability standardID='ivo://ivoa.net/std/SIA#query-2.0'><interface>\
                 <accessURL>{base}/api/sia/dp02/query</accessURL></interface></capability></capabilities>"
            );
            text.into_response()
        }
        ("POST", "/api/tap/async" | "/api/tap/async/7/phase") => {
            tokio::time::sleep(script.making).await;
            (StatusCode::SEE_OTHER, [("location", job)]).into_response()
        }
        ("DELETE", "/api/tap/async/7") => (StatusCode::SEE_OTHER, [("location", "/api/tap/async")]).into_response(),
        ("GET", "/api/tap/async/7?WAIT=-1") => {
            if script.hangs {
                std::future::pending::<()>().await;
            }
            service.job(script.phases[(count - 1).min(script.phases.len() - 1)])
        }
        ("GET", "/api/tap/async/7") => {
            let phase = if count == 0 {
                "PENDING"
            } else {
                script.phases.last().unwrap_or(&"EXECUTING")
            };
            service.job(if script.hangs { "EXECUTING" } else { phase })
        }
        ("POST", "/api/tap/sync") | ("GET", "/api/tap/async/7/results/result" | "/elsewhere") => {
            if script.hangs {
                std::future::pending::<()>().await;
            }
            reply(&script)
        }
        ("GET", path) if path.starts_with("/api/sia/dp02/query?") => reply(&script),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn reply(script: &Script) -> Response {
    let (status, text) = script.answer.clone();
    (StatusCode::from_u16(status).unwrap(), Body::from(text)).into_response()
}

/// Runs one monkey until it has an outcome; returns whether that was a success, its log, and what it shows as its query.
pub(crate) async fn outcome(config: WorkerConfig, business: &str, options: &Value) -> (bool, String, Option<Value>) {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, config);
    leader.start(&flock("v", 1, business, options)).await;
    leader.until(|report| report.flocks.contains_key("v")).await;
    let (is_success, shown) = process
        .until(|handle| {
            let business = handle.monkeys(&name("v")).into_iter().next()?.business;
            match (business.success_count, business.failure_count) {
                (0, 0) => None,
                (_, failures) => Some((failures == 0, business.running_query)),
            }
        })
        .await;
    // The lines about a failure follow its count.
    let mut log = leader.log("0", "v", "bot-mobu-v1").await;
    while !is_success && !log.contains("Exception thrown") {
        tokio::time::sleep(Duration::from_millis(10)).await;
        log = leader.log("0", "v", "bot-mobu-v1").await;
    }
    process.drain().await;
    (is_success, log, shown)
}

/// Starts a monkey, waits until the service was asked something, and stops the flock.
pub(crate) async fn stopped(service: &Service, config: WorkerConfig, business: &str, options: &Value, asked: &str) {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, config);
    leader.start(&flock("v", 1, business, options)).await;
    process
        .until(|_| service.requests().iter().any(|what| what.contains(asked)).then_some(()))
        .await;
    leader.stop("v").await;
    leader.until_gone("v").await;
    process.drain().await;
}
