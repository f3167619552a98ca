//! What a cell of a notebook costs the client: code in a lab's kernel, against a bare WebSocket with the same messages.
//!
//! The hub with its labs and kernels is the stand-in of the tests, in a process of its own. It counts the cells.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Args, ValueEnum};
use futures_lite::StreamExt;
use futures_util::SinkExt;
use http::{Method, Request};
use mobu_fleet::domain::discovery::Discovery;
use mobu_fleet::link::Link;
use mobu_fleet::link::memory::Hub as Memory;
use mobu_fleet::runtime::config::ServiceDiscovery;
use mobu_fleet::runtime::tasks::Tasks;
use mobu_worker::WorkerConfig;
use serde::{Deserialize, Serialize};
use serde_json::json;
use stand_ins::hub::{Hub, Knobs};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use crate::bare::Bare;
use crate::child::Server;
use crate::report::{Figure, Report, say};
use crate::usage::{process_cpu, thread_cpu, usage};
use crate::{Scale, child, fleet};

/// What runs in each cell.
const CODE: &str = "print(2+2)";
/// How often it runs in one session of a monkey's: so often that the session itself does not count.
const IN_A_SESSION: u64 = 100_000;
/// Kernels in use at once.
const KERNELS: u64 = 20;

/// Who runs cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// Monkeys.
    Fleet,
    /// tungstenite, a connection for each task.
    Bare,
}

/// One measurement, in a process of its own.
#[derive(Debug, Clone, Args)]
pub(crate) struct Measurement {
    #[arg(long)]
    side: Side,
    #[arg(long)]
    seconds: f64,
    #[arg(long)]
    server: SocketAddr,
}

/// What it came to.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Run {
    cells: f64,
    seconds: f64,
    cpu_seconds: f64,
    own_kib: f64,
}

impl Measurement {
    fn measure(&self) -> Result<Run> {
        let side = if self.side == Side::Fleet { "fleet" } else { "bare" };
        let text = format!(
            "cells --side {side} --seconds {} --server {}",
            self.seconds, self.server
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

    async fn fleet(&self, handle: &tokio::runtime::Handle) -> Result<Run> {
        let config = fleet::config(&"bench".parse().context("a right name")?, 1)?;
        let link: Arc<dyn Link> = Arc::new(Memory::new());
        let (own, its) = (Tasks::new(), Tasks::new());
        let leader = fleet::Leader::start(&config, link.clone(), &own).await?;
        let mut settings = WorkerConfig::of_local(&config, 0);
        let hub = format!("http://localhost:{}/nb", self.server.port());
        let discovery = json!({"services": {"ui": {"nublado": {"url": hub}}}});
        let discovery = Discovery::parse_at(&discovery, &[]).map_err(|error| anyhow!("{error:?}"))?;
        settings.discovery = Some(ServiceDiscovery::Static(Arc::new(discovery)));
        let started = async move { fleet::worker(settings, link, &its) };
        let worker = handle.spawn(started).await??;
        leader.wait_converged().await?;
        let empty = usage(None)?;
        let options = json!({
            "code": CODE, "max_executions": IN_A_SESSION, "execution_idle_time": 0, "idle_time": 0, "spawn_settle_time": 0,
            "get_node": false,
        });
        let business = json!({"type": "NubladoPythonLoop", "options": options});
        let flock = fleet::flock_json("runners", KERNELS, &business);
        leader.change(fleet::start_command(&flock)?).await?;
        let run = self.watch(empty.own_mib).await?;
        let failures: u64 = worker.flocks().values().map(|flock| flock.failure_count).sum();
        ensure!(failures == 0, "{failures} runs failed");
        Ok(run)
    }

    async fn bare(&self, handle: &tokio::runtime::Handle) -> Result<Run> {
        let empty = usage(None)?;
        for number in 0..KERNELS {
            let server = self.server;
            handle.spawn(async move {
                if let Err(error) = ask(server, number).await {
                    say(&format!("a bare client ends: {error:#}"));
                }
            });
        }
        self.watch(empty.own_mib).await
    }

    async fn watch(&self, empty_mib: f64) -> Result<Run> {
        let mut counter = Bare::connect(self.server).await?;
        let mut cells = async || -> Result<f64> {
            let (_, body) = counter.fetch(&Method::GET, "/bare", &[], String::new()).await?;
            Ok(String::from_utf8(body)?.parse()?)
        };
        // Until all have their labs.
        let begun = Instant::now();
        let idle = cells().await?;
        while cells().await? < idle + 1000.0 {
            ensure!(begun.elapsed() < fleet::PATIENCE, "no cells run");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let cpu = || process_cpu().saturating_sub(thread_cpu());
        let (begun, before, cpu_before) = (Instant::now(), cells().await?, cpu());
        tokio::time::sleep(Duration::from_secs_f64(self.seconds)).await;
        let (after, seconds, cpu_after) = (cells().await?, begun.elapsed().as_secs_f64(), cpu());
        Ok(Run {
            cells: after - before,
            seconds,
            cpu_seconds: cpu_after.saturating_sub(cpu_before).as_secs_f64(),
            own_kib: (usage(None)?.own_mib - empty_mib) * 1024.0,
        })
    }
}

/// Runs cells in one kernel without end.
async fn ask(server: SocketAddr, number: u64) -> Result<()> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let request = Request::builder()
        .uri(format!("ws://{server}/bare/{number}"))
        .header("host", server.to_string())
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key())
        .header("sec-websocket-protocol", "v1.kernel.websocket.jupyter.org")
        .body(())?;
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await?;
    for cell in 0_u64.. {
        socket.send(Message::binary(request_of(number, cell))).await?;
        // Looked at no closer than it takes to see that the cell is done.
        loop {
            let message = socket.next().await.context("the kernel stays")??;
            if contains(&message.into_data(), b"\"idle\"") {
                break;
            }
        }
    }
    Ok(())
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The message that runs a cell, in the newer sub-protocol.
fn request_of(number: u64, cell: u64) -> Vec<u8> {
    let header = format!(
        "{{\"username\":\"bot-mobu-runners{number}\",\"version\":\"5.4\",\"session\":\"0123456789abcdef0123456789abcdef\",\
         \"date\":\"2026-01-01T00:00:00.000000+00:00\",\"msg_id\":\"{cell:032x}\",\"msg_type\":\"execute_request\"}}"
    );
    let content = format!(
        "{{\"code\":\"{CODE}\",\"silent\":false,\"store_history\":false,\"user_expressions\":{{}},\"allow_stdin\":false}}"
    );
    let parts = ["shell", &header, "{}", "{}", &content];
    let mut offsets = vec![8 * 7];
    for part in parts {
        offsets.push(offsets[offsets.len() - 1] + part.len());
    }
    let numbers = std::iter::once(offsets.len()).chain(offsets.iter().copied());
    let mut out: Vec<u8> = numbers.flat_map(|number| (number as u64).to_le_bytes()).collect();
    out.extend_from_slice(parts.concat().as_bytes());
    out
}

/// Serves until the standard input ends.
pub(crate) fn serve() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let hub = Hub::start(Knobs::default()).await;
        child::say_address(hub.address())?;
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
        Ok(())
    })
}

/// Measures all of it.
pub(crate) fn part(report: &mut Report, scale: &Scale) -> Result<()> {
    report.part("cells", "Cells in kernels against a bare WebSocket");
    let seconds = if scale.quick { 2.0 } else { 4.0 };
    let (mut fleet, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..scale.runs {
        // A server for each: it remembers every request.
        for (side, runs) in [(Side::Bare, &mut bare), (Side::Fleet, &mut fleet)] {
            let server = Server::start("hub")?;
            let measurement = Measurement {
                side,
                seconds,
                server: server.address,
            };
            runs.push(measurement.measure()?);
        }
    }
    let case = format!("{KERNELS} kernels without pause");
    let all = |runs: &[Run], of: &dyn Fn(&Run) -> f64| runs.iter().map(of).collect::<Vec<f64>>();
    let figure = |name: &str, unit, values| Figure::new(name, case.clone(), unit, values);
    let cost = |run: &Run| run.cpu_seconds / run.cells * 1e6;
    let (own, floor) = (all(&fleet, &cost), all(&bare, &cost));
    let ratios = own.iter().zip(&floor).map(|(own, floor)| own / floor).collect();
    #[expect(clippy::cast_precision_loss, reason = "a few kernels")]
    let kernels = KERNELS as f64;
    for figure in [
        figure("processor time of a cell", "µs", own),
        figure("… of a bare WebSocket", "µs", floor),
        figure("… against a bare WebSocket", "×", ratios),
        figure("cells a second", "1/s", all(&fleet, &|run| run.cells / run.seconds)),
        figure(
            "… by bare WebSockets",
            "1/s",
            all(&bare, &|run| run.cells / run.seconds),
        ),
        figure(
            "memory of a monkey with its kernel",
            "KiB",
            all(&fleet, &|run| run.own_kib / kernels),
        ),
        figure("… of a bare client", "KiB", all(&bare, &|run| run.own_kib / kernels)),
    ] {
        report.add(figure)?;
    }
    report.note("A cell is one message to the kernel and six back: somebody else's output, busy, its code, its output, the reply, idle.");
    Ok(())
}
