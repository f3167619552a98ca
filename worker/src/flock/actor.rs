//! The task of one flock: starts, stops and refreshes its monkeys; whatever it does, a newer wish overtakes it.

use std::sync::Arc;
use std::time::Duration;

use mobu_fleet::domain::desired::DesiredFlock;
use mobu_fleet::domain::ids::FlockName;
use mobu_fleet::domain::messages::FlockPhase;
use mobu_fleet::runtime::backoff::Backoff;
use mobu_fleet::runtime::clock;
use mobu_fleet::runtime::process::chain;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::lifetime::Lifetime;
use super::start::{Start, StartError};
use super::{Pasture, Status, Wish};
use crate::business::IterationError;
use crate::measure::causes::Causes;
use crate::monkey::roster::Lives;

/// First and longest pause before a flock that could not start tries again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The task's state.
pub(super) struct FlockActor {
    name: FlockName,
    pasture: Arc<Pasture>,
    wish: watch::Receiver<Wish>,
    status: watch::Sender<Status>,
    random: fastrand::Rng,
    lives: Lives,
    _ended: Ended,
}

/// How a generation ended.
enum End {
    /// There is a newer wish.
    Overtaken,
    /// It ran as long as it may.
    Over(String),
    /// It could not start.
    Failed(StartError),
}

impl FlockActor {
    pub(super) fn new(
        desired: &DesiredFlock,
        pasture: Arc<Pasture>,
        wish: watch::Receiver<Wish>,
        status: watch::Sender<Status>,
    ) -> Self {
        let name = desired.config.name.clone();
        let salt = name
            .as_str()
            .bytes()
            .fold(0, |salt: u64, byte| salt.wrapping_mul(31).wrapping_add(byte.into()));
        Self {
            _ended: Ended {
                name: name.clone(),
                ended: pasture.ended.clone(),
            },
            random: fastrand::Rng::with_seed(pasture.surroundings.seed ^ salt),
            name,
            pasture,
            wish,
            status,
            lives: Lives::default(),
        }
    }

    /// Runs until the wish is to stop, and everything has stopped.
    pub(super) async fn run(mut self) {
        loop {
            let wish = self.wish.borrow_and_update().clone();
            match wish {
                Wish::Run(desired) => self.run_generation(&desired).await,
                Wish::Stop => break,
            }
        }
        info!(flock.name = %self.name, "flock `{}` has stopped", self.name);
    }

    /// Runs one generation until a newer wish overtakes it, and everything has stopped.
    async fn run_generation(&mut self, desired: &DesiredFlock) {
        self.status.send_replace(Status::starting(desired));
        self.pasture.changed.notify_one();
        let mut lifetime = Lifetime::of(desired, self.pasture.contact.clone());
        let mut backoff = Backoff::new(RETRY.0, RETRY.1, self.random.u64(..));
        loop {
            match self.attempt(desired, &mut lifetime).await {
                End::Overtaken => return self.stop().await,
                End::Over(reason) => {
                    info!(flock.name = %self.name, "flock `{}` {reason}", self.name);
                    self.stop().await;
                    self.set_phase(FlockPhase::Ended, Some(reason));
                    return overtaken(&mut self.wish, &self.status, &self.pasture, desired).await;
                }
                End::Failed(error) => {
                    let is_hopeless = matches!(error, StartError::Users(_) | StartError::Same { .. });
                    let text = chain(&error);
                    let wait = backoff.next_wait();
                    let next = if is_hopeless {
                        "not again".to_owned()
                    } else {
                        format!("again in {wait:.1?}")
                    };
                    warn!(flock.name = %self.name, error = %text, "flock `{}` could not start; {next}", self.name);
                    if let IterationError::Failed(failure) = error.into_failure() {
                        self.causes().note(&failure, &failure.line(), clock::wall());
                    }
                    self.set_phase(FlockPhase::Failed, Some(text));
                    if is_hopeless {
                        return overtaken(&mut self.wish, &self.status, &self.pasture, desired).await;
                    }
                    tokio::select! {
                        biased;
                        () = overtaken(&mut self.wish, &self.status, &self.pasture, desired) => return,
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    /// Starts the monkeys and lets them live until something ends it.
    async fn attempt(&mut self, desired: &DesiredFlock, lifetime: &mut Lifetime) -> End {
        let causes = self.causes();
        let start = Start {
            desired,
            pasture: &self.pasture,
            status: &self.status,
            random: &mut self.random,
            causes: &causes,
        };
        let lives = &mut self.lives;
        let live = async move {
            match start.run(lives).await {
                Ok(()) => match lives.watch().await {},
                Err(error) => error,
            }
        };
        tokio::select! {
            biased;
            () = overtaken(&mut self.wish, &self.status, &self.pasture, desired) => End::Overtaken,
            reason = lifetime.over() => End::Over(reason),
            error = live => End::Failed(error),
        }
    }

    /// Stops every monkey, within the replica's limit.
    async fn stop(&mut self) {
        self.set_phase(FlockPhase::Stopping, None);
        let herd = self.status.borrow().monkeys.clone();
        let Some(herd) = herd else { return };
        let mut limit = self.pasture.stop_limit.clone();
        let allowed = *limit.borrow_and_update();
        tokio::select! {
            biased;
            () = self.lives.stop(&self.name, &herd.roster, allowed) => return,
            // The process ends, and leaves less time.
            Ok(()) = limit.changed() => {}
        }
        let allowed = *limit.borrow_and_update();
        self.lives.stop(&self.name, &herd.roster, allowed).await;
    }

    /// Returns where failures of this generation are noted.
    fn causes(&self) -> Arc<Causes> {
        self.status.borrow().causes.clone()
    }

    fn set_phase(&self, phase: FlockPhase, error: Option<String>) {
        self.status.send_modify(|status| {
            status.phase = phase;
            status.error = error;
        });
        self.pasture.changed.notify_one();
    }
}

/// Waits until the wish is another than to run this generation. Tells the monkeys of every refresh meanwhile.
///
/// # Cancel safety
///
/// Safe.
async fn overtaken(
    wish: &mut watch::Receiver<Wish>,
    status: &watch::Sender<Status>,
    pasture: &Pasture,
    desired: &DesiredFlock,
) {
    loop {
        match &*wish.borrow_and_update() {
            Wish::Run(newest) if newest.generation <= desired.generation => {
                let refresh = newest.refresh_generation;
                let is_told = status.send_if_modified(|status| {
                    let is_new = refresh > status.refresh_generation;
                    if is_new {
                        status.refresh_generation = refresh;
                        if let Some(herd) = &status.monkeys {
                            herd.roster.refresh();
                        }
                    }
                    is_new
                });
                if is_told {
                    pasture.changed.notify_one();
                }
            }
            Wish::Run(_) | Wish::Stop => return,
        }
        if wish.changed().await.is_err() {
            // Nobody is left to have wishes: the replica is gone.
            return;
        }
    }
}

/// Says that the flock has ended when its task is dropped, however that comes about.
struct Ended {
    name: FlockName,
    ended: mpsc::UnboundedSender<FlockName>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        // Without a replica there is nobody to tell.
        drop(self.ended.send(self.name.clone()));
    }
}
