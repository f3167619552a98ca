//! On what is measured, so that nobody compares figures of two machines.

use std::fs;

use mobu_fleet::runtime::clock;

/// Returns a paragraph about this machine and how busy it is.
pub(crate) fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = read("/proc/meminfo");
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse().ok());
    let gib = memory.unwrap_or(0_u64) >> 20;
    let kernel = read("/proc/sys/kernel/osrelease");
    let profile = if cfg!(debug_assertions) {
        "a debug build, whose figures mean nothing"
    } else {
        "a release build"
    };
    format!(
        "{}: {cores} cores of {model}, {gib} GiB, Linux {}; {profile}. {}.",
        clock::wall().strftime("%Y-%m-%d %H:%M UTC"),
        kernel.trim(),
        load()
    )
}

/// Returns how many others wanted to run of late.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let minute = load.split(' ').next().unwrap_or("?").to_owned();
    format!("Load of the last minute: {minute}")
}
