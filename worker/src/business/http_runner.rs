//! `HTTPRunner`: sends requests to any HTTP service and checks the answers.

mod check;
mod exchange;
mod veil;
mod ways;

use std::sync::Arc;

use mobu_fleet::domain::business::{
    Authenticate, HttpRequest, HttpRunnerOptions, LogLevel, RequestOrder, TemplateValues,
};
use mobu_fleet::domain::events::Act;
use mobu_fleet::runtime::clock;
use secrecy::ExposeSecret;

use self::exchange::{Exchange, Prepared, RequestError};
use self::ways::Ways;
use super::{Business, IterationError, Phase};
use crate::monkey::{Event, Field, Monkey};

/// A monkey that sends requests.
#[derive(Debug)]
pub(super) struct HttpRunner {
    options: Arc<HttpRunnerOptions>,
    random: fastrand::Rng,
    /// Number of the current iteration, from 1; goes on over restarts.
    iteration: u64,
    run: Option<Run>,
}

/// What one run has.
#[derive(Debug)]
struct Run {
    ways: Ways,
    /// The requests that are the same each time, once they were sent: to fill one in costs as much as the rest of what we do about it.
    prepared: Vec<Option<Arc<Prepared>>>,
}

impl HttpRunner {
    pub(super) fn new(options: Arc<HttpRunnerOptions>, monkey: &Monkey) -> Self {
        Self {
            options,
            random: monkey.random(),
            iteration: 0,
            run: None,
        }
    }

    async fn send(&mut self, number: usize, monkey: &Monkey) -> Result<(), IterationError> {
        let request = &self.options.requests[number];
        let run = self
            .run
            .as_mut()
            .ok_or_else(|| IterationError::retry("request", NotStarted))?;
        let uuid = uuid::Builder::from_random_bytes(self.random.u128(..).to_ne_bytes())
            .into_uuid()
            .to_string();
        let user = monkey.user();
        let exchange = Exchange {
            number: number + 1,
            request,
            follows: !expects_redirect(request),
            is_bearer: self.options.authenticate == Authenticate::Bearer,
            token: &user.token,
            values: TemplateValues {
                username: user.username.as_str(),
                token: user.token.expose_secret(),
                instance_id: monkey.instance_id().as_str(),
                iteration: self.iteration,
                uuid: &uuid,
            },
        };
        monkey.enter(Phase::Request);
        let prepared = if let Some(prepared) = &run.prepared[number] {
            prepared.clone()
        } else {
            let prepared = Arc::new(exchange.prepare().map_err(|error| failed(error, None))?);
            if !request.varies() {
                run.prepared[number] = Some(prepared.clone());
            }
            prepared
        };
        // Boxed, because a request needs more room than all the rest of a monkey, and only while it is under way.
        let begun = clock::now();
        let answered = monkey
            .unless_stopped(Box::pin(exchange.run(&prepared, &mut run.ways)))
            .await?;
        monkey.emit(match &answered {
            Ok(answer) => Act::HttpRequest {
                duration: answer.duration.as_secs_f64(),
                success: answer.verdict.is_ok(),
                status: Some(answer.status),
            },
            Err(_) => Act::HttpRequest {
                duration: begun.elapsed().as_secs_f64(),
                success: false,
                status: None,
            },
        });
        let answer = answered.map_err(|error| failed(error, None))?;
        let fields = [
            ("request", Field::Integer(i64::try_from(number + 1).unwrap_or(i64::MAX))),
            ("method", Field::Text(request.method.as_str())),
            ("url", Field::Text(&answer.url)),
            ("status", Field::Integer(answer.status.into())),
            (
                "size_bytes",
                Field::Integer(i64::try_from(answer.size).unwrap_or(i64::MAX)),
            ),
            ("duration", Field::Float(answer.duration.as_secs_f64())),
        ];
        monkey.say(&Event {
            level: LogLevel::Info,
            text: "Request answered",
            fields: &fields,
            exception: None,
        });
        answer.verdict.map_err(|error| failed(error, Some(answer.status)))
    }
}

/// `execute` was called without `startup`.
#[derive(Debug, thiserror::Error)]
#[error("the run has not been started up")]
struct NotStarted;

fn failed(error: RequestError, status: Option<u16>) -> IterationError {
    let (kind, url) = (error.kind(), error.url().to_owned());
    IterationError::retry(kind, error).at_shown(&url).status(status)
}

/// Returns whether a redirect is what a request wants to see, so that it must not be followed.
fn expects_redirect(request: &HttpRequest) -> bool {
    request.expect.status.iter().any(|status| (300..400).contains(status))
}

impl Business for HttpRunner {
    async fn startup(&mut self, _: &Monkey) -> Result<(), IterationError> {
        self.run = Some(Run {
            ways: Ways::new(self.options.cookies),
            prepared: vec![None; self.options.requests.len()],
        });
        Ok(())
    }

    async fn execute(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        self.iteration += 1;
        match self.options.order {
            RequestOrder::Sequence => {
                for number in 0..self.options.requests.len() {
                    self.send(number, monkey).await?;
                }
                Ok(())
            }
            RequestOrder::Random => {
                let number = self.random.usize(..self.options.requests.len());
                self.send(number, monkey).await
            }
        }
    }

    async fn close(&mut self, _: &Monkey) {
        self.run = None;
    }
}
