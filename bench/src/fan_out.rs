//! How long it takes until all replicas have heard, done and answered, against the broker alone.
//!
//! Floor and fleet take turns on one broker, so that what disturbs one disturbs the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http::Method;
use mobu_fleet::domain::ids::{FlockName, Owner};
use mobu_fleet::domain::messages::{Answer, AnswerBody, Ask, Query, SCHEMA, Wire};
use mobu_fleet::link::{Link, LogStart};
use mobu_fleet::runtime::tasks::Tasks;
use mobu_worker::WorkerHandle;
use serde_json::json;

use crate::bare::Bare;
use crate::broker::Host;
use crate::fleet::{self, Leader};
use crate::floor::{Floor, Sizes, Way};
use crate::report::{Figure, Report, quantile};
use crate::usage::process_cpu;
use crate::{Scale, block_on};

/// Rounds that are not counted.
const WARM_UP: usize = 10;

/// What is measured of one kind of round.
#[derive(Debug, Default)]
struct Rounds {
    p50: Vec<f64>,
    p99: Vec<f64>,
    cpu: Vec<f64>,
}

impl Rounds {
    fn take(&mut self, millis: &[f64], cpu: Duration) {
        self.p50.push(quantile(millis, 0.5));
        self.p99.push(quantile(millis, 0.99));
        #[expect(clippy::cast_precision_loss, reason = "a few hundred rounds")]
        self.cpu.push(cpu.as_secs_f64() * 1000.0 / millis.len() as f64);
    }

    fn ratios(own: &[f64], floor: &[f64]) -> Vec<f64> {
        own.iter().zip(floor).map(|(own, floor)| own / floor).collect()
    }
}

/// Measures all of it.
pub(crate) fn part(report: &mut Report, scale: &Scale) -> Result<()> {
    report.part(
        "fan-out",
        "Changes and questions to all replicas, against the bare broker",
    );
    let counts = scale.replicas_or(if scale.quick { &[3, 50] } else { &[3, 10, 50, 200] });
    let few = scale.replicas_or(if scale.quick { &[3] } else { &[3, 50] });
    block_on(async {
        let host = Host::find(scale).await?;
        for &count in counts {
            let case = format!("N = {count}");
            measure(report, scale, &host, count, &case).await?;
        }
        if scale.broker.is_some() {
            report.note("On the broker that was given; no cluster was started.");
            return Ok(());
        }
        let host = Host::cluster().await?;
        for &count in few {
            let case = format!("N = {count}, three nodes");
            measure(report, scale, &host, count, &case).await?;
        }
        Ok(())
    })
}

fn rounds(scale: &Scale, count: u32) -> usize {
    match (scale.quick, count) {
        (true, _) => 50,
        (_, ..=10) => 300,
        (_, ..=50) => 150,
        _ => 100,
    }
}

/// A fleet in this process, and who talks to it.
struct Subject {
    tasks: Tasks,
    workers: Vec<WorkerHandle>,
    link: Arc<dyn Link>,
    client: Bare,
}

const FLOCK: &str = "measured";

impl Subject {
    async fn start(host: &Host, count: u32) -> Result<Self> {
        let name = fleet_tests::broker::unique_fleet();
        let config = fleet::config(&name, count)?;
        let (link, tasks) = (host.link(&name, 0)?, Tasks::new());
        let leader = Leader::start(&config, link.clone(), &tasks).await?;
        let workers: Result<Vec<_>> = (0..count)
            .map(|index| fleet::replica(&config, index, host.link(&name, index as usize)?, &tasks))
            .collect();
        let workers = workers?;
        leader.wait_converged().await?;
        let client = Bare::connect(leader.address).await?;
        Ok(Self {
            tasks,
            workers,
            link,
            client,
        })
    }

    async fn put(&mut self) -> Result<()> {
        let business = json!({"type": "EmptyLoop", "options": {"idle_time": 60}});
        let flock = fleet::flock_json(FLOCK, 1, &business).to_string();
        self.client.api(&Method::PUT, "/mobu/flocks", &flock, 201).await
    }

    async fn delete(&mut self) -> Result<()> {
        self.client.api(&Method::DELETE, "/mobu/flocks/measured", "", 204).await
    }

    async fn refresh(&mut self) -> Result<()> {
        self.client
            .api(&Method::POST, "/mobu/flocks/measured/refresh", "", 202)
            .await
    }

    async fn ask(&mut self) -> Result<()> {
        self.client.api(&Method::GET, "/mobu/flocks/measured", "", 200).await
    }

    /// A call that is answered from what the coordinator knows: what HTTP alone takes.
    async fn look(&mut self) -> Result<()> {
        self.client.api(&Method::GET, "/mobu/flocks", "", 200).await
    }

    /// Looks how large the messages are that travel; the flock runs.
    async fn sizes(&self) -> Result<(Sizes, Sizes)> {
        let session = self.link.open("bench").await?;
        let (mut log, mut reports) = (session.read_log(LogStart::First).await?, session.reports().await?);
        let report = loop {
            let message = reports.recv().await.context("reports come")?;
            if message.kind == mobu_fleet::domain::messages::Report::KIND {
                break message.payload.len();
            }
        };
        let mut entry = 0;
        while let Ok(Some(record)) = tokio::time::timeout(Duration::from_millis(500), log.recv()).await {
            entry = record.payload.len();
        }
        session.close().await;
        let worker = self.workers.first().context("there is a replica")?;
        let flock: FlockName = FLOCK.parse()?;
        let query = Query {
            schema: SCHEMA,
            owner: Owner::new("0".repeat(32)),
            ask: Ask::Flock { flock: flock.clone() },
        };
        let answer = Answer {
            schema: SCHEMA,
            instance_id: Some(worker.instance_id().clone()),
            session: worker.session().clone(),
            part: 0,
            last: true,
            body: AnswerBody::Flock {
                monkeys: worker.monkeys(&flock),
            },
        };
        let question = Sizes {
            message: query.encode().len(),
            answer: answer.encode().len(),
        };
        Ok((
            question,
            Sizes {
                message: entry,
                answer: report,
            },
        ))
    }

    async fn finish(self) {
        drop(self.client);
        self.tasks.drain_token().cancel();
        self.tasks.wait().await;
    }
}

/// Times rounds.
macro_rules! times {
    ($into:expr, $rounds:expr, $round:expr) => {{
        let (mut millis, cpu) = (Vec::new(), process_cpu());
        for _ in 0..$rounds {
            let begun = Instant::now();
            $round;
            millis.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        $into.take(&millis, process_cpu().saturating_sub(cpu));
    }};
}

async fn measure(report: &mut Report, scale: &Scale, host: &Host, count: u32, case: &str) -> Result<()> {
    let mut subject = Subject::start(host, count).await?;
    subject.put().await?;
    let (question, change) = subject.sizes().await?;
    let mut fanout = Floor::start(&host.urls(0), Way::Fanout, count, question).await?;
    let mut stream = Floor::start(&host.urls(0), Way::Stream, count, change).await?;
    for _ in 0..WARM_UP {
        fanout.round().await?;
        stream.round().await?;
        subject.ask().await?;
        subject.refresh().await?;
    }
    let rounds = rounds(scale, count);
    let [mut bare_query, mut bare_change] = [Rounds::default(), Rounds::default()];
    let [mut look, mut query, mut refresh, mut start, mut stop] = [(); 5].map(|()| Rounds::default());
    for _ in 0..scale.runs {
        times!(bare_query, rounds, fanout.round().await?);
        times!(query, rounds, subject.ask().await?);
        times!(look, rounds, subject.look().await?);
        times!(bare_change, rounds, stream.round().await?);
        times!(refresh, rounds, subject.refresh().await?);
        let (mut starts, mut stops) = (Vec::new(), Vec::new());
        for _ in 0..rounds / 2 {
            let begun = Instant::now();
            subject.delete().await?;
            stops.push(begun.elapsed().as_secs_f64() * 1000.0);
            let begun = Instant::now();
            subject.put().await?;
            starts.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        stop.take(&stops, Duration::ZERO);
        start.take(&starts, Duration::ZERO);
    }
    let figure = |name: &str, unit, runs: &[f64]| Figure::new(name, case, unit, runs.to_vec());
    let against = |name: &str, own: &[f64], floor: &[f64], limit| {
        figure(name, "× floor", &Rounds::ratios(own, floor)).at_most(limit)
    };
    for figure in [
        figure("question, bare, p50", "ms", &bare_query.p50),
        figure("question, bare, p99", "ms", &bare_query.p99),
        figure("question, p50", "ms", &query.p50),
        figure("question, p99", "ms", &query.p99),
        against("question against bare, p50", &query.p50, &bare_query.p50, 1.5),
        against("question against bare, p99", &query.p99, &bare_query.p99, 1.5),
        figure("call that asks nobody, p50", "ms", &look.p50),
        figure("change, bare, p50", "ms", &bare_change.p50),
        figure("change, bare, p99", "ms", &bare_change.p99),
        figure("refresh, p50", "ms", &refresh.p50),
        figure("refresh, p99", "ms", &refresh.p99),
        against("refresh against bare, p50", &refresh.p50, &bare_change.p50, 2.0),
        against("refresh against bare, p99", &refresh.p99, &bare_change.p99, 2.0),
        figure("stop, p50", "ms", &stop.p50),
        against("stop against bare, p50", &stop.p50, &bare_change.p50, 2.0),
        against("stop against bare, p99", &stop.p99, &bare_change.p99, 2.0),
        figure("start, with what then runs, p50", "ms", &start.p50),
        against(
            "start against bare change and question, p50",
            &start.p50,
            &sum(&bare_change.p50, &bare_query.p50),
            2.0,
        ),
        against(
            "start against bare change and question, p99",
            &start.p99,
            &sum(&bare_change.p99, &bare_query.p99),
            2.0,
        ),
        figure("processor time of a question, bare client", "ms", &bare_query.cpu),
        figure("processor time of a question, whole fleet", "ms", &query.cpu),
        figure("processor time of a change, bare client", "ms", &bare_change.cpu),
        figure("processor time of a refresh, whole fleet", "ms", &refresh.cpu),
    ] {
        report.add(figure)?;
    }
    if case == "N = 3" {
        report.note(format!(
            "Bytes: a question {} and its answer {}, an entry of the log {} and the report on it {}.",
            question.message, question.answer, change.message, change.answer
        ));
    }
    fanout.finish().await?;
    stream.finish().await?;
    subject.finish().await;
    Ok(())
}

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}
