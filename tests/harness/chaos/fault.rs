//! What goes wrong, whom it hits, and when: a round's faults, chosen by a seed.

use std::fmt;
use std::time::Duration;

/// A process of the fleet, by the part that it plays when the round begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// The coordinator that leads.
    Leader,
    /// The other one.
    Standby,
    /// The replica of that instance ID.
    Worker(u32),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader => f.write_str("leader"),
            Self::Standby => f.write_str("standby"),
            Self::Worker(id) => write!(f, "worker {id}"),
        }
    }
}

/// What happens to a process, or to its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ProcessFault {
    /// SIGKILL, and a new process a while later.
    Kill,
    /// SIGTERM, and a new process once it has ended.
    Terminate,
    /// SIGSTOP and SIGCONT, before anybody can notice by a heartbeat.
    FreezeShort,
    /// SIGSTOP and SIGCONT, so late that the broker has dropped its connections and somebody has taken over.
    FreezeLong,
    /// As that, and meanwhile another process has its instance ID (replicas alone).
    FreezeTwin,
    /// Its connections are reset; it may connect at once.
    Reset,
    /// Its connections are reset and new ones refused for a while.
    Refuse,
    /// Its network swallows everything for a while.
    Stall,
}

/// What happens to the broker, or to one node of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum BrokerFault {
    /// An orderly end and a new start.
    Restart,
    /// SIGKILL and a new start.
    Kill,
    /// The same for the node that leads the state log's stream.
    KillLogLeader,
    /// SIGSTOP and SIGCONT: in a cluster, a partition.
    Freeze,
    /// It comes back without the newest entries of the state log.
    LoseTail,
    /// It comes back without anything.
    LoseAll,
    /// Its own tool closes every connection.
    CloseAll,
    /// Its own tool closes some connection.
    CloseOne,
    /// A full disk: publishers are blocked.
    DiskAlarm,
    /// Too little memory: the same.
    MemoryAlarm,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// Of a process.
    Process(Target, ProcessFault),
    /// Of the broker: of the node of that number.
    Broker(usize, BrokerFault),
}

impl Fault {
    /// Name for tables: without whom it hit, but for the parts that a coordinator plays.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Process(Target::Worker(_), fault) => format!("worker {}", name(fault)),
            Self::Process(target, fault) => format!("{target} {}", name(fault)),
            Self::Broker(_, fault) => format!("broker {}", name(fault)),
        }
    }

    /// Whether the broker forgets something that was stored.
    pub(super) fn loses(&self) -> bool {
        matches!(self, Self::Broker(_, BrokerFault::LoseTail | BrokerFault::LoseAll))
    }
}

/// Turns the name of a variant into words.
fn name(variant: &impl fmt::Debug) -> String {
    let mut words = String::new();
    for letter in format!("{variant:?}").chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// A fault with its times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Planned {
    /// What.
    pub(super) fault: Fault,
    /// How long after the round's begin.
    pub(super) after: Duration,
    /// How long it lasts: until the process starts again, thaws, or the network carries again.
    pub(super) lasts: Duration,
    /// Decides what else is left to chance.
    pub(super) seed: u64,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::Process(target, fault) => write!(f, "{target} {}", name(&fault))?,
            Fault::Broker(node, fault) => write!(f, "broker {node} {}", name(&fault))?,
        }
        write!(f, " at {} ms for {} ms", self.after.as_millis(), self.lasts.as_millis())
    }
}

/// Chances of a kind, of how many.
const PROCESS: [(ProcessFault, u32); 8] = [
    (ProcessFault::Kill, 24),
    (ProcessFault::Terminate, 12),
    (ProcessFault::FreezeShort, 14),
    (ProcessFault::FreezeLong, 6),
    (ProcessFault::FreezeTwin, 3),
    (ProcessFault::Reset, 14),
    (ProcessFault::Refuse, 14),
    (ProcessFault::Stall, 13),
];

/// The same for a broker of one node.
const SINGLE: [(BrokerFault, u32); 9] = [
    (BrokerFault::Restart, 12),
    (BrokerFault::Kill, 16),
    (BrokerFault::Freeze, 12),
    (BrokerFault::LoseTail, 14),
    (BrokerFault::LoseAll, 8),
    (BrokerFault::CloseAll, 12),
    (BrokerFault::CloseOne, 12),
    (BrokerFault::DiskAlarm, 8),
    (BrokerFault::MemoryAlarm, 6),
];

/// The same for a cluster.
const CLUSTER: [(BrokerFault, u32); 8] = [
    (BrokerFault::Restart, 14),
    (BrokerFault::Kill, 18),
    (BrokerFault::KillLogLeader, 22),
    (BrokerFault::Freeze, 16),
    (BrokerFault::CloseAll, 8),
    (BrokerFault::CloseOne, 10),
    (BrokerFault::DiskAlarm, 6),
    (BrokerFault::MemoryAlarm, 6),
];

/// How many replicas a fleet has.
pub(super) const WORKERS: u32 = 3;

/// Chooses the faults of a round, at most `most`: each process, and the broker, suffers one at a time.
pub(super) fn plan(seed: u64, round: u64, nodes: usize, most: usize) -> Vec<Planned> {
    let mut random = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round);
    let broker = random.u8(0..100) < 42;
    if broker {
        let node = random.usize(0..nodes);
        let chosen = if nodes > 1 {
            choose(&CLUSTER, &mut random)
        } else {
            choose(&SINGLE, &mut random)
        };
        let fault = Fault::Broker(node, chosen);
        let mut faults = vec![timed(fault, Duration::ZERO, &mut random)];
        // A loss is survived by who knows what was lost, so nobody who may be the only one is killed beside it.
        if !fault.loses() {
            let more = random.usize(0..most.max(1));
            hit_processes(&mut faults, more, &mut random);
        }
        return faults;
    }
    let mut faults = Vec::new();
    let count = random.usize(1..=most.max(1));
    hit_processes(&mut faults, count, &mut random);
    faults
}

fn hit_processes(faults: &mut Vec<Planned>, count: usize, random: &mut fastrand::Rng) {
    let mut spared = vec![Target::Leader, Target::Standby];
    spared.extend((0..WORKERS).map(Target::Worker));
    for _ in 0..count {
        let target = target(random);
        if let Some(index) = spared.iter().position(|spared| *spared == target) {
            spared.remove(index);
            faults.push(on(target, random));
        }
    }
}

fn target(random: &mut fastrand::Rng) -> Target {
    match random.u8(0..10) {
        0..4 => Target::Leader,
        4..6 => Target::Standby,
        _ => Target::Worker(random.u32(0..WORKERS)),
    }
}

fn on(target: Target, random: &mut fastrand::Rng) -> Planned {
    let mut chosen = choose(&PROCESS, random);
    if chosen == ProcessFault::FreezeTwin && !matches!(target, Target::Worker(_)) {
        chosen = ProcessFault::FreezeLong;
    }
    let after = Duration::from_millis(random.u64(0..1500));
    timed(Fault::Process(target, chosen), after, random)
}

fn timed(fault: Fault, after: Duration, random: &mut fastrand::Rng) -> Planned {
    let (shortest, longest) = match fault {
        Fault::Process(_, ProcessFault::Kill | ProcessFault::Terminate) => (0, 1500),
        Fault::Process(_, ProcessFault::FreezeShort) => (50, 1500),
        // The broker drops a silent connection after up to three heartbeats of 2 s.
        Fault::Process(_, ProcessFault::FreezeLong | ProcessFault::FreezeTwin) => (6500, 8000),
        Fault::Process(_, ProcessFault::Reset) | Fault::Broker(_, BrokerFault::CloseAll | BrokerFault::CloseOne) => {
            (0, 1)
        }
        Fault::Process(_, ProcessFault::Refuse)
        | Fault::Broker(_, BrokerFault::DiskAlarm | BrokerFault::MemoryAlarm) => (300, 3000),
        Fault::Process(_, ProcessFault::Stall) => (300, 5000),
        Fault::Broker(_, BrokerFault::Freeze) => (300, 7500),
        Fault::Broker(..) => (0, 500),
    };
    Planned {
        fault,
        after,
        lasts: Duration::from_millis(random.u64(shortest..longest)),
        seed: random.u64(..),
    }
}

fn choose<T: Copy>(chances: &[(T, u32)], random: &mut fastrand::Rng) -> T {
    let all = chances.iter().map(|(_, chance)| chance).sum();
    let mut at = random.u32(0..all);
    for (kind, chance) in chances {
        if at < *chance {
            return *kind;
        }
        at -= chance;
    }
    unreachable!("the chances add up")
}
