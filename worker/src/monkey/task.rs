//! The life of one monkey (`contracts/businesses.md` 1): start up, iterate, shut down; begin again after a failure.

use std::any::Any;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_lite::FutureExt;
use mobu_fleet::domain::business::LogLevel;
use mobu_fleet::domain::monkey::MonkeyEvent;
use tracing::{debug, info};

use super::{Event, Monkey, state_name};
use crate::business::{Business, IterationError};

/// Lives a monkey's life until it is told to stop, or fails for good.
///
/// The same business object is used over restarts, unless it panicked: then nobody knows what is left of it, and `make`
/// makes another one.
pub(crate) async fn live<B: Business>(monkey: Arc<Monkey>, make: impl Fn(&Monkey) -> B) {
    let _ended = Ended(&monkey);
    let mut business = make(&monkey);
    while monkey.apply(MonkeyEvent::Start) {
        let error = match AssertUnwindSafe(run(&monkey, &mut business)).catch_unwind().await {
            Ok(outcome) => {
                business.close(&monkey).await;
                match outcome {
                    Ok(()) => break,
                    Err(error) => error,
                }
            }
            Err(panic) => {
                monkey.count_failure();
                business = make(&monkey);
                IterationError::retry(
                    "panic",
                    Panicked {
                        text: panic_text(&*panic),
                    },
                )
            }
        };
        if !recover(&monkey, &error).await {
            return;
        }
    }
    if monkey.apply(MonkeyEvent::Finish) {
        monkey.info("Stopped");
    }
}

/// Says what went wrong and pauses before the next run. Returns false if there is to be none, ever.
async fn recover(monkey: &Monkey, error: &IterationError) -> bool {
    let is_stopping = monkey.is_stopping();
    if is_stopping {
        monkey.info(&format!(
            "Not sending alert because state is {}",
            state_name(monkey.state())
        ));
    }
    let text = "Exception thrown while doing monkey business";
    let chain = chain(error);
    monkey.say(&Event {
        level: LogLevel::Error,
        text,
        fields: &[],
        exception: Some(&chain),
    });
    let (name, flock) = (monkey.name(), &monkey.flock().name);
    debug!(monkey.name = %name, flock.name = %flock, error = error.kind(), "monkey `{name}` of flock `{flock}` failed");
    if is_stopping {
        return true;
    }
    let business = &monkey.flock().business;
    if !business.restart || error.is_fatal() {
        info!(monkey.name = %name, flock.name = %flock, "Shutting down monkey due to error");
        monkey.apply(MonkeyEvent::FailForGood);
        return false;
    }
    monkey.apply(MonkeyEvent::Fail);
    let wait = business.common().error_idle_time;
    let text = format!("Restarting failed monkey after {wait}s");
    monkey.say(&Event {
        level: LogLevel::Warning,
        text: &text,
        fields: &[],
        exception: None,
    });
    monkey.pause(wait.to_std()).await;
    true
}

/// Runs the business once, from start-up to shutdown.
async fn run<B: Business>(monkey: &Monkey, business: &mut B) -> Result<(), IterationError> {
    monkey.info("Starting up...");
    match business.startup(monkey).await {
        Ok(()) | Err(IterationError::Stopped(_)) => {}
        Err(error) => {
            monkey.count_failure();
            return Err(error);
        }
    }
    while !monkey.is_stopping() {
        monkey.info("Starting next iteration");
        match business.execute(monkey).await {
            Ok(()) => monkey.count_success(),
            Err(IterationError::Stopped(_)) => break,
            Err(error) => {
                monkey.count_failure();
                return Err(error);
            }
        }
        monkey.info("Idling...");
        business.idle(monkey).await;
    }
    monkey.info("Shutting down...");
    match business.shutdown(monkey).await {
        Err(IterationError::Stopped(_)) => Ok(()),
        ended => ended,
    }
}

/// Notes the end of a monkey's task, however it ends.
struct Ended<'a>(&'a Monkey);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Ordering::SeqCst);
    }
}

/// The business panicked.
#[derive(Debug, thiserror::Error)]
#[error("the business panicked: {text}")]
struct Panicked {
    text: String,
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
        .to_owned()
}

/// Returns the error and its causes, one per line: what stands for mobu's traceback.
fn chain(error: &IterationError) -> String {
    let mut text = format!("{}: {error}", error.kind());
    for cause in error.causes() {
        write!(text, "\n  caused by: {cause}").expect("a String takes everything");
    }
    text
}

#[cfg(test)]
#[path = "task_tests.rs"]
pub(crate) mod tests;
