//! A stand-in for the coordinator in this package's tests: it answers what a test tells it to and remembers what it was asked.
//! Nothing here runs a flock; the command line against a real fleet is tested in the workspace's `tests`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode};
use clap::FromArgMatches;
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use serde_json::{Value, json};

use crate::args::Cli;
use crate::config;
use crate::output::Output;

/// The server; it ends with the test.
#[derive(Debug)]
pub(crate) struct StandIn {
    url: String,
    // Guards what is answered and what was asked.
    state: Arc<Mutex<Script>>,
    tasks: Tasks,
}

#[derive(Debug, Default)]
struct Script {
    /// By method, path and query. The last of a list is given again and again.
    answers: BTreeMap<String, Vec<Answer>>,
    calls: Vec<Call>,
}

#[derive(Debug, Clone)]
struct Answer {
    status: StatusCode,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// One request that came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub route: String,
    pub headers: HeaderMap,
    pub body: Value,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct End {
    pub code: u8,
    pub stdout: String,
    pub stderr: String,
}

impl StandIn {
    /// Starts it on a free port of the loopback interface.
    pub(crate) async fn start() -> Self {
        let state = Arc::new(Mutex::new(Script::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(handle).with_state(Arc::clone(&state));
        let tasks = Tasks::new();
        tasks.spawn(TaskKind::Expendable, "stand-in", async move {
            axum::serve(listener, app).await.unwrap();
        });
        Self { url, state, tasks }
    }

    /// Answers a route, as in `GET /mobu/fleet`, with JSON from now on; `Null` is an empty body.
    pub(crate) fn answer(&self, route: &str, status: StatusCode, headers: &[(&str, &str)], body: &Value) {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        self.set(route, vec![answer(status, headers, body)]);
    }

    /// Answers a route with text.
    pub(crate) fn answer_text(&self, route: &str, headers: &[(&str, &str)], body: &str) {
        self.set(route, vec![answer(StatusCode::OK, headers, body.into())]);
    }

    /// Answers a route with one JSON after the other; the last one stays.
    pub(crate) fn answer_in_turn(&self, route: &str, answers: &[(StatusCode, Value)]) {
        let answers = answers
            .iter()
            .map(|(status, body)| answer(*status, &[], body.to_string().into_bytes()));
        self.set(route, answers.collect());
    }

    /// Returns what was asked so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.lock().unwrap().calls.clone()
    }

    fn set(&self, route: &str, answers: Vec<Answer>) {
        self.state.lock().unwrap().answers.insert(route.to_owned(), answers);
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.tasks.abort_token().cancel();
    }
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

fn answer(status: StatusCode, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Answer {
        status,
        headers: headers.collect(),
        body,
    }
}

async fn handle(State(state): State<Arc<Mutex<Script>>>, request: Request) -> Response<Body> {
    let route = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().clone();
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let mut script = state.lock().unwrap();
    let missing = || answer(StatusCode::NOT_FOUND, &[], br#"{"detail":"Not Found"}"#.to_vec());
    let answer = match script.answers.get_mut(&route) {
        Some(answers) if answers.len() > 1 => answers.remove(0),
        Some(answers) => answers.first().cloned().unwrap_or_else(missing),
        None => missing(),
    };
    script.calls.push(Call { route, headers, body });
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.body)).unwrap()
}

/// Runs a command line against the stand-in, as the process would.
pub(crate) async fn run(server: &StandIn, arguments: &[&str]) -> End {
    run_at(&server.url, arguments).await
}

/// Runs a command line against any address.
pub(crate) async fn run_at(url: &str, arguments: &[&str]) -> End {
    let arguments = ["mobu", "-e", url, "--user", "ada"]
        .into_iter()
        .chain(arguments.iter().copied());
    let matches = match config::command(|_| None).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            return End {
                code: u8::try_from(error.exit_code()).unwrap(),
                stdout: String::new(),
                stderr: error.to_string(),
            };
        }
    };
    let (mut out, stdout, stderr) = Output::captured();
    let result = crate::run(Cli::from_arg_matches(&matches).unwrap(), &mut out).await;
    let code = out.finish(&result);
    End {
        code,
        stdout: stdout.text(),
        stderr: stderr.text(),
    }
}

/// Makes a flock's data with `count` monkeys on each replica.
pub(crate) fn monkeys_on(replicas: &[&str], count: usize) -> Value {
    let monkeys: Vec<Value> = replicas
        .iter()
        .flat_map(|id| {
            (1..=count)
                .map(move |number| json!({"name": format!("bot-mobu-lamb-instance-{id}-{number}"), "replica": id}))
        })
        .collect();
    json!({"name": "lambs", "config": {}, "monkeys": monkeys})
}

/// Returns the options that lead to the stand-in.
pub(crate) fn connection(server: &StandIn) -> crate::args::Connection {
    let arguments = ["mobu", "-e", &server.url, "status"];
    let matches = config::command(|_| None).get_matches_from(arguments);
    Cli::from_arg_matches(&matches).unwrap().connection
}
