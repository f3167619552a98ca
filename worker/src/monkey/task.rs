//! The life of one monkey (`contracts/businesses.md` 1): start up, iterate, shut down; begin again after a failure.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_lite::FutureExt;
use mobu_fleet::domain::business::LogLevel;
use mobu_fleet::domain::monkey::MonkeyEvent;
use mobu_fleet::runtime::clock;
use tracing::{debug, info, warn};

use super::{Event, Field, Monkey, state_name};
use crate::business::{Business, Failure, IterationError, Phase};

/// Lives a monkey's life until it is told to stop, or fails for good.
///
/// The same business object is used over restarts, unless it panicked: then nobody knows what is left of it, and `make`
/// makes another one.
pub(crate) async fn live<B: Business>(monkey: Arc<Monkey>, make: impl Fn(&Monkey) -> B) {
    let _ended = Ended(&monkey);
    let mut business = make(&monkey);
    while monkey.apply(MonkeyEvent::Start) {
        let outcome = match AssertUnwindSafe(run(&monkey, &mut business)).catch_unwind().await {
            Ok(outcome) => {
                business.close(&monkey).await;
                outcome
            }
            Err(panic) => {
                monkey.count_failure();
                business = make(&monkey);
                depart(&mut business, &monkey).await;
                let text = panic_text(&*panic);
                Err(IterationError::retry("panic", Panicked { text }))
            }
        };
        let failure = match outcome {
            Ok(()) | Err(IterationError::Stopped(_)) => break,
            Err(IterationError::Failed(failure)) => failure,
        };
        if !recover(&monkey, failure).await {
            return depart(&mut business, &monkey).await;
        }
    }
    depart(&mut business, &monkey).await;
    if monkey.apply(MonkeyEvent::Finish) {
        monkey.note("Stopped");
    }
}

/// Lets the business leave nothing behind. A panic there is its last: the monkey's own end must not depend on it.
async fn depart<B: Business>(business: &mut B, monkey: &Monkey) {
    let departed = AssertUnwindSafe(business.depart(monkey)).catch_unwind().await;
    if let Err(panic) = departed {
        monkey.warn(&format!("the business panicked at its end: {}", panic_text(&*panic)));
    }
}

/// Says what went wrong and pauses before the next run. Returns false if there is to be none, ever.
async fn recover(monkey: &Monkey, mut failure: Box<Failure>) -> bool {
    let is_stopping = monkey.is_stopping();
    if is_stopping {
        monkey.info(&format!(
            "Not sending alert because state is {}",
            state_name(monkey.state())
        ));
    }
    failure.clean(&monkey.user().token);
    failure.set_phase(monkey.phase());
    monkey.leave();
    let traceback = failure.traceback();
    monkey.say(&Event {
        level: LogLevel::Error,
        text: "Exception thrown while doing monkey business",
        fields: &facts(&failure),
        exception: Some(&traceback),
    });
    let (name, flock) = (monkey.name(), &monkey.flock().name);
    debug!(
        monkey.name = %name, flock.name = %flock, error = failure.kind(),
        "monkey `{name}` of flock `{flock}` failed"
    );
    let line = failure.line();
    let line = monkey.hide(&line);
    monkey.flock().causes.note(&failure, &line, clock::wall());
    let is_fatal = failure.is_fatal();
    drop(failure);
    if is_stopping {
        return true;
    }
    let business = &monkey.flock().business;
    if !business.restart || is_fatal {
        info!(monkey.name = %name, flock.name = %flock, "Shutting down monkey due to error");
        monkey.apply(MonkeyEvent::FailForGood);
        return false;
    }
    monkey.apply(MonkeyEvent::Fail);
    let wait = business.common().error_idle_time;
    monkey.warn(&format!("Restarting failed monkey after {wait}s"));
    monkey.pause(wait.to_std()).await;
    true
}

/// Runs the business once, from start-up to shutdown.
async fn run<B: Business>(monkey: &Monkey, business: &mut B) -> Result<(), IterationError> {
    monkey.note("Starting up...");
    match business.startup(monkey).await {
        Ok(()) | Err(IterationError::Stopped(_)) => {}
        Err(error) => {
            monkey.count_failure();
            return Err(error);
        }
    }
    while !monkey.is_stopping() {
        monkey.note("Starting next iteration");
        let begun = clock::now();
        match business.execute(monkey).await {
            Ok(()) => {
                monkey.count_success();
                monkey.flock().tally.iteration(true, begun.elapsed());
            }
            Err(IterationError::Stopped(_)) => break,
            Err(error) => {
                monkey.count_failure();
                monkey.flock().tally.iteration(false, begun.elapsed());
                return Err(error);
            }
        }
        monkey.leave();
        monkey.note("Idling...");
        business.idle(monkey).await;
    }
    monkey.note("Shutting down...");
    match business.shutdown(monkey).await {
        Err(IterationError::Stopped(_)) => Ok(()),
        ended => ended,
    }
}

/// Notes the end of a monkey's task, however it ends.
struct Ended<'a>(&'a Monkey);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let Self(monkey) = self;
        if monkey.may_have_lab() {
            let (name, flock) = (monkey.name(), &monkey.flock().name);
            warn!(
                monkey.name = %name, flock.name = %flock,
                "the lab of user `{name}` of flock `{flock}` had to be left at the hub: nobody has confirmed its end"
            );
        }
        monkey.has_ended.store(true, Ordering::SeqCst);
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

/// Returns what is known of a failure as the facts of a log line.
fn facts(failure: &Failure) -> Vec<(&'static str, Field<'_>)> {
    let texts = [
        ("kind", Some(failure.kind())),
        ("phase", failure.phase().map(Phase::as_str)),
        ("url", failure.url()),
        ("notebook", failure.notebook()),
        ("cell", failure.cell()),
    ];
    let texts = texts.into_iter();
    let mut facts: Vec<_> = texts
        .filter_map(|(key, text)| Some((key, Field::Text(text?))))
        .collect();
    facts.extend(
        failure
            .http_status()
            .map(|status| ("status", Field::Integer(status.into()))),
    );
    facts
}

#[cfg(test)]
#[path = "task_tests.rs"]
pub(crate) mod tests;
