//! Every parser survives broken inputs: a bounded number here, as many as wanted by
//! `cargo run --profile fuzz -p fleet-tests --bin fuzz -- --inputs 10000000`.

use fleet_tests::fuzz::{Plan, Target, play};

/// The same inputs in every run: a failure here is a failure everywhere.
const SEED: u64 = 1;

macro_rules! survive {
    ($($name:ident: $inputs:literal,)*) => {
        $(
            #[test]
            fn $name() {
                let target = Target::named(stringify!($name)).unwrap();
                let plan = Plan { seed: SEED, first: 0, inputs: $inputs };
                if let Err(failure) = play(target, plan) {
                    panic!("{failure}");
                }
            }
        )*

        #[test]
        fn every_parser_has_its_test() {
            let mut tested = vec![$(stringify!($name)),*];
            let mut names: Vec<_> = Target::all().iter().map(|target| target.name).collect();
            tested.sort_unstable();
            names.sort_unstable();
            assert_eq!(tested, names);
        }
    };
}

survive! {
    control_messages: 20_000,
    state_log: 4_000,
    reports: 10_000,
    answers: 10_000,
    requests: 10_000,
    flock_json: 5_000,
    flock_yaml: 3_000,
    config_yaml: 1_000,
    webhook: 10_000,
    mobu_yaml: 10_000,
    notebook: 20_000,
    votable: 10_000,
    job_and_capabilities: 20_000,
    kernel_json: 20_000,
    kernel_v1: 30_000,
    progress: 30_000,
    gafaelfawr: 20_000,
    durations: 50_000,
    user_names: 10_000,
    broker_urls: 20_000,
    shown_urls: 20_000,
    globs: 20_000,
    query_sets: 20_000,
    discovery: 20_000,
    cookies: 50_000,
}
