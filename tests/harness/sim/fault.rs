//! What the link does to messages.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use mobu_fleet::link::Address;
use mobu_fleet::link::memory::{AppendFault, Faults};

use super::script::Profile;

/// The faults of one run.
#[derive(Debug)]
pub(super) struct Plan {
    /// Guards leaf data; never held over an await.
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    random: fastrand::Rng,
    profile: Profile,
    /// How many reasons there are for which the sessions of such a name cannot be opened.
    unreachable: BTreeMap<String, usize>,
    is_healed: bool,
}

impl Plan {
    pub(super) fn new(seed: u64, profile: Profile) -> Self {
        Self {
            inner: Mutex::new(Inner {
                random: fastrand::Rng::with_seed(seed),
                profile,
                unreachable: BTreeMap::new(),
                is_healed: false,
            }),
        }
    }

    pub(super) fn cut_off(&self, name: &str) {
        *self.lock().unreachable.entry(name.to_owned()).or_default() += 1;
    }

    pub(super) fn let_back(&self, name: &str) {
        if let Some(reasons) = self.lock().unreachable.get_mut(name) {
            *reasons -= 1;
        }
    }

    pub(super) fn is_cut_off(&self, name: &str) -> bool {
        self.lock().unreachable.get(name).is_some_and(|reasons| *reasons > 0)
    }

    /// From now on nothing goes wrong any more.
    pub(super) fn heal(&self) {
        self.lock().is_healed = true;
    }

    /// Whether the broker gives the lock away although somebody has it.
    pub(super) fn is_lockless(&self) -> bool {
        let mut inner = self.lock();
        let chance = inner.profile.lockless;
        !inner.is_healed && inner.chance(chance)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds the plan")
    }
}

impl Inner {
    fn chance(&mut self, of_1000: u64) -> bool {
        of_1000 > 0 && self.random.u64(0..1000) < of_1000
    }

    fn up_to(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.random.u64(0..=most))
    }

    fn soft_delay(&mut self) -> Duration {
        let late = self.profile.late;
        match self.random.u8(0..100) {
            _ if late == 0 => Duration::ZERO,
            0 => self.up_to(60_000),
            1..20 => self.up_to(late),
            _ => self.up_to(20),
        }
    }
}

impl Faults for Plan {
    fn soft(&self, _from: &str, _to: &Address) -> Vec<Duration> {
        let mut inner = self.lock();
        if inner.is_healed {
            return vec![Duration::ZERO];
        }
        let (lost, doubled) = (inner.profile.lost, inner.profile.doubled);
        if inner.chance(lost) {
            return Vec::new();
        }
        let mut copies = vec![inner.soft_delay()];
        if inner.chance(doubled) {
            copies.push(inner.soft_delay());
        }
        copies
    }

    fn append(&self, _from: &str) -> AppendFault {
        let mut inner = self.lock();
        if inner.is_healed {
            return AppendFault::Stored(Duration::ZERO);
        }
        let (usual, slow, lost) = (
            inner.profile.append,
            inner.profile.append_slow,
            inner.profile.append_lost,
        );
        let delay = if inner.chance(slow) {
            inner.up_to(8000)
        } else {
            inner.up_to(usual)
        };
        if inner.chance(lost) {
            return AppendFault::Lost;
        }
        if inner.chance(lost) {
            return AppendFault::Unconfirmed(delay);
        }
        AppendFault::Stored(delay)
    }

    fn read(&self, _reader: &str) -> Duration {
        let mut inner = self.lock();
        // Never at once: so whoever watches a replica sees each state that it acts on.
        let first = Duration::from_millis(1);
        if inner.is_healed {
            return first;
        }
        let (usual, slow) = (inner.profile.read, inner.profile.read_slow);
        first
            + if inner.chance(slow) {
                inner.up_to(3000)
            } else {
                inner.up_to(usual)
            }
    }

    fn reachable(&self, name: &str) -> bool {
        let inner = self.lock();
        inner.is_healed
            || !inner
                .unreachable
                .iter()
                .any(|(cut, reasons)| *reasons > 0 && name.starts_with(cut))
    }
}
