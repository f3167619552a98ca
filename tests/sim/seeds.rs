//! What must be true of every fleet, by 2,000 seeds. More of them: `cargo run -p fleet-tests --bin soak -- --seeds 100000`.

use fleet_tests::sim;

/// Seeds of one test. The tests share the work, so that it is done on every core.
const SEEDS: u64 = 250;

fn hold(part: u64) {
    for seed in part * SEEDS..(part + 1) * SEEDS {
        if let Err(failure) = sim::run(seed, None) {
            panic!("{}", sim::explain(seed, None).unwrap_or(failure.what));
        }
    }
}

macro_rules! parts {
    ($($name:ident: $part:literal,)*) => {
        $(
            #[test]
            fn $name() {
                hold($part);
            }
        )*
    };
}

parts! {
    a_fleet_keeps_its_promises_under_faults_seeds_0: 0,
    a_fleet_keeps_its_promises_under_faults_seeds_250: 1,
    a_fleet_keeps_its_promises_under_faults_seeds_500: 2,
    a_fleet_keeps_its_promises_under_faults_seeds_750: 3,
    a_fleet_keeps_its_promises_under_faults_seeds_1000: 4,
    a_fleet_keeps_its_promises_under_faults_seeds_1250: 5,
    a_fleet_keeps_its_promises_under_faults_seeds_1500: 6,
    a_fleet_keeps_its_promises_under_faults_seeds_1750: 7,
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..10 {
        let digest = || sim::run(seed, None).expect("this seed goes well").digest;
        assert_eq!(digest(), digest(), "seed {seed}");
    }
}
