//! Plays inputs, and finds the one that breaks a promise.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, mpsc};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::Target;
use super::mutate::Kitchen;

/// What one input may cost in time of the processor, the process being shared by nobody else: a hundred times what the slowest takes.
const TIME: Duration = Duration::from_secs(3);
/// By how much the memory of the process may grow over a run, in KiB: inputs have 128 KiB at most.
const MEMORY: u64 = 256 * 1024;
/// Stack of the thread that reads, in bytes: that of the product's threads.
const STACK: usize = 2 * 1024 * 1024;
/// How long one input may take before it is said to hang, however busy the machine.
const HANG: Duration = Duration::from_secs(300);
/// How many inputs there are between two looks at the memory.
const LOOK: u64 = 512;

/// Which inputs to play.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Decides all inputs.
    pub seed: u64,
    /// Number of the first.
    pub first: u64,
    /// How many.
    pub inputs: u64,
}

/// How it went.
#[derive(Debug, Clone, Copy)]
pub struct Played {
    /// How many inputs were read, those that once went wrong included.
    pub inputs: u64,
    /// How long it took.
    pub took: Duration,
    /// Time of the processor that the slowest input took.
    pub slowest: Duration,
    /// Largest memory of the process, in KiB.
    pub memory: u64,
}

/// An input that broke a promise.
#[derive(Debug)]
pub struct Failure {
    target: &'static str,
    /// What made the input.
    origin: String,
    /// What it broke.
    what: String,
    /// The input, made as short as it gets.
    input: Vec<u8>,
    /// Where that lies as a file.
    file: Option<PathBuf>,
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            target,
            origin,
            what,
            input,
            file,
        } = self;
        let shown = input[..input.len().min(1500)].escape_ascii();
        writeln!(f, "{target}: {what}")?;
        writeln!(
            f,
            "  by {origin}; again: cargo run -p fleet-tests --bin fuzz -- {target} {origin}"
        )?;
        writeln!(f, "  shortest input of this kind, {} bytes: {shown}", input.len())?;
        match file {
            Some(file) => write!(
                f,
                "  kept as {}; once mended, it belongs into tests/fuzz/corpus/{target}",
                file.display()
            ),
            None => Ok(()),
        }
    }
}

thread_local! {
    static PANIC: std::cell::RefCell<Option<String>> = const { std::cell::RefCell::new(None) };
}

/// Keeps what a panic of a reading thread says, instead of printing it.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current()
                .name()
                .is_some_and(|name| name.starts_with("fuzz-"))
            {
                PANIC.with_borrow_mut(|kept| *kept = Some(panic.to_string()));
            } else {
                before(panic);
            }
        }));
    });
}

/// Reads one input.
fn attempt(target: &Target, input: &[u8]) -> (Result<(), String>, Duration) {
    let began = processor_time();
    let result = catch_unwind(AssertUnwindSafe(|| (target.check)(input)));
    let took = processor_time().saturating_sub(began);
    let result = match result {
        Ok(Ok(())) if took > TIME => Err(format!("it takes {took:?} of the processor")),
        Ok(result) => result,
        Err(_) => Err(PANIC
            .with_borrow_mut(Option::take)
            .unwrap_or_else(|| "a panic".to_owned())),
    };
    (result, took)
}

/// Plays a plan in a thread of its own.
///
/// # Errors
///
/// The first input that breaks a promise.
///
/// # Panics
///
/// If the system has no thread left.
pub fn play(target: Target, plan: Plan) -> Result<Played, Failure> {
    keep_panics();
    let progress = Arc::new(AtomicU64::new(0));
    let current = Arc::new(Mutex::new(String::new()));
    let (told, tells) = mpsc::channel();
    let reader = {
        let (progress, current) = (progress.clone(), current.clone());
        let read = move || drop(told.send(play_here(target, plan, &progress, &current)));
        std::thread::Builder::new()
            .name(format!("fuzz-{}", target.name))
            .stack_size(STACK)
            .spawn(read)
            .expect("a thread can be had")
    };
    let mut last = (u64::MAX, Instant::now());
    loop {
        match tells.recv_timeout(Duration::from_secs(1)) {
            Ok(played) => {
                drop(reader.join());
                return played;
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => unreachable!("the reading thread catches its panics"),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        let now = progress.load(Ordering::Relaxed);
        if last.0 != now {
            last = (now, Instant::now());
        } else if last.1.elapsed() > HANG {
            // The thread that hangs is left behind; the process ends soon after.
            let origin = current.lock().map(|origin| origin.clone()).unwrap_or_default();
            let number = plan.first + now;
            return Err(Failure {
                target: target.name,
                origin: if origin.is_empty() {
                    at(plan.seed, number)
                } else {
                    origin
                },
                what: format!("it takes more than {HANG:?}"),
                input: Kitchen::of(&target).input(plan.seed, number),
                file: None,
            });
        }
    }
}

fn at(seed: u64, number: u64) -> String {
    format!("--seed {seed} --first {number} --inputs 1")
}

fn play_here(target: Target, plan: Plan, progress: &AtomicU64, current: &Mutex<String>) -> Result<Played, Failure> {
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut played = 0;
    let kitchen = Kitchen::of(&target);
    let fail = |origin: String, what: String, input: Vec<u8>| Err(failure(&target, origin, what, input));
    let known = target
        .corpus()
        .into_iter()
        .map(|(name, input)| (format!("the file {name}"), input));
    let real = (target.seeds)().into_iter().enumerate();
    for (origin, input) in known.chain(real.map(|(number, input)| (format!("example {number}"), input))) {
        current.lock().expect("nobody panics with it").clone_from(&origin);
        if let (Err(what), _) = attempt(&target, &input) {
            return fail(origin, what, input);
        }
        played += 1;
    }
    current.lock().expect("nobody panics with it").clear();
    let floor = memory("VmHWM:");
    let mut largest = floor;
    for number in plan.first..plan.first + plan.inputs {
        progress.store(number - plan.first, Ordering::Relaxed);
        let input = kitchen.input(plan.seed, number);
        let (result, took) = attempt(&target, &input);
        slowest = slowest.max(took);
        played += 1;
        if let Err(what) = result {
            return fail(at(plan.seed, number), what, input);
        }
        if number % LOOK == 0 {
            largest = memory("VmHWM:");
            if largest > floor + MEMORY {
                let what =
                    format!("the process grew from {floor} to {largest} KiB by this or the {LOOK} inputs before it");
                return fail(at(plan.seed, number), what, input);
            }
        }
    }
    Ok(Played {
        inputs: played,
        took: began.elapsed(),
        slowest,
        memory: largest,
    })
}

fn failure(target: &Target, origin: String, what: String, input: Vec<u8>) -> Failure {
    let input = shortest(target, &what, input);
    let file = std::env::temp_dir().join(format!("fuzz-{}-{:016x}", target.name, digest(&input)));
    let file = std::fs::write(&file, &input).is_ok().then_some(file);
    Failure {
        target: target.name,
        origin,
        what,
        input,
        file,
    }
}

/// Takes away what is not needed to break the same promise.
fn shortest(target: &Target, what: &str, mut input: Vec<u8>) -> Vec<u8> {
    let kind = |what: &str| what.chars().take(40).collect::<String>();
    let wanted = kind(what);
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut size = input.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < input.len() && Instant::now() < deadline {
            let end = (at + size).min(input.len());
            let shorter = [&input[..at], &input[end..]].concat();
            match attempt(target, &shorter) {
                (Err(what), _) if kind(&what) == wanted => input = shorter,
                _ => at = end,
            }
        }
        size /= 2;
    }
    input
}

fn digest(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Returns how long this thread has used the processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// Returns a figure of this process's memory, in KiB.
fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_default()
}
