//! What nobody may get in by, and what may not get out.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use fleet_tests::broker::{Broker, role_users, unique_fleet};
use fleet_tests::fleet::{ProcessFleet, flock};
use fleet_tests::platform::{ADMIN_TOKEN, Platform};
use fleet_tests::process::Process;
use futures_lite::StreamExt as _;
use lapin::BasicProperties;
use mobu_fleet::domain::ids::FleetName;
use mobu_fleet::link::topology::{Role, Topology};
use mobu_fleet::link::{Address, LogStart, Message};
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use reqwest::{Client, Method};
use serde_json::json;
use tokio::net::TcpListener;

use crate::foreign;
use crate::support::{next, open, within};

/// What no output, answer or message may have: secrets of the processes.
const OWN: &str = "Zq7vOWNw9Xk";
/// Secrets that come with a flock. Replicas need them, so the state log has them; nobody else is told.
const GIVEN: &str = "Zq7vGIVENw9Xk";

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker with one user for each role, as `deploy/rabbitmq` makes them, and one of another fleet, whose passwords are secrets.
async fn broker(fleet: &FleetName) -> Result<Broker> {
    let broker = Broker::start().await?;
    let mut users: Vec<_> = role_users(&Topology::new(fleet.clone())).into();
    // Another fleet's coordinator on the same broker.
    let other: FleetName = format!("{fleet}x").parse()?;
    users.push(("other", Topology::new(other).permissions(Role::Coordinator)));
    let passwords: Vec<_> = users.iter().map(|(name, _)| password(name)).collect();
    let users = users.into_iter().zip(&passwords);
    let users: Vec<_> = users
        .map(|((name, may), password)| (name, password.as_str(), may))
        .collect();
    broker.add_users_with_passwords(&users).await?;
    Ok(broker)
}

fn password(user: &str) -> String {
    format!("{user}-{OWN}")
}

/// Everything that was said, with where it was.
#[derive(Default)]
struct Heard(Vec<(String, String)>);

impl Heard {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    /// Returns where a secret is.
    fn places(&self, secret: &str) -> BTreeSet<&str> {
        let mut forms = base64(secret);
        forms.push(secret.to_owned());
        self.0
            .iter()
            .filter(|(_, text)| forms.iter().any(|form| text.contains(form)))
            .map(|(place, _)| place.as_str())
            .collect()
    }
}

/// The part of a text's base64 that is the same whatever stands around it, for each of the three places in a group where it may begin.
fn base64(text: &str) -> Vec<String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |group: &[u8]| {
        let bits = group.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[bits >> shift & 63]))
    };
    let begins = (0..3).map(|begin| &text.as_bytes()[begin..]);
    begins
        .map(|text| text.chunks_exact(3).flat_map(digits).collect())
        .collect()
}

/// Command lines of all processes of this machine.
fn command_lines(heard: &mut Heard) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if !line.is_empty() {
            heard.add(
                format!("the command line of {}", line.chars().take(60).collect::<String>()),
                line,
            );
        }
    }
}

/// All files below a folder that are not the fleet's configuration.
fn files(folder: &Path, heard: &mut Heard) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, heard);
        } else if path.file_name().is_some_and(|name| name != "config.yaml") {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
            heard.add(path.display().to_string(), text);
        }
    }
}

fn configuration() -> String {
    format!(
        "
logLevel: DEBUG
auth: token
authTokens: ['caller-{OWN}-1']
tokens: gafaelfawr
alertHook: https://127.0.0.1:1/{OWN}
slackAlerts: true
mobuSentryDsn: https://{OWN}@127.0.0.1:1/1
githubRefreshApp:
  webhookSecret: {OWN}
  acceptedGithubOrgs: [rubin]
githubCiApp:
  id: 1
  privateKey: '{OWN}'
  webhookSecret: {OWN}
  users: [{{username: bot-mobu-ci-1}}]
  scopes: []
  acceptedGithubOrgs: [rubin]
"
    )
}

/// Serves what sends back all that it is sent, and says that this was wrong.
async fn mirror(tasks: &Tasks) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let echo = async |uri: Uri, headers: HeaderMap, body: String| {
        (StatusCode::IM_A_TEAPOT, format!("{uri} {headers:?} {body}"))
    };
    tasks.spawn(TaskKind::Expendable, "mirror", async move {
        axum::serve(listener, Router::new().fallback(echo)).await.ok();
    });
    Ok(format!("http://{address}"))
}

/// Everything that any exchange was given and any consumer was handed, by the broker's own tracing.
async fn trace(broker: &Broker, state: String, tasks: &Tasks) -> Result<Arc<Mutex<Heard>>> {
    broker.control(&["trace_on"]).await?;
    let (connection, mut consumer) = foreign::listen(&broker.url(), "amq.rabbitmq.trace").await;
    let heard = Arc::new(Mutex::new(Heard::default()));
    let into = heard.clone();
    tasks.spawn(TaskKind::Expendable, "trace", async move {
        while let Some(Ok(delivery)) = consumer.next().await {
            let told = foreign::told_of(&delivery.properties);
            // What goes to the log goes by the default exchange.
            let way = if told.contains(&state) {
                "the state log"
            } else {
                delivery.routing_key.as_str()
            };
            let text = format!("{told} {}", String::from_utf8_lossy(&delivery.data));
            into.lock().unwrap().add(way, text);
        }
        drop(connection);
    });
    Ok(heard)
}

/// Runs a command of `mobu`; what it says lies with the logs.
async fn command(fleet: &ProcessFleet, arguments: &[&str], variables: &[(&str, String)]) -> Result<()> {
    let mut variables = variables.to_vec();
    variables.push(("MONKEYFLOCKER_BASE_URL", fleet.base().to_owned()));
    variables.push(("MOBU_FLEET", fleet.name.to_string()));
    Process::start("mobu", arguments, &variables, fleet.folder.path())?
        .wait()
        .await?;
    Ok(())
}

/// Calls everything there is, rightly and wrongly, and keeps what is answered.
async fn call_everything(fleet: &ProcessFleet, worker: &str, heard: &mut Heard) -> Result<()> {
    let client = Client::builder().timeout(PATIENCE).build()?;
    let token = format!("Bearer caller-{OWN}-1");
    let reads = [
        "/",
        "/flocks",
        "/flocks/web",
        "/flocks/git",
        "/flocks/lfs",
        "/flocks/web/monkeys",
        "/flocks/web/summary",
        "/flocks/nobody",
        "/summary",
        "/fleet",
        "/replicas",
        "/replicas/0",
        "/revisions",
        "/revisions/1",
        "/openapi.json",
        "/docs",
        "/flocks/web/monkeys/bot-mobu-web1",
        "/flocks/web/monkeys/bot-mobu-web1/log",
        "/flocks/git/monkeys/bot-mobu-git1/log",
        "/flocks/lfs/monkeys/bot-mobu-lfs1/log",
        "/nowhere",
    ];
    for path in reads {
        for token in [Some(token.as_str()), None, Some("Bearer wrong")] {
            let mut request = client.get(format!("{}/mobu{path}", fleet.base()));
            if let Some(token) = token {
                request = request.header("Authorization", token);
            }
            let response = request.send().await?;
            let begin = format!("{} {:?}", response.status(), response.headers());
            heard.add(
                format!("the answer to GET {path}"),
                format!("{begin} {}", response.text().await?),
            );
        }
    }
    let wrong =
        json!({"name": "wrong", "count": "x", "business": {"type": "HTTPRunner", "options": {"requests": [{}]}}});
    for (method, path, body) in [
        (Method::PUT, "/flocks", wrong.to_string()),
        (Method::PUT, "/flocks", "{".to_owned()),
        (Method::POST, "/flocks/web/refresh", String::new()),
        (Method::POST, "/refresh", "{}".to_owned()),
        (Method::DELETE, "/flocks/nobody", String::new()),
        (
            Method::POST,
            "/github/refresh/webhook",
            format!("{{\"secret\": \"{}\"}}", "x"),
        ),
    ] {
        let request = client.request(method.clone(), format!("{}/mobu{path}", fleet.base()));
        let request = request
            .header("Authorization", &token)
            .header("Content-Type", "application/json");
        let request = request.header("X-Hub-Signature-256", format!("sha256={}", "0".repeat(64)));
        let response = request.body(body).send().await?;
        let begin = format!("{} {:?}", response.status(), response.headers());
        heard.add(
            format!("the answer to {method} {path}"),
            format!("{begin} {}", response.text().await?),
        );
    }
    for path in ["/", "/healthz", "/readyz", "/metrics"] {
        for base in [fleet.base(), worker] {
            let text = client.get(format!("{base}{path}")).send().await?.text().await?;
            heard.add(format!("{path} of {base}"), text);
        }
    }
    let events = client
        .get(format!("{}/mobu/events", fleet.base()))
        .header("Authorization", &token);
    let mut events = events.send().await?;
    if let Some(chunk) = within("an event", events.chunk()).await? {
        heard.add("the stream of events", String::from_utf8_lossy(&chunk));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_anything_that_a_fleet_says() -> Result<()> {
    let name = unique_fleet();
    let broker = broker(&name).await?;
    let tasks = Tasks::new();
    let topology = Topology::new(name.clone());
    let traced = trace(&broker, topology.state().name, &tasks).await?;
    // Gafaelfawr that knows the users, and a git server that never answers, so that git is seen while it works.
    let minted = (0..8).map(|number| format!("gt-0123456789abcdefghij{number:02}.{OWN}{OWN}"));
    let platform = Platform::start_with(&json!({}), minted.collect()).await?;
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let git = silent.local_addr()?;
    let mirror = mirror(&tasks).await?;
    let mut fleet = ProcessFleet::prepare(
        &broker.url_as("coordinator", &password("coordinator")),
        name.clone(),
        1,
        &configuration(),
    )?;
    fleet.variables = platform.variables();
    // Somebody's attempt with another password is told without it.
    let wrong = fleet.broker.replace(OWN, &format!("wrong-{OWN}"));
    let mut variables = fleet.environment();
    variables.retain(|(key, _)| *key != "MOBU_AMQP_URL");
    variables.push(("MOBU_AMQP_URL", wrong.clone()));
    let mut refused = Process::start("mobu-coordinator", &[], &variables, fleet.folder.path())?;
    refused.wait_log(&["ACCESS_REFUSED"]).await?;
    refused.kill().await?;

    fleet.start_coordinator(0).await?;
    fleet.broker = broker.url_as("worker", &password("worker"));
    fleet.start_worker(0)?;
    let worker = format!("http://{}", fleet.workers.get_mut(&0).context("it runs")?.http().await?);
    let client = Client::builder().timeout(PATIENCE).build()?;
    let token = format!("Bearer caller-{OWN}-1");
    let reading = async |path: &str| -> Result<String> {
        let url = format!("{}/mobu{path}", fleet.base());
        Ok(client
            .get(url)
            .header("Authorization", &token)
            .send()
            .await?
            .text()
            .await?)
    };
    let until = async |path: &str, text: &str| -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !reading(path).await?.contains(text) {
            ensure!(Instant::now() < deadline, "no {text} at {path}: {}", fleet.logs());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    };
    until("/fleet", "\"converged\":true").await?;

    let mut heard = Heard::default();
    let requests = json!([{
        "url": format!("http://u:{GIVEN}@{}/x?page=1&access_token={GIVEN}", mirror.trim_start_matches("http://")),
        "method": "POST", "timeout": "20s", "json": {"user": "me", "password": GIVEN},
        "headers": {"X-Api-Key": GIVEN, "Cookie": format!("sid={GIVEN}")}, "query": {"client_secret": GIVEN},
    }]);
    let options = json!({"requests": requests, "error_idle_time": 1, "authenticate": "bearer"});
    let web = flock(
        "web",
        1,
        &json!({"type": "HTTPRunner", "restart": true, "options": options}),
    );
    let repository = format!("http://somebody:{GIVEN}@{git}/r.git");
    let notebooks = flock(
        "git",
        1,
        &json!({"type": "NotebookRunnerList", "options": {"repo_url": repository, "repo_ref": "main"}}),
    );
    let lfs =
        json!({"lfs_read_url": "http://127.0.0.1:1/r", "lfs_write_url": format!("http://u:{GIVEN}@127.0.0.1:1/w")});
    let lfs = flock("lfs", 1, &json!({"type": "GitLFS", "options": lfs}));
    for flock in [&web, &notebooks, &lfs] {
        let put = client
            .put(format!("{}/mobu/flocks", fleet.base()))
            .header("Authorization", &token)
            .json(flock);
        let answer = put.send().await?;
        ensure!(
            matches!(answer.status().as_u16(), 201 | 202),
            "{:?}",
            answer.text().await?
        );
    }
    // Git has come as far as the server that says nothing; it is looked at while it waits.
    let (_held, _) = within("git", silent.accept()).await?;
    command_lines(&mut heard);
    until("/flocks/web/monkeys/bot-mobu-web1/log", "was expected to answer").await?;
    call_everything(&fleet, &worker, &mut heard).await?;
    let caller = [("MONKEYFLOCKER_TOKEN", format!("caller-{OWN}-1"))];
    command(&fleet, &["status"], &caller).await?;
    command(&fleet, &["revisions"], &caller).await?;
    command(&fleet, &["report", "web", "-o", "report"], &caller).await?;
    let publisher = broker.url_as("publisher", &password("publisher"));
    command(
        &fleet,
        &["publish", "refresh", "web"],
        &[("MOBU_AMQP_URL", publisher.clone())],
    )
    .await?;
    command(&fleet, &["publish", "refresh", "web"], &[("MOBU_AMQP_URL", wrong)]).await?;

    // Requests over AMQP: one that is wrong, with a secret in what is right of it, and one that is nothing.
    let mut request = json!({"kind": "start", "flock": web});
    request["flock"]["count"] = json!("many");
    let requests = topology.requests().name;
    let sent = BasicProperties::default().with_message_id("wrong-1".into());
    let refusal = foreign::try_publish(&publisher, &requests, "", request.to_string().as_bytes(), sent.clone()).await;
    ensure!(refusal.is_none(), "{refusal:?}");
    foreign::try_publish(&publisher, &requests, "", b"\xff", sent).await;
    let letter = foreign::take(&broker.url(), &topology.dead_queue().name).await;
    // The letter itself is what was sent; its headers are ours.
    heard.add("the headers of a dead letter", foreign::told_of(&letter.properties));
    let auditor = open(&broker.url_as("auditor", &password("auditor")), &name).await;
    let mut log = auditor.read_log(LogStart::First).await?;
    for _ in 0..4 {
        heard.add("the state log", String::from_utf8_lossy(&next(&mut log).await.payload));
    }

    // A crash of each, and a start from what the log has.
    fleet.workers.get_mut(&0).context("it runs")?.kill().await?;
    fleet.start_worker(0)?;
    fleet.broker = broker.url_as("coordinator", &password("coordinator"));
    fleet.coordinators.get_mut(&0).context("it runs")?.kill().await?;
    fleet.start_coordinator(1).await?;
    fleet.workers.get_mut(&0).context("it runs")?.http().await?;
    fleet.coordinators.remove(&0);
    for process in fleet.workers.values_mut().chain(fleet.coordinators.values_mut()) {
        process.terminate().await?;
    }
    files(fleet.folder.path(), &mut heard);
    heard.add("the log of a process", fleet.logs());
    let node = broker.data();
    let node = node.ancestors().nth(2).context("a node has a folder")?;
    files(&node.join("log"), &mut heard);
    heard.add("what the broker prints", fs::read_to_string(node.join("console.log"))?);
    let traced = std::mem::take(&mut *traced.lock().unwrap());
    for way in ["events", "reports", "broadcast", "replies", "requests"] {
        let way = format!("publish.{name}.{way}");
        ensure!(traced.0.iter().any(|(place, _)| *place == way), "nothing came by {way}");
    }
    heard.0.extend(traced.0);

    ensure!(heard.0.len() > 100, "only {} places were looked at", heard.0.len());
    let own = &heard.places(OWN) | &heard.places(ADMIN_TOKEN);
    ensure!(own.is_empty(), "secrets of the processes are in {own:?}");
    let mut given = heard.places(GIVEN);
    ensure!(
        given.remove("the state log"),
        "replicas would not be told what they need"
    );
    // What a publisher sends is there where it was sent, and where it goes if it is wrong.
    for way in ["publish", "deliver"] {
        given.remove(format!("{way}.{requests}").as_str());
        given.remove(format!("{way}.{}", topology.dead().name).as_str());
    }
    ensure!(given.is_empty(), "secrets of flocks are in {given:?}");
    ensure!(
        heard
            .0
            .iter()
            .any(|(place, text)| place.ends_with("/log") && text.contains("***")),
        "no log of a monkey has anything that was hidden"
    );
    tasks.abort_token().cancel();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_hears_its_own_fleet_alone_and_others_cannot_write_to_it() -> Result<()> {
    let name = unique_fleet();
    let broker = broker(&name).await?;
    let topology = Topology::new(name.clone());
    let coordinator = open(&broker.url_as("coordinator", &password("coordinator")), &name).await;
    coordinator.append(bytes::Bytes::from_static(b"{}")).await?;
    // Coordinators make the exchanges, by using them.
    let _reports = coordinator.reports().await?;
    let _broadcasts = coordinator.broadcasts().await?;
    let _replies = coordinator.replies().await?;
    let worker = open(&broker.url_as("worker", &password("worker")), &name).await;
    let id = "0".parse()?;
    let mut inbox = worker.replica_inbox(&id).await?;
    let queue = topology.replica_name(&id);

    for user in ["publisher", "auditor", "other"] {
        let url = broker.url_as(user, &password(user));
        for (exchange, key) in [
            ("", queue.as_str()),
            ("", &topology.state().name),
            (&topology.broadcast().name, ""),
            (&topology.replies().name, queue.as_str()),
            (&topology.reports().name, ""),
        ] {
            // The other fleet's coordinator may use the default exchange, which broker permissions cannot narrow.
            if user == "other" && exchange.is_empty() {
                continue;
            }
            let refusal = foreign::try_publish(&url, exchange, key, b"{}", BasicProperties::default()).await;
            let refused = refusal.as_ref().is_some_and(|why| why.contains("ACCESS_REFUSED"));
            ensure!(
                refused,
                "{user} may write to `{exchange}` with the key `{key}`: {refusal:?}"
            );
        }
    }
    // Whoever may use the default exchange reaches the queue by its name; what comes so is of no kind that is known.
    let announcement = BasicProperties::default()
        .with_type("fleet.announcement.v1".into())
        .with_reply_to("x".into());
    let refusal = foreign::try_publish(
        &broker.url_as("other", &password("other")),
        "",
        &queue,
        b"{\"schema\":1}",
        announcement,
    )
    .await;
    ensure!(refusal.is_none(), "{refusal:?}");
    let heard = next(&mut inbox).await;
    ensure!(
        heard.kind == "foreign by the default exchange" && heard.reply_to.is_none(),
        "{heard:?}"
    );
    coordinator
        .publish(Address::Replica(id), Message::new("fleet.test.v1", "direct"))
        .await?;
    coordinator
        .publish(Address::Everyone, Message::new("fleet.test.v1", "to all"))
        .await?;
    for expected in ["direct", "to all"] {
        let heard = next(&mut inbox).await;
        ensure!(heard.kind == "fleet.test.v1" && heard.payload == expected, "{heard:?}");
    }
    Ok(())
}

/// A figure of a process's memory, in KiB.
fn memory(process: &Process, what: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id().context("it runs")?))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(what))
        .context("the system tells")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Time of the processor that a process has used.
fn processor_time(process: &Process) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id().context("it runs")?))?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_greedy_callers_cost_little_and_others_are_served() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.yaml");
    fs::write(&config, "tokens: local\nauth: none\n")?;
    let variables = [
        ("MOBU_LOG_PROFILE", "production".to_owned()),
        ("MOBU_HTTP_BIND", "127.0.0.1:0".to_owned()),
        ("MOBU_REPLICA_COUNT", "1".to_owned()),
        ("MOBU_CONFIG_PATH", config.display().to_string()),
    ];
    let mut process = Process::start("mobu", &["local"], &variables, folder.path())?;
    let address = process.http().await?;
    let client = Client::builder().timeout(PATIENCE).build()?;
    let alive = async || -> Result<()> {
        let answer = client.get(format!("http://{address}/mobu/flocks")).send().await?;
        ensure!(answer.status() == 200, "{}", answer.text().await?);
        Ok(())
    };
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = alive().await {
        ensure!(Instant::now() < deadline, "{error}: {}", process.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (before, used) = (memory(&process, "VmRSS:")?, processor_time(&process)?);

    let connect = || -> Result<std::net::TcpStream> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    let mut held = Vec::new();
    // Heads and bodies that never end.
    for number in 0..400 {
        let mut stream = connect()?;
        let text = if number % 2 == 0 {
            "GET /mobu/flocks HTTP/1.1\r\nhost: localhost\r\nx-a: ".to_owned()
        } else {
            "PUT /mobu/flocks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 900000\r\n\r\n{".to_owned()
        };
        stream.write_all(text.as_bytes())?;
        held.push(stream);
    }
    alive().await?;
    // Heads without end, bodies that are too large, announced or not, and JSON that is nothing but depth.
    let deep = "[".repeat(1_000_000);
    let wide = format!("{{\"name\": [{}1]}}", "[],".repeat(300_000));
    for (head, body, statuses) in [
        (
            format!(
                "GET /mobu/flocks HTTP/1.1\r\nhost: localhost\r\nx-a: {}\r\n\r\n",
                "a".repeat(1 << 20)
            ),
            String::new(),
            "431 400",
        ),
        (
            "PUT /mobu/flocks HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n".to_owned(),
            "x".repeat(1 << 16),
            "413",
        ),
        (
            "PUT /mobu/flocks HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
            format!("200000\r\n{}", "x".repeat(0x20_0000)),
            "413",
        ),
        (
            format!(
                "PUT /mobu/flocks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                deep.len()
            ),
            deep,
            "422",
        ),
        (
            format!(
                "PUT /mobu/flocks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                wide.len()
            ),
            wide,
            "422",
        ),
    ] {
        for _ in 0..4 {
            let mut stream = connect()?;
            // The server may answer and close before it has everything.
            drop(
                stream
                    .write_all(head.as_bytes())
                    .and_then(|()| stream.write_all(body.as_bytes())),
            );
            let mut said = [0; 12];
            match stream.read(&mut said) {
                Ok(count) if count >= 12 => {
                    let said = String::from_utf8_lossy(&said);
                    let status = said.get(9..12).unwrap_or_default();
                    ensure!(
                        statuses.contains(status),
                        "{} is answered {said}",
                        head.chars().take(120).collect::<String>()
                    );
                }
                // A reset, because it sent on what nobody would read.
                Ok(_) | Err(_) => {}
            }
        }
    }
    alive().await?;
    let grown = memory(&process, "VmHWM:")?.saturating_sub(before);
    let took = processor_time(&process)?.saturating_sub(used);
    ensure!(grown < 96 * 1024, "the process grew by {grown} KiB");
    ensure!(took < Duration::from_secs(20), "it took {took:?} of the processor");
    drop(held);

    // A file whose aliases would be a billion values, and one that is nothing but depth, are refused when they are read.
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (name, of) in ["b", "c", "d", "e", "f", "g", "h", "i"]
        .into_iter()
        .zip(["a", "b", "c", "d", "e", "f", "g", "h"])
    {
        writeln!(bomb, "{name}: &{name} [{}]", vec![format!("*{of}"); 10].join(","))?;
    }
    for (name, text) in [("aliases", bomb), ("depth", format!("a: {}", "[".repeat(1_000_000)))] {
        let path = folder.path().join(format!("{name}.yaml"));
        fs::write(&path, text)?;
        let variables = [("MOBU_CONFIG_PATH", path.display().to_string())];
        let mut check = Process::start("mobu-coordinator", &["--check-config"], &variables, folder.path())?;
        let status = check.wait().await?;
        let said = check.log();
        if status.success() || !said.contains("for a configuration") && !said.contains("not valid YAML") {
            bail!("{name}: {status}, {said}");
        }
        ensure!(said.len() < 2000, "{name}: {} bytes are said", said.len());
    }
    ensure!(process.terminate().await?.success(), "{}", process.log());
    Ok(())
}
