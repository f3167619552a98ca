//! Health and metrics of a worker.

use mobu_fleet::domain::messages::FlockPhase;
use mobu_worker::WorkerConfig;

use crate::leader::{Leader, Process, idlers};

#[tokio::test]
async fn health_and_metrics_tell_how_a_worker_is() {
    let mut leader = Leader::new().await;
    let mut config = WorkerConfig::for_tests("0", 1);
    config.http_bind = Some("127.0.0.1:0".parse().unwrap());
    let process = Process::start(&leader.hub, config);
    let address = process.handle.admin_address().unwrap();
    let get = async |path: &str| {
        let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get("/healthz").await, (200, "ok\n".to_owned()));
    leader.start(&idlers("a", 2)).await;
    leader.until_phase("a", FlockPhase::Running).await;
    assert_eq!(get("/readyz").await, (200, "ready\n".to_owned()));
    let (_, index) = get("/").await;
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    assert_eq!(
        (&index["instance_id"], &index["ready"], &index["revision"]),
        (&"0".into(), &true.into(), &1.into())
    );
    let (_, metrics) = get("/metrics").await;
    for line in [
        "mobu_worker_ready 1",
        "mobu_worker_revision 1",
        "# TYPE mobu_iterations_total counter",
        "mobu_monkeys{flock=\"a\",business=\"EmptyLoop\",state=\"RUNNING\"} 2",
        "mobu_iterations_total{flock=\"a\",business=\"EmptyLoop\",outcome=\"failure\"} 0",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is not in\n{metrics}"
        );
    }
    let tasks = metrics.lines().find_map(|line| line.strip_prefix("mobu_worker_tasks "));
    assert!(
        tasks.is_some_and(|tasks| tasks.parse::<usize>().unwrap() > 2),
        "{metrics}"
    );
    leader.hub.cut(|name| name.starts_with("worker"));
    process
        .until(|handle| handle.status().borrow().ready().is_err().then_some(()))
        .await;
    process.drain().await;
}
