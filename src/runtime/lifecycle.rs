//! How a process ends: signals, draining, aborting, exit codes.

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::tasks::Tasks;

/// Exit code after a crash: a vital task ended by itself.
pub const EXIT_CRASH: u8 = 1;

/// Exit code for a configuration that cannot work, as in `sysexits.h`.
pub const EXIT_CONFIG: u8 = 64;

/// How a process came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Somebody asked it to end.
    Asked,
    /// A vital task ended by itself.
    Crashed,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Asked => Self::SUCCESS,
            Ending::Crashed => Self::from(EXIT_CRASH),
        }
    }
}

/// How often the log names how much still runs while the process drains.
const DRAIN_LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Waits for SIGTERM or SIGINT, or for a vital task to end; then drains within `drain_timeout` and says how it went.
///
/// The first signal asks every task to end in an orderly way, the second one ends them at once.
///
/// # Errors
///
/// If the process cannot listen to signals.
pub async fn run(tasks: Tasks, drain_timeout: Duration) -> std::io::Result<Ending> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let drain = tasks.drain_token();
    let asked = tokio::select! {
        _ = terminate.recv() => true,
        _ = interrupt.recv() => true,
        () = drain.cancelled() => false,
    };
    info!(
        "{}; draining for at most {drain_timeout:?}",
        if asked { "asked to end" } else { "a vital task ended" }
    );
    drain.cancel();
    tokio::select! {
        () = tasks.wait() => info!("every task has ended"),
        _ = terminate.recv() => warn!("asked to end a second time: aborting"),
        _ = interrupt.recv() => warn!("asked to end a second time: aborting"),
        () = tokio::time::sleep(drain_timeout) => warn!("{} tasks still run after {drain_timeout:?}: aborting", tasks.running()),
        () = say_what_runs(&tasks) => {}
    }
    tasks.abort_token().cancel();
    tasks.wait().await;
    Ok(if asked { Ending::Asked } else { Ending::Crashed })
}

/// Never ends.
async fn say_what_runs(tasks: &Tasks) {
    loop {
        tokio::time::sleep(DRAIN_LOG_INTERVAL).await;
        info!("draining: {} tasks still run", tasks.running());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::runtime::tasks::TaskKind;

    fn terminate_myself() {
        let mut kill = std::process::Command::new("kill");
        let status = kill.args(["-TERM", &std::process::id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    #[tokio::test]
    async fn the_first_signal_asks_every_task_to_end_and_the_second_ends_them() {
        let tasks = Tasks::new();
        let was_asked = Arc::new(AtomicBool::new(false));
        let (drain, seen) = (tasks.drain_token(), was_asked.clone());
        tasks.spawn(TaskKind::Vital, "stubborn", async move {
            drain.cancelled().await;
            seen.store(true, Ordering::Relaxed);
            std::future::pending::<()>().await;
        });
        let mut running = std::pin::pin!(run(tasks.clone(), Duration::from_secs(3600)));
        // Polled once, it listens.
        assert!(futures_lite::future::poll_once(&mut running).await.is_none());
        terminate_myself();
        let drained = tasks.drain_token();
        tokio::select! {
            ending = &mut running => panic!("it does not wait for its tasks: {ending:?}"),
            () = drained.cancelled() => {}
        }
        while !was_asked.load(Ordering::Relaxed) {
            assert!(futures_lite::future::poll_once(&mut running).await.is_none());
            tokio::task::yield_now().await;
        }
        terminate_myself();
        assert!(matches!(running.await, Ok(Ending::Asked)));
        assert_eq!(tasks.running(), 0);
    }
}
