//! A whole fleet in one thread: the coordinators and replicas of production over the in-process link, with a paused clock.
//!
//! One seed decides everything: what the link does to messages, which process dies, freezes or is cut off when, and what
//! clients ask for. [`run`] plays a seed and checks what must always be true; [`shrink`] makes a failing script small.

mod ask;
mod fault;
pub(crate) mod model;
mod node;
mod oracle;
mod play;
mod script;
mod watch;

pub use play::{Failure, Played, play};
pub use script::{Event, Script};

use mobu_fleet::simulation::{Bug, plant};

/// Plays the script of a seed, with a bug planted if there is one.
///
/// # Errors
///
/// [`Failure`]: what was wrong, and all that happened before.
pub fn run(seed: u64, bug: Option<Bug>) -> Result<Played, Box<Failure>> {
    run_script(&Script::of(seed), bug)
}

/// Plays a script.
///
/// # Errors
///
/// As [`run`].
///
/// # Panics
///
/// If there is no runtime to be had.
pub fn run_script(script: &Script, bug: Option<Bug>) -> Result<Played, Box<Failure>> {
    plant(bug);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime needs only memory");
    let played = runtime.block_on(play(script));
    plant(None);
    played
}

/// Leaves out events for as long as the script still fails. Tries at most `tries` scripts.
pub fn shrink(script: &Script, bug: Option<Bug>, tries: usize) -> Option<(Script, Box<Failure>)> {
    let mut failure = run_script(script, bug).err()?;
    let mut best = script.clone();
    let (mut left, mut chunk) = (tries, best.events.len().div_ceil(2).max(1));
    while left > 0 {
        let (mut at, mut has_shrunk) = (0, false);
        while at < best.events.len() && left > 0 {
            let mut smaller = best.clone();
            smaller.events.drain(at..(at + chunk).min(best.events.len()));
            left -= 1;
            match run_script(&smaller, bug) {
                Err(still) => (best, failure, has_shrunk) = (smaller, still, true),
                Ok(_) => at += chunk,
            }
        }
        if chunk == 1 && !has_shrunk {
            break;
        }
        chunk = (chunk / 2).max(1);
    }
    Some((best, failure))
}

/// Returns what a person needs to see of a failing seed: the error, the shortest script that still fails, and what happened in it.
pub fn explain(seed: u64, bug: Option<Bug>) -> Option<String> {
    let (script, failure) = shrink(&Script::of(seed), bug, 150)?;
    let events: Vec<_> = script
        .events
        .iter()
        .map(|(at, event)| format!("  {at:?} {event:?}"))
        .collect();
    Some(format!(
        "seed {seed}: {}\nshortest script ({} events, profile {:?}):\n{}\ntrace:\n  {}",
        failure.what,
        events.len(),
        script.profile,
        events.join("\n"),
        failure.trace.join("\n  "),
    ))
}
