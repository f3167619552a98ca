//! `TAPQueryRunner`: runs queries that the flock's options list.

use std::sync::Arc;

use mobu_fleet::domain::business::TapQueryRunnerOptions;

use super::tap_query::TapQueries;
use super::{Business, IterationError};
use crate::monkey::Monkey;

/// A monkey that runs listed queries, in any order.
#[derive(Debug)]
pub(super) struct TapQueryRunner {
    options: Arc<TapQueryRunnerOptions>,
    random: fastrand::Rng,
    queries: TapQueries,
}

/// The list is empty, which is accepted and of no use.
#[derive(Debug, thiserror::Error)]
#[error("there is nothing to choose from: the option `queries` is empty")]
struct NoQueries;

impl TapQueryRunner {
    pub(super) fn new(options: Arc<TapQueryRunnerOptions>, monkey: &Monkey) -> Self {
        Self {
            options,
            random: monkey.random(),
            queries: TapQueries::new(),
        }
    }
}

impl Business for TapQueryRunner {
    async fn startup(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        self.queries.open(&self.options.tap, monkey).await
    }

    async fn execute(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        let query = self.random.choice(&self.options.queries);
        let query = query.ok_or_else(|| IterationError::retry("options", NoQueries))?;
        self.queries.run(&self.options.tap, query, monkey).await
    }

    async fn close(&mut self, _: &Monkey) {
        self.queries.close();
    }
}
