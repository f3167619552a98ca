//! What happens in a run: made from a seed before it begins, so that events can be left out.

use std::time::Duration;

/// How many replicas a simulated fleet has at first.
pub(super) const REPLICAS: usize = 3;

/// How many it has at most.
pub(super) const MOST_REPLICAS: usize = 4;

/// More entries than any log of a simulation has.
const ALL: usize = 10_000;

/// How many flock names clients use.
const FLOCKS: usize = 4;

/// The flock whose users are dealt out to all replicas.
pub(super) const SPREAD: usize = 2;

/// The flock that has a lease.
pub(super) const LEASED: usize = 3;

/// How long its lease is.
pub(super) const LEASE: Duration = Duration::from_secs(6);

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Start the flock of that number with that many monkeys.
    Start(usize, u32),
    /// Stop it.
    Stop(usize),
    /// Refresh it.
    Refresh(usize),
    /// Stop every flock.
    StopAll,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A coordinator or replica is killed.
    Kill(Role),
    /// It is asked to end.
    Stop(Role),
    /// It is started, if it does not run.
    Start(Role),
    /// Its connections break.
    Cut(Role),
    /// Every connection breaks.
    CutAll,
    /// The lock's holder is cut off, and the lock stays taken for so many milliseconds; for ever if there are none.
    StrandLock(Option<u64>),
    /// A replica is cut off, and its name stays taken for so many milliseconds; for ever if there are none.
    StrandName(usize, Option<u64>),
    /// It cannot reach the broker for so many milliseconds.
    Unreachable(Role, u64),
    /// It stands still for so many milliseconds; the broker may think that it is dead.
    Freeze(Role, u64, bool),
    /// The broker loses so many of its newest entries.
    LoseNewest(usize),
    /// The broker loses everything.
    Wipe,
    /// The broker loses so many of its newest entries, perhaps all, and nobody who knows them is there to be asked: the
    /// coordinators start anew, and the replicas cannot reach the broker for so many milliseconds.
    LoseUnnoticed(usize, u64),
    /// A second process with a replica's instance ID is started.
    Second(usize),
    /// The fleet is given so many replicas: surplus ones are asked to end, missing ones started, and the coordinators exchanged for
    /// some that know.
    Scale(usize),
    /// A client calls a coordinator; the second time with the same request ID, perhaps.
    Call(Wanted, bool),
    /// A client publishes a request, twice perhaps.
    Request(Wanted, bool),
}

/// A process, by what it is meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// One of the coordinators.
    Coordinator(usize),
    /// The replica of that number.
    Replica(usize),
}

/// How bad the link is. Chances are out of 1000, times in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Profile {
    /// Chance that a soft message is lost.
    pub lost: u64,
    /// Chance that it comes twice.
    pub doubled: u64,
    /// Longest delay of one that is delayed; a few take a minute.
    pub late: u64,
    /// Longest time that an entry takes to the log.
    pub append: u64,
    /// Chance that an entry takes up to eight seconds.
    pub append_slow: u64,
    /// Chance that an entry is lost, and chance that its confirmation is.
    pub append_lost: u64,
    /// Longest time that a reader takes for an entry.
    pub read: u64,
    /// Chance that it takes up to three seconds.
    pub read_slow: u64,
    /// Chance that the broker gives the lock to one who may not have it.
    pub lockless: u64,
}

/// A whole run.
#[derive(Debug, Clone)]
pub struct Script {
    /// What decides all that the events do not.
    pub seed: u64,
    /// How many coordinators there are.
    pub coordinators: usize,
    /// How bad the link is.
    pub profile: Profile,
    /// What happens, and how long after the beginning.
    pub events: Vec<(Duration, Event)>,
}

impl Script {
    /// Makes the script of a seed.
    pub fn of(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let coordinators = random.usize(2..=3);
        let mut some = |most: u64| if random.bool() { 0 } else { random.u64(0..=most) };
        let profile = Profile {
            lost: some(300),
            doubled: some(200),
            late: some(3000),
            append: some(60),
            append_slow: some(80),
            append_lost: some(60),
            read: 1 + some(60),
            read_slow: some(30),
            lockless: some(1000),
        };
        let mut at = Duration::from_millis(random.u64(500..4000));
        let mut events = Vec::new();
        for _ in 0..random.usize(10..40) {
            let event = event(&mut random, coordinators);
            events.push((at, event));
            if let Event::LoseUnnoticed(entries, _) = event {
                // The fleet goes on without what was lost, and outgrows it.
                at += Duration::from_millis(if entries == ALL { 11_000 } else { 3000 });
                for _ in 0..random.usize(2..8) {
                    events.push((at, Event::Call(wanted(&mut random), false)));
                    at += Duration::from_millis(random.u64(50..600));
                }
            }
            let pause = if random.u8(0..4) == 0 { 4000 } else { 700 };
            at += Duration::from_millis(random.u64(0..pause));
        }
        Self {
            seed,
            coordinators,
            profile,
            events,
        }
    }
}

fn role(random: &mut fastrand::Rng, coordinators: usize) -> Role {
    if random.bool() {
        Role::Coordinator(random.usize(0..coordinators))
    } else {
        Role::Replica(replica(random))
    }
}

/// Picks a replica; the last one is there only in some fleets.
fn replica(random: &mut fastrand::Rng) -> usize {
    random.usize(0..MOST_REPLICAS)
}

fn wanted(random: &mut fastrand::Rng) -> Wanted {
    let flock = random.usize(0..FLOCKS);
    match random.u8(0..20) {
        0..10 => Wanted::Start(flock, random.u32(1..=2)),
        10..14 => Wanted::Stop(flock),
        14..19 => Wanted::Refresh(flock),
        _ => Wanted::StopAll,
    }
}

fn event(random: &mut fastrand::Rng, coordinators: usize) -> Event {
    let who = role(random, coordinators);
    match random.u8(0..102) {
        0..34 => Event::Call(wanted(random), random.u8(0..4) == 0),
        34..46 => Event::Request(wanted(random), random.u8(0..4) == 0),
        46..54 => Event::Kill(who),
        54..57 => Event::Stop(who),
        57..67 => Event::Start(who),
        67..74 => Event::Cut(who),
        74..77 => Event::CutAll,
        77..83 => Event::Unreachable(who, random.u64(100..9000)),
        83..89 => Event::Freeze(who, random.u64(100..9000), random.bool()),
        89..92 => Event::LoseNewest(random.usize(1..6)),
        92..94 => Event::Wipe,
        94..96 => match random.u8(0..4) {
            0 => Event::LoseUnnoticed(ALL, random.u64(11_000..25_000)),
            _ => Event::LoseUnnoticed(random.usize(1..6), random.u64(3000..12_000)),
        },
        96 => Event::StrandLock(random.bool().then(|| random.u64(100..30_000))),
        97 => Event::StrandName(replica(random), random.bool().then(|| random.u64(100..30_000))),
        98 => Event::Second(replica(random)),
        _ => Event::Scale(random.usize(2..=MOST_REPLICAS)),
    }
}
