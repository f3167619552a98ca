//! A process's place: it runs there, dies and comes back, and has a network of its own to the broker.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::clients::Bases;
use super::fault::{Planned, ProcessFault};
use crate::broker::Broker;
use crate::process::Process;
use crate::proxy::Proxy;

/// Who has the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
    /// One of the two coordinators.
    Coordinator(usize),
    /// The replica of that instance ID.
    Worker(u32),
}

/// One place.
#[derive(Debug)]
pub(super) struct Slot {
    /// Whose.
    pub(super) seat: Seat,
    folder: PathBuf,
    variables: Vec<(&'static str, String)>,
    proxies: Vec<Proxy>,
    bases: Bases,
    process: Option<Process>,
}

impl Slot {
    /// Makes a place with a proxy before each node, and starts its process.
    pub(super) async fn start(
        seat: Seat,
        nodes: &[Broker],
        variables: &[(&'static str, String)],
        folder: PathBuf,
        bases: &Bases,
    ) -> Result<Self> {
        let (mut proxies, mut urls) = (Vec::new(), Vec::new());
        for node in nodes {
            let proxy = Proxy::start(node.port()).await?;
            urls.push(node.url_at(proxy.port()));
            proxies.push(proxy);
        }
        let mut variables = variables.to_vec();
        variables.push(("MOBU_AMQP_URL", urls.join(",")));
        if let Seat::Worker(id) = seat {
            variables.push(("MOBU_INSTANCE_ID", id.to_string()));
        }
        let mut slot = Self {
            seat,
            folder,
            variables,
            proxies,
            bases: Bases::clone(bases),
            process: None,
        };
        slot.boot().await?;
        Ok(slot)
    }

    async fn boot(&mut self) -> Result<()> {
        let program = match self.seat {
            Seat::Coordinator(_) => "mobu-coordinator",
            Seat::Worker(_) => "mobu-worker",
        };
        let mut process = Process::start(program, &[], &self.variables, &self.folder)?;
        if let Seat::Coordinator(index) = self.seat {
            let address = process.http().await?;
            self.bases.lock().expect("no code panics while it holds it")[index] = Some(address);
        }
        self.process = Some(process);
        Ok(())
    }

    fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("the process is there")
    }

    /// Checks that nobody ended who was not ended.
    pub(super) fn check_alive(&mut self) -> Result<()> {
        let seat = self.seat;
        let process = self.process()?;
        ensure!(
            process.is_running()?,
            "{seat:?} has ended by itself:\n{}",
            tail(&process.log(), 30)
        );
        Ok(())
    }

    /// Lets it suffer a fault, and returns when all is as before.
    pub(super) async fn suffer(&mut self, fault: ProcessFault, planned: &Planned) -> Result<()> {
        tokio::time::sleep(planned.after).await;
        self.begin(fault).await?;
        if fault == ProcessFault::FreezeTwin {
            self.twin(planned.lasts).await?;
        } else {
            tokio::time::sleep(planned.lasts).await;
        }
        self.heal(fault).await
    }

    /// Begins a fault, which lasts until it is healed.
    pub(super) async fn begin(&mut self, fault: ProcessFault) -> Result<()> {
        self.check_alive()?;
        match fault {
            ProcessFault::Kill => self.process()?.kill().await?,
            ProcessFault::Terminate => self.end().await?,
            ProcessFault::FreezeShort | ProcessFault::FreezeLong | ProcessFault::FreezeTwin => {
                self.process()?.signal("STOP").await?;
            }
            ProcessFault::Reset => self.proxies.iter().for_each(Proxy::reset),
            ProcessFault::Refuse => self.proxies.iter().for_each(Proxy::refuse),
            ProcessFault::Stall => self.proxies.iter().for_each(Proxy::black_hole),
        }
        Ok(())
    }

    /// Ends what [`Slot::begin`] began.
    pub(super) async fn heal(&mut self, fault: ProcessFault) -> Result<()> {
        match fault {
            ProcessFault::Kill | ProcessFault::Terminate => self.boot().await?,
            ProcessFault::FreezeShort | ProcessFault::FreezeLong => self.process()?.signal("CONT").await?,
            ProcessFault::Refuse | ProcessFault::Stall => self.proxies.iter().for_each(Proxy::pass),
            ProcessFault::FreezeTwin | ProcessFault::Reset => {}
        }
        Ok(())
    }

    /// Asks it to end, and checks that it does so well.
    pub(super) async fn end(&mut self) -> Result<()> {
        let seat = self.seat;
        let process = self.process()?;
        let status = process.terminate().await?;
        if !status.success() {
            let log = tail(&process.log(), 30);
            bail!("{seat:?} was asked to end, and did with {status}:\n{log}");
        }
        Ok(())
    }

    /// A second process of this instance ID: it runs nothing until the broker has dropped the frozen one, which then finds its name
    /// taken when it wakes.
    async fn twin(&mut self, lasts: Duration) -> Result<()> {
        let twin = Process::start("mobu-worker", &[], &self.variables, &self.folder)?;
        tokio::time::sleep(lasts).await;
        self.process()?.signal("CONT").await?;
        // Both live for a moment.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut twin = twin;
        ensure!(
            twin.is_running()?,
            "a replica of a taken instance ID ended at once:\n{}",
            tail(&twin.log(), 30)
        );
        twin.kill().await?;
        Ok(())
    }
}

/// The last lines of a text.
pub(super) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
