//! More replicas, fewer replicas, restarts and other versions, while the load goes on: what `docs/deploy/upgrade.md` promises.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use fleet_tests::broker::{shared_broker, unique_fleet};
use fleet_tests::fleet::{ProcessFleet, answer};
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::lively;

/// Names a folder with `mobu-coordinator` and `mobu-worker` of the release before; `tests/previous` makes one.
const PREVIOUS_VARIABLE: &str = "MOBU_PREVIOUS_BIN";

async fn fleet(replicas: u32) -> Result<ProcessFleet> {
    ProcessFleet::start(shared_broker(), unique_fleet(), replicas, "tokens: local\n").await
}

/// The names that the flock's monkeys must have, with the replica of each.
fn names(flock: &str, replicas: u32) -> Vec<(String, String)> {
    let of_replica = |id: u32| (1..=2).map(move |i| (format!("bot-mobu-{flock}-instance-{id}-{i}"), id.to_string()));
    (0..replicas).flat_map(of_replica).collect()
}

/// A replica's run of a flock: what changes if anything of it was restarted.
#[derive(Debug, Clone, PartialEq)]
struct Life {
    session: Value,
    started_at: Value,
    start_time: Value,
    generation: Value,
}

/// How the flock `lambs` fares on some replicas, to compare later: only `id`s that are not touched belong in it.
struct Watched {
    lives: BTreeMap<u32, (Life, u64)>,
}

impl Watched {
    async fn begin(fleet: &ProcessFleet, ids: impl IntoIterator<Item = u32>) -> Result<Self> {
        let mut lives = BTreeMap::new();
        for id in ids {
            lives.insert(id, life(&fleet.get(&format!("/replicas/{id}")).await?)?);
        }
        Ok(Self { lives })
    }

    /// Checks that nothing was restarted, that nothing failed, and that each goes on: from now, not only until now.
    async fn check(&self, fleet: &ProcessFleet) -> Result<()> {
        for (id, (before, count)) in &self.lives {
            let place = format!("/replicas/{id}");
            // A coordinator that was just started has to hear of the replica first.
            let beyond = |count: u64| move |now: &Value| now["flocks"]["lambs"]["success_count"].as_u64() > Some(count);
            let (_, reached) = life(&fleet.wait_for(&place, "more iterations", beyond(*count)).await?)?;
            let now = fleet.wait_for(&place, "even more iterations", beyond(reached)).await?;
            let (after, _) = life(&now)?;
            ensure!(after == *before, "replica {id} was {before:?} and is {after:?}");
            ensure!(now["flocks"]["lambs"]["failure_count"] == 0, "replica {id}: {now}");
        }
        Ok(())
    }
}

fn life(replica: &Value) -> Result<(Life, u64)> {
    let flock = &replica["flocks"]["lambs"];
    let life = Life {
        session: replica["session"].clone(),
        started_at: replica["started_at"].clone(),
        start_time: flock["start_time"].clone(),
        generation: flock["generation"].clone(),
    };
    let count = flock["success_count"].as_u64();
    Ok((
        life,
        count.with_context(|| format!("the replica runs lambs: {replica}"))?,
    ))
}

/// Ends the coordinator and starts it again, perhaps with another configuration or as another program.
async fn restart_coordinator(fleet: &mut ProcessFleet) -> Result<()> {
    let mut old = fleet.coordinators.remove(&0).context("a coordinator runs")?;
    let status = old.terminate().await?;
    ensure!(status.success(), "the coordinator ended with {status}:\n{}", old.log());
    fleet.start_coordinator(0).await
}

/// Ends a replica as Kubernetes does, and waits until it has.
async fn end_worker(fleet: &mut ProcessFleet, id: u32) -> Result<()> {
    let mut old = fleet
        .workers
        .remove(&id)
        .with_context(|| format!("replica {id} runs"))?;
    let status = old.terminate().await?;
    ensure!(status.success(), "replica {id} ended with {status}:\n{}", old.log());
    Ok(())
}

async fn wait_state(fleet: &ProcessFleet, what: &str, count: u64) -> Result<()> {
    let reached = |fleet: &Value| fleet["converged"] == true && fleet["replicas"][what] == count;
    fleet
        .wait_for("/fleet", &format!("{count} {what} replicas"), reached)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_added_and_taken_away_and_the_others_do_not_notice() -> Result<()> {
    let mut fleet = fleet(2).await?;
    fleet.put_flock(&lively("lambs")).await?;
    let stay = Watched::begin(&fleet, 0..2).await?;

    fleet.replicas = 4;
    restart_coordinator(&mut fleet).await?;
    fleet.start_worker(2)?;
    fleet.start_worker(3)?;
    wait_state(&fleet, "ready", 4).await?;
    assert_eq!(fleet.monkeys("lambs").await?, names("lambs", 4));
    stay.check(&fleet).await?;
    // They know another count than the coordinator, which makes no difference to what they run.
    assert_eq!(fleet.get("/replicas/0").await?["error"], Value::Null);

    fleet.replicas = 2;
    restart_coordinator(&mut fleet).await?;
    wait_state(&fleet, "surplus", 2).await?;
    for id in [3, 2] {
        end_worker(&mut fleet, id).await?;
    }
    wait_state(&fleet, "surplus", 0).await?;
    assert_eq!(fleet.monkeys("lambs").await?, names("lambs", 2));
    assert_eq!(fleet.get("/replicas").await?.as_array().map(Vec::len), Some(2));
    stay.check(&fleet).await?;
    fleet.finish().await
}

/// Who came from where: for each user, the replicas in the order in which they came as that user, each as often as another one
/// came in between.
type Visits = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

async fn visit(State(visits): State<Visits>, Path((user, replica)): Path<(String, String)>) {
    let mut visits = visits.lock().unwrap();
    let replicas = visits.entry(user).or_default();
    if replicas.last() != Some(&replica) {
        replicas.push(replica);
    }
}

/// Starts what the monkeys visit; returns its address.
async fn visited(tasks: &Tasks, visits: &Visits) -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = Router::new()
        .route("/{user}/{replica}", get(visit))
        .with_state(visits.clone());
    tasks.spawn(TaskKind::Expendable, "visited", async move {
        axum::serve(listener, router).await.unwrap();
    });
    Ok(url)
}

#[tokio::test(flavor = "multi_thread")]
async fn users_that_are_dealt_out_never_run_twice_while_a_fleet_is_scaled() -> Result<()> {
    let (tasks, visits) = (Tasks::new(), Visits::default());
    let url = visited(&tasks, &visits).await?;
    let mut fleet = fleet(2).await?;
    let dealt = json!({
        "name": "dealt", "count": 5, "user_spec": {"username_prefix": "bot-mobu-dealt"}, "scopes": [],
        "spread": "across_replicas", "business": {"type": "HTTPRunner", "options": {
            "idle_time": 0.02, "requests": [{"url": format!("{url}/{{{{username}}}}/{{{{instance_id}}}}")}],
        }},
    });
    fleet.put_flock(&dealt).await?;
    fleet.wait_converged().await?;

    fleet.replicas = 4;
    fleet.start_worker(2)?;
    fleet.start_worker(3)?;
    wait_state(&fleet, "surplus", 2).await?;
    // One that runs users hangs just now, and cannot give up those that the new ones shall have.
    fleet.workers[&0].signal("STOP").await?;
    restart_coordinator(&mut fleet).await?;
    let have_given_up = |all: &Value| {
        let others = ["1", "2", "3"].map(|id| {
            all.as_array()
                .and_then(|all| all.iter().find(|one| one["instance_id"] == id))
        });
        others
            .into_iter()
            .all(|one| one.is_some_and(|one| one["flocks"]["dealt"]["monkey_count"] == 0))
    };
    fleet.wait_for("/replicas", "three to give up", have_given_up).await?;
    fleet.workers[&0].signal("CONT").await?;
    wait_state(&fleet, "ready", 4).await?;
    let visited_by = |turn: usize, replica: [u32; 5]| {
        let visits = visits.clone();
        move |_: &Value| {
            let visits = visits.lock().unwrap();
            replica.iter().zip(1..).all(|(replica, user)| {
                let came = visits.get(&format!("bot-mobu-dealt{user}"));
                came.is_some_and(|came| came.len() <= turn && came.last() == Some(&replica.to_string()))
            })
        }
    };
    fleet
        .wait_for(
            "/fleet",
            "users 0 to 4 on four replicas",
            visited_by(2, [0, 1, 2, 3, 0]),
        )
        .await?;
    // Nobody was started again to learn it.
    assert_eq!(fleet.get("/replicas/0").await?["error"], Value::Null);

    fleet.replicas = 2;
    restart_coordinator(&mut fleet).await?;
    wait_state(&fleet, "surplus", 2).await?;
    fleet
        .wait_for("/fleet", "users 0 to 4 on two replicas", visited_by(3, [0, 1, 0, 1, 0]))
        .await?;
    let went = visits.lock().unwrap().clone();
    let went: Vec<Vec<String>> = went.into_values().collect();
    // Had two replicas run one user at a time, they would have come by turns.
    assert_eq!(
        went,
        [
            vec!["0"],
            vec!["1"],
            vec!["0", "2", "0"],
            vec!["1", "3", "1"],
            vec!["0"]
        ]
    );
    fleet.finish().await?;
    tasks.abort_token().cancel();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_replica_changes_the_names_of_the_first_once_that_was_restarted() -> Result<()> {
    let mut fleet = fleet(1).await?;
    fleet.put_flock(&lively("lambs")).await?;
    let alone = [1, 2].map(|i| (format!("bot-mobu-lambs{i}"), "0".to_owned()));
    let shown = |monkeys: Vec<(String, String)>| monkeys.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let alone = shown(alone.to_vec());
    assert_eq!(shown(fleet.monkeys("lambs").await?), alone);

    fleet.replicas = 2;
    restart_coordinator(&mut fleet).await?;
    fleet.start_worker(1)?;
    // Until it is restarted it runs on as before, and is shown as the one who does not know.
    let told = |replica: &Value| {
        replica["error"]
            .as_str()
            .is_some_and(|error| error.contains("a fleet of 1"))
    };
    fleet.wait_for("/replicas/0", "the disagreement", told).await?;
    end_worker(&mut fleet, 0).await?;
    fleet.start_worker(0)?;
    wait_state(&fleet, "ready", 2).await?;
    assert_eq!(fleet.monkeys("lambs").await?, names("lambs", 2));
    assert_eq!(fleet.get("/replicas/0").await?["error"], Value::Null);
    fleet.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_restarted_one_by_one_and_the_others_go_on() -> Result<()> {
    let mut fleet = fleet(3).await?;
    fleet.put_flock(&lively("lambs")).await?;
    for id in [2, 1, 0] {
        let others = Watched::begin(&fleet, (0..3).filter(|other| *other != id)).await?;
        end_worker(&mut fleet, id).await?;
        if id == 1 {
            // The coordinator goes meanwhile.
            restart_coordinator(&mut fleet).await?;
        }
        others.check(&fleet).await?;
        fleet.start_worker(id)?;
        wait_state(&fleet, "ready", 3).await?;
        others.check(&fleet).await?;
        assert_eq!(fleet.monkeys("lambs").await?, names("lambs", 3));
    }
    fleet.finish().await
}

/// Uses the fleet as people do: one flock is started, looked at, refreshed and stopped again, on all replicas.
async fn use_it(fleet: &ProcessFleet, name: &str) -> Result<()> {
    let started = fleet.put_flock(&lively(name)).await.context(name.to_owned())?;
    ensure!(started["monkeys"].as_array().map(Vec::len) == Some(6), "{started}");
    ensure!(fleet.monkeys(name).await? == names(name, 3));
    let monkey = format!("/flocks/{name}/monkeys/bot-mobu-{name}-instance-1-1");
    let data = fleet.get(&monkey).await?;
    ensure!(data["replica"] == "1", "{data}");
    let log = fleet
        .call(Method::GET, &format!("{monkey}/log"))
        .send()
        .await?
        .text()
        .await?;
    ensure!(log.contains("Starting up..."), "{log}");
    let summary = fleet.get(&format!("/flocks/{name}/summary")).await?;
    ensure!(summary["monkey_count"] == 6, "{summary}");
    let refreshed = fleet
        .call(Method::POST, &format!("/flocks/{name}/refresh"))
        .send()
        .await?;
    answer(refreshed, 202).await?;
    let stopped = fleet.call(Method::DELETE, &format!("/flocks/{name}")).send().await?;
    ensure!(stopped.status() == 204, "{stopped:?}");
    fleet.wait_converged().await?;
    Ok(())
}

/// Makes every process one of the programs in `folder`, replicas first, then the coordinator by way of a standby.
async fn replace_all(fleet: &mut ProcessFleet, folder: Option<PathBuf>, step: &str) -> Result<()> {
    fleet.programs = folder;
    for id in [2, 1, 0] {
        let others = Watched::begin(fleet, (0..3).filter(|other| *other != id)).await?;
        end_worker(fleet, id).await?;
        fleet.start_worker(id)?;
        wait_state(fleet, "ready", 3).await?;
        others.check(fleet).await?;
        use_it(fleet, &format!("{step}{id}")).await?;
    }
    let all = Watched::begin(fleet, 0..3).await?;
    let before = fleet.get("/fleet").await?;
    fleet.start_coordinator(1).await?;
    let knows = |status: &Value| status["revision"] == before["revision"];
    fleet.wait_for("/fleet", "the standby to know", knows).await?;
    let mut old = fleet.coordinators.remove(&0).context("a coordinator runs")?;
    let status = old.terminate().await?;
    ensure!(status.success(), "the coordinator ended with {status}:\n{}", old.log());
    fleet.wait_led().await?;
    let new = fleet.coordinators.remove(&1).context("the standby runs")?;
    fleet.coordinators.insert(0, new);
    let after = fleet.get("/fleet").await?;
    ensure!(after["revision"] == before["revision"], "{before} became {after}");
    all.check(fleet).await?;
    use_it(fleet, &format!("{step}c")).await?;
    all.check(fleet).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_goes_to_this_version_and_back_while_it_works() -> Result<()> {
    let Some(previous) = std::env::var_os(PREVIOUS_VARIABLE).filter(|folder| !folder.is_empty()) else {
        // The runner says so as well, where it is seen.
        tell("NOT CHECKED: mixed versions. tests/previous builds the version before.");
        return Ok(());
    };
    let previous = Some(PathBuf::from(previous));
    let mut fleet = ProcessFleet::prepare(shared_broker(), unique_fleet(), 3, "tokens: local\n")?;
    fleet.programs.clone_from(&previous);
    fleet.start_coordinator(0).await?;
    for id in 0..3 {
        fleet.start_worker(id)?;
    }
    fleet.wait_converged().await?;
    fleet.put_flock(&lively("lambs")).await?;
    // New replicas under the old coordinator, then the new one; old replicas under the new coordinator, then the old one, which
    // goes on from a state that the new one has written.
    replace_all(&mut fleet, None, "up").await?;
    fleet.put_flock(&lively("written-by-new")).await?;
    replace_all(&mut fleet, previous, "back").await?;
    assert_eq!(fleet.monkeys("written-by-new").await?, names("written-by-new", 3));
    fleet.finish().await
}

#[expect(clippy::print_stderr, reason = "a check that is left out must be seen")]
fn tell(what: &str) {
    eprintln!("{what}");
}
