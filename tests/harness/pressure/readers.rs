//! Readers of logs and events that take a few bytes now and then, or nothing at all.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use reqwest::Method;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::account::Account;
use super::stage::Stage;
use super::{Part, Scale};
use crate::fleet::flock;

/// Largest piece that a reader's connection takes. On loopback the system would keep megabytes for each reader otherwise, and
/// the coordinator would not notice that nobody reads.
const SEGMENT: u32 = 536;
/// How much the system keeps on the reader's side.
const BUFFER: usize = 2048;
/// How long it may take until those who do not read are cut off.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often a slow reader reads.
const PAUSE: Duration = Duration::from_millis(100);

/// How somebody reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A few bytes now and then, far less than there is to read.
    Slow,
    /// Nothing, and never hangs up.
    Not,
}

/// Connections of readers, until this is dropped.
#[derive(Debug)]
pub struct Readers {
    tasks: Tasks,
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.tasks.abort_token().cancel();
    }
}

impl Readers {
    /// Asks for each of the paths, every second time as one who reads nothing.
    ///
    /// # Errors
    ///
    /// If a connection cannot be had, or is not answered at all.
    pub async fn start(address: SocketAddr, paths: &[String]) -> Result<Self> {
        let readers = Self { tasks: Tasks::new() };
        for (index, path) in paths.iter().enumerate() {
            let mut stream = connect(address)?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: fleet\r\nX-Auth-Request-User: slow\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            // Once the answer has begun, the coordinator is at it.
            stream.readable().await?;
            let reader = if index % 2 == 0 { Reader::Not } else { Reader::Slow };
            drop(readers.tasks.spawn(TaskKind::Expendable, "reader", reader.read(stream)));
        }
        Ok(readers)
    }
}

impl Reader {
    async fn read(self, mut stream: TcpStream) {
        match self {
            Self::Not => std::future::pending().await,
            Self::Slow => {
                while let Ok(1..) = stream.read(&mut [0; 128]).await {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_tcp_mss(SEGMENT)?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.connect(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(TcpStream::from_std(socket.into())?)
}

pub(super) async fn play(broker: &str, scale: &Scale) -> Result<Account> {
    let stage = Stage::open(Part::Readers, broker, scale, &json!({"tokens": "local"})).await?;
    let business = json!({"type": "EmptyLoop", "options": {"idle_time": 0.01}});
    for name in ["lambs", "sheep"] {
        stage.fleet.put_flock(&flock(name, 4, &business)).await?;
    }
    let monkeys = stage.fleet.monkeys("lambs").await?;
    fill(&stage, &monkeys[0].0).await?;
    let log = |(monkey, _): &(String, String)| format!("/mobu/flocks/lambs/monkeys/{monkey}/log");
    let logs = monkeys.iter().cycle().take(scale.readers).map(log);
    let events = std::iter::repeat_n("/mobu/events".to_owned(), scale.readers);
    let paths: Vec<_> = logs.chain(events).collect();
    let address: SocketAddr = stage.fleet.base().trim_start_matches("http://").parse()?;
    let readers = Readers::start(address, &paths).await?;
    let open = || stage.more_files("coordinator 0");
    let (begun, deadline) = (Instant::now(), Instant::now() + PATIENCE);
    let (mut changes, mut most, mut left) = (Vec::new(), 0, u64::MAX);
    // Those who read no events are cut off by the coordinator itself, which takes as long as its patience.
    while begun.elapsed() < scale.time || most - left < scale.readers as u64 / 2 {
        ensure!(Instant::now() < deadline, "of {most} connections {left} are left");
        changes.push(stage.refresh("sheep").await?);
        left = open();
        most = most.max(left);
    }
    drop(readers);
    let mut account = stage.close().await?;
    account.notes.push(format!(
        "{} of {} readers were cut off, and {} changes made meanwhile.",
        most - left,
        paths.len(),
        changes.len()
    ));
    account.answers.insert("HTTP change".to_owned(), changes);
    Ok(account)
}

/// Waits until a monkey's log is as long as it gets.
async fn fill(stage: &Stage, monkey: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let path = format!("/flocks/lambs/monkeys/{monkey}/log?offset=1000000000");
        let log = stage.fleet.call(Method::GET, &path).send().await?;
        let end = log.headers().get("x-log-end").context("a log has an end")?;
        if end.to_str()?.parse::<u64>()? > 32 * 1024 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "a monkey logs nothing");
        tokio::time::sleep(PAUSE).await;
    }
}
