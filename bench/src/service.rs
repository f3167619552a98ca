//! What a request costs the client: `HTTPRunner` and `TAPQueryRunner` against bare hyper, both on one local server.
//!
//! The server is a process of its own, and so is each run of a client; only the client's processor time is counted.

use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueEnum};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mobu_fleet::domain::discovery::Discovery;
use mobu_fleet::link::Link;
use mobu_fleet::link::memory::Hub;
use mobu_fleet::runtime::config::ServiceDiscovery;
use mobu_fleet::runtime::tasks::Tasks;
use mobu_worker::WorkerConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use crate::bare::Bare;
use crate::child::Server;
use crate::report::{Figure, Report, say};
use crate::usage::{process_cpu, thread_cpu, usage};
use crate::{Scale, child, fleet};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// A GET with an answer of 1 KiB.
    Http,
    /// A synchronous query with a table of ten rows.
    Tap,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// Monkeys.
    Fleet,
    /// hyper, a connection for each task.
    Bare,
}

/// One measurement, in a process of its own.
#[derive(Debug, Clone, Args)]
pub(crate) struct Measurement {
    #[arg(long)]
    what: What,
    #[arg(long)]
    side: Side,
    #[arg(long)]
    count: u64,
    #[arg(long)]
    idle_ms: u64,
    #[arg(long)]
    seconds: f64,
    #[arg(long)]
    server: SocketAddr,
}

/// What it came to.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Run {
    requests: u64,
    seconds: f64,
    cpu_seconds: f64,
    own_kib: f64,
    connections: f64,
}

const QUERY: &str = "SELECT TOP 10 * FROM dp02_dc2_catalogs.Object";

impl Measurement {
    fn measure(&self) -> Result<Run> {
        let what = if self.what == What::Http { "http" } else { "tap" };
        let side = if self.side == Side::Fleet { "fleet" } else { "bare" };
        let text = format!(
            "service --what {what} --side {side} --count {} --idle-ms {} --seconds {} --server {}",
            self.count, self.idle_ms, self.seconds, self.server
        );
        child::run(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    /// Measures in this process.
    pub(crate) fn run(&self) -> Result<()> {
        let control = Builder::new_current_thread().enable_all().build()?;
        let handle = child::measured_thread()?;
        let run = match self.side {
            Side::Fleet => control.block_on(self.fleet(&handle))?,
            Side::Bare => control.block_on(self.bare(&handle))?,
        };
        child::print(&run)
    }

    fn business(&self) -> Value {
        let idle_time = Duration::from_millis(self.idle_ms).as_secs_f64();
        match self.what {
            What::Http => {
                let url = format!("http://{}/hello", self.server);
                let requests = json!([{"url": url, "timeout": "30s", "expect": {"status": 200}}]);
                json!({"type": "HTTPRunner", "options": {"idle_time": idle_time, "requests": requests}})
            }
            What::Tap => json!({"type": "TAPQueryRunner", "options": {"idle_time": idle_time, "queries": [QUERY]}}),
        }
    }

    async fn fleet(&self, handle: &tokio::runtime::Handle) -> Result<Run> {
        let config = fleet::config(&"bench".parse().context("a right name")?, 1)?;
        let link: Arc<dyn Link> = Arc::new(Hub::new());
        let (own, its) = (Tasks::new(), Tasks::new());
        let leader = fleet::Leader::start(&config, link.clone(), &own).await?;
        let mut settings = WorkerConfig::of_local(&config, 0);
        let tap = json!({"tap": {"url": format!("http://{}/api/tap", self.server)}});
        let discovery = json!({"datasets": {"dp02": {"services": tap}}});
        let discovery = Discovery::parse_at(&discovery, &[]).map_err(|error| anyhow!("{error:?}"))?;
        settings.discovery = Some(ServiceDiscovery::Static(Arc::new(discovery)));
        let started = async move { fleet::worker(settings, link, &its) };
        let worker = handle.spawn(started).await??;
        leader.wait_converged().await?;
        let empty = usage(None)?;
        let flock = fleet::flock_json("askers", self.count, &self.business());
        leader.change(fleet::start_command(&flock)?).await?;
        let done = || {
            worker
                .flocks()
                .values()
                .map(|flock| (flock.success_count, flock.failure_count))
                .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
        };
        let run = self.watch(empty.own_mib, || done().0).await?;
        anyhow::ensure!(done().1 == 0, "{} requests failed", done().1);
        Ok(run)
    }

    async fn bare(&self, handle: &tokio::runtime::Handle) -> Result<Run> {
        let (ended, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let empty = usage(None)?;
        for _ in 0..self.count {
            let (this, ended, requests) = (self.clone(), ended.clone(), requests.clone());
            handle.spawn(async move {
                if let Err(error) = this.ask(&ended, &requests).await {
                    say(&format!("a bare client ends: {error:#}"));
                }
            });
        }
        let run = self.watch(empty.own_mib, || requests.load(Ordering::Relaxed)).await;
        ended.store(true, Ordering::Relaxed);
        run
    }

    async fn ask(&self, ended: &AtomicBool, requests: &AtomicU64) -> Result<()> {
        let mut client = Bare::connect(self.server).await?;
        let idle = Duration::from_millis(self.idle_ms);
        let token = "Bearer gt-0123456789abcdefghijkl.0123456789abcdefghijkl";
        while !ended.load(Ordering::Relaxed) {
            let (status, _) = match self.what {
                What::Http => {
                    let headers = [("user-agent", "bare"), ("accept", "*/*")];
                    client.call(&Method::GET, "/hello", &headers, String::new()).await?
                }
                What::Tap => {
                    let headers = [
                        ("user-agent", "bare"),
                        ("accept", "*/*"),
                        ("authorization", token),
                        ("content-type", "application/x-www-form-urlencoded"),
                    ];
                    let body = format!("REQUEST=doQuery&LANG=ADQL&QUERY={}", QUERY.replace(' ', "+"));
                    client.call(&Method::POST, "/api/tap/sync", &headers, body).await?
                }
            };
            anyhow::ensure!(status.is_success(), "the server answered {status}");
            requests.fetch_add(1, Ordering::Relaxed);
            if idle.is_zero() {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(idle).await;
            }
        }
        Ok(())
    }

    async fn watch(&self, empty_mib: f64, requests: impl Fn() -> u64) -> Result<Run> {
        tokio::time::sleep(Duration::from_millis(2 * self.idle_ms.max(500))).await;
        let cpu = || process_cpu().saturating_sub(thread_cpu());
        let (begun, before, cpu_before) = (Instant::now(), requests(), cpu());
        tokio::time::sleep(Duration::from_secs_f64(self.seconds)).await;
        let (after, seconds) = (requests(), begun.elapsed().as_secs_f64());
        let cpu_seconds = cpu().saturating_sub(cpu_before).as_secs_f64();
        let now = usage(None)?;
        Ok(Run {
            requests: after - before,
            seconds,
            cpu_seconds,
            own_kib: (now.own_mib - empty_mib) * 1024.0,
            connections: now.files.into(),
        })
    }
}

/// Serves until the standard input ends.
pub(crate) fn serve() -> Result<()> {
    std::thread::spawn(|| {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        std::process::abort();
    });
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        child::say_address(listener.local_addr()?)?;
        let table = Arc::new(votable());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let table = table.clone();
            tokio::spawn(async move {
                let answer = service_fn(move |request| answer(request, table.clone()));
                // A client that goes away is no trouble of ours.
                http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer)
                    .await
                    .ok();
            });
        }
    })
}

async fn answer(mut request: Request<Incoming>, table: Arc<String>) -> Result<Response<String>, Infallible> {
    use hyper::body::Body as _;
    let body = request.body_mut();
    while std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context))
        .await
        .is_some()
    {}
    let (kind, text) = match request.uri().path() {
        "/hello" => ("application/json", format!("{{\"hello\":\"{}\"}}", "x".repeat(1010))),
        "/api/tap/sync" => ("application/x-votable+xml", table.to_string()),
        _ => {
            let text = "<capabilities><capability standardID='ivo://ivoa.net/std/TAP'></capability></capabilities>";
            ("text/xml", text.to_owned())
        }
    };
    Ok(Response::builder()
        .header("content-type", kind)
        .body(text)
        .unwrap_or_default())
}

/// A table as a TAP service sends it: ten rows of four columns.
fn votable() -> String {
    let row = |row: u64| {
        let id = 1_000_000_007 * row;
        format!("<TR><TD>{id}</TD><TD>5{row}.123456789</TD><TD>-3{row}.987654321</TD><TD>true</TD></TR>")
    };
    let rows = (0..10).map(row).collect::<Vec<_>>().concat();
    format!(
        "<?xml version=\"1.0\"?><VOTABLE version=\"1.3\" xmlns=\"http://www.ivoa.net/xml/VOTable/v1.3\"><RESOURCE type=\"results\">\
         <INFO name=\"QUERY_STATUS\" value=\"OK\"/><TABLE><FIELD name=\"objectId\" datatype=\"long\"/><FIELD name=\"ra\" datatype=\"double\"/>\
         <FIELD name=\"dec\" datatype=\"double\"/><FIELD name=\"primary\" datatype=\"boolean\"/><DATA><TABLEDATA>{rows}</TABLEDATA></DATA>\
         </TABLE></RESOURCE></VOTABLE>"
    )
}

/// Measures `HTTPRunner`.
pub(crate) fn http(report: &mut Report, scale: &Scale) -> Result<()> {
    report.part("http", "HTTPRunner against bare hyper");
    measure(report, scale, What::Http)
}

/// Measures `TAPQueryRunner`.
pub(crate) fn tap(report: &mut Report, scale: &Scale) -> Result<()> {
    report.part("tap", "TAP queries against bare hyper");
    measure(report, scale, What::Tap)
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
fn measure(report: &mut Report, scale: &Scale, what: What) -> Result<()> {
    let server = Server::start("serve")?;
    let seconds = if scale.quick { 2.0 } else { 4.0 };
    let of = |side, count, idle_ms| {
        let measurement = Measurement {
            what,
            side,
            count,
            idle_ms,
            seconds,
            server: server.address,
        };
        measurement.measure()
    };
    let cost = |run: &Run| run.cpu_seconds / run.requests as f64 * 1e6;
    let many = if scale.quick { 500 } else { 5000 };
    for (count, idle_ms, case) in [
        (50, 0, "50 without pause".to_owned()),
        (many, 1000, format!("{many} at 1 s")),
    ] {
        let (mut fleet, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..scale.runs {
            bare.push(of(Side::Bare, count, idle_ms)?);
            fleet.push(of(Side::Fleet, count, idle_ms)?);
        }
        let all = |runs: &[Run], of: &dyn Fn(&Run) -> f64| runs.iter().map(of).collect::<Vec<f64>>();
        let figure = |name: &str, unit, values| Figure::new(name, case.clone(), unit, values);
        let (own, floor) = (all(&fleet, &cost), all(&bare, &cost));
        let ratios = own.iter().zip(&floor).map(|(own, floor)| own / floor).collect();
        let ratio = figure("… against bare hyper", "×", ratios);
        let mut cpu = figure("processor time of a request", "µs", own);
        if what == What::Tap {
            cpu = cpu.at_most(120.0);
        }
        report.add(cpu)?;
        report.add(figure("… of bare hyper", "µs", floor))?;
        report.add(if what == What::Http { ratio.at_most(1.5) } else { ratio })?;
        report.add(figure(
            "requests a second",
            "1/s",
            all(&fleet, &|run| run.requests as f64 / run.seconds),
        ))?;
        report.add(figure(
            "… by bare hyper",
            "1/s",
            all(&bare, &|run| run.requests as f64 / run.seconds),
        ))?;
        report.add(figure(
            "files open, connections among them",
            "",
            all(&fleet, &|run| run.connections),
        ))?;
        report.add(figure(
            "memory of a monkey with its connection",
            "KiB",
            all(&fleet, &|run| run.own_kib / count as f64),
        ))?;
        report.add(figure(
            "… of a bare client",
            "KiB ",
            all(&bare, &|run| run.own_kib / count as f64),
        ))?;
    }
    Ok(())
}
