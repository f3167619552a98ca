//! The simulation bites: each planted bug is found within the seeds of the gate.

use fleet_tests::sim;
use mobu_fleet::simulation::Bug;

/// Within how many seeds a bug must be found.
const SEEDS: u64 = 2000;

fn is_found(bug: Bug) {
    let found = (0..SEEDS).find_map(|seed| Some((seed, sim::run(seed, Some(bug)).err()?)));
    let found = found.filter(|(seed, _)| sim::run(*seed, None).is_ok());
    let (seed, failure) = found.unwrap_or_else(|| panic!("{bug:?} is not found by {SEEDS} seeds"));
    eprintln!("{bug:?}: seed {seed}: {}", failure.what);
}

macro_rules! bugs {
    ($($name:ident: $bug:ident,)*) => {
        $(
            #[test]
            fn $name() {
                is_found(Bug::$bug);
            }
        )*
    };
}

bugs! {
    a_fold_without_the_owner_is_found: FoldWithoutOwner,
    an_answer_on_the_confirmation_alone_is_found: AnswerOnConfirm,
    a_replica_that_acts_before_it_has_caught_up_is_found: ActBeforeCaughtUp,
    a_replica_that_goes_back_is_found: ApplyOlderRevision,
    a_leader_that_believes_an_empty_log_is_found: BelieveEmptyLog,
    a_leader_that_forgets_requests_is_found: ForgetRequestIds,
    a_flock_that_does_not_adopt_refreshes_is_found: AdoptNoRefreshGeneration,
    a_leader_that_does_not_rewrite_the_state_is_found: LeadWithoutRewriting,
    a_replica_that_goes_on_without_its_name_is_found: KeepRunningWithoutName,
    a_replica_that_takes_silence_for_proof_is_found: TakeSpareOnSilence,
    a_fleet_that_takes_any_higher_revision_for_a_descendant_is_found: ForgetTheLine,
    a_fleet_that_deals_users_out_at_once_is_found: DealAtOnce,
    a_replica_that_ignores_leases_is_found: IgnoreLease,
}
