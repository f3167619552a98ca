//! What a replica must do so that it runs what it should.

use std::collections::BTreeMap;

use super::desired::DesiredState;
use super::ids::{FlockName, Revision};

/// What a replica runs, or is about to run, of one flock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActualFlock {
    /// Generation that it was started from.
    pub generation: Revision,
    /// The last refresh that it was told of.
    pub refresh_generation: Revision,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Start a flock that does not run.
    Start(FlockName),
    /// Stop the flock and start it from its newer generation.
    Restart(FlockName),
    /// Tell the flock's monkeys to refresh.
    Refresh(FlockName),
    /// Stop a flock that shall not run.
    Stop(FlockName),
}

/// Returns what to do so that `actual` becomes what `desired` asks for. Stops come first: they free what starts may need.
///
/// The state is authoritative, so that a generation that is merely another one is restarted too; whoever calls this has made sure
/// that the state is not an older one. Never replays: only where things stand matters, so lost, doubled and reordered states change nothing. A flock that
/// starts adopts the refresh generation, for it begins with a fresh clone anyway.
pub fn reconcile(desired: &DesiredState, actual: &BTreeMap<FlockName, ActualFlock>) -> Vec<Step> {
    let unwanted = actual.keys().filter(|name| !desired.flocks.contains_key(*name));
    let mut steps: Vec<_> = unwanted.map(|name| Step::Stop(name.clone())).collect();
    for (name, wanted) in &desired.flocks {
        match actual.get(name) {
            None => steps.push(Step::Start(name.clone())),
            Some(runs) if runs.generation != wanted.generation => steps.push(Step::Restart(name.clone())),
            Some(runs) if runs.refresh_generation < wanted.refresh_generation => {
                steps.push(Step::Refresh(name.clone()));
            }
            Some(_) => {}
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::desired::DesiredFlock;
    use super::super::flock::FlockConfig;
    use super::*;

    fn name(index: u8) -> FlockName {
        format!("f{index}").parse().unwrap()
    }

    fn desired(flocks: &BTreeMap<u8, (u64, u64)>) -> DesiredState {
        let flock = |index: u8, generation: u64, refresh: u64| DesiredFlock {
            config: FlockConfig::parse(&json!({
                "name": name(index), "count": 1, "user_spec": {"username_prefix": "bot-mobu-x"}, "scopes": [],
                "business": {"type": "EmptyLoop"},
            }))
            .unwrap(),
            generation: Revision(generation),
            refresh_generation: Revision(generation + refresh),
            since: Timestamp::UNIX_EPOCH,
            autostart: None,
            by_autostart: false,
            among: None,
            was_among: None,
        };
        let flocks = flocks
            .iter()
            .map(|(index, (generation, refresh))| (name(*index), flock(*index, *generation, *refresh)));
        DesiredState {
            revision: Revision(100),
            flocks: flocks.collect(),
            ..DesiredState::default()
        }
    }

    fn perform(steps: &[Step], desired: &DesiredState, actual: &mut BTreeMap<FlockName, ActualFlock>) {
        for step in steps {
            match step {
                Step::Stop(name) => assert!(actual.remove(name).is_some()),
                Step::Start(name) | Step::Restart(name) => {
                    let wanted = &desired.flocks[name];
                    let runs = ActualFlock {
                        generation: wanted.generation,
                        refresh_generation: wanted.refresh_generation,
                    };
                    assert_eq!(
                        actual.insert(name.clone(), runs).is_some(),
                        matches!(step, Step::Restart(_))
                    );
                }
                Step::Refresh(name) => {
                    actual.get_mut(name).unwrap().refresh_generation = desired.flocks[name].refresh_generation;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn performing_the_steps_makes_the_actual_state_the_desired_one(
            wanted in prop::collection::btree_map(0_u8..6, (1_u64..5, 0_u64..3), 0..6),
            runs in prop::collection::btree_map(0_u8..6, (1_u64..5, 0_u64..3), 0..6),
        ) {
            let desired = desired(&wanted);
            let mut actual: BTreeMap<_, _> = runs
                .iter()
                .map(|(index, (generation, refresh))| {
                    let generation_of = wanted.get(index).map_or(*generation, |(wanted, _)| *generation.min(wanted));
                    let refresh_of = wanted.get(index).map_or(*refresh, |(_, wanted)| *refresh.min(wanted));
                    (name(*index), ActualFlock { generation: Revision(generation_of), refresh_generation: Revision(generation_of + refresh_of) })
                })
                .collect();
            perform(&reconcile(&desired, &actual), &desired, &mut actual);
            let expected: BTreeMap<_, _> = desired.flocks.iter().map(|(name, flock)| (name.clone(), ActualFlock { generation: flock.generation, refresh_generation: flock.refresh_generation })).collect();
            prop_assert_eq!(&actual, &expected);
            prop_assert!(reconcile(&desired, &actual).is_empty(), "a second time there is nothing to do");
        }

        #[test]
        fn any_other_generation_restarts_what_runs(wanted in 1_u64..9, runs in 1_u64..9) {
            let desired = desired(&BTreeMap::from([(0, (wanted, 0))]));
            let actual = BTreeMap::from([(name(0), ActualFlock { generation: Revision(runs), refresh_generation: Revision(runs) })]);
            let expected = if wanted == runs { vec![] } else { vec![Step::Restart(name(0))] };
            prop_assert_eq!(reconcile(&desired, &actual), expected);
        }
    }
}
