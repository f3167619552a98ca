//! `TAPQuerySetRunner`: runs queries made from the templates of a set.

use std::sync::Arc;

use mobu_fleet::domain::business::TapQuerySetRunnerOptions;

use super::query_sets::QuerySet;
use super::tap_query::{NotStarted, TapQueries};
use super::{Business, IterationError};
use crate::monkey::Monkey;

/// A monkey that runs queries from templates, with other values each time.
#[derive(Debug)]
pub(super) struct TapQuerySetRunner {
    options: Arc<TapQuerySetRunnerOptions>,
    random: fastrand::Rng,
    queries: TapQueries,
    /// Known from start-up on.
    set: Option<Arc<QuerySet>>,
}

impl TapQuerySetRunner {
    pub(super) fn new(options: Arc<TapQuerySetRunnerOptions>, monkey: &Monkey) -> Self {
        Self {
            options,
            random: monkey.random(),
            queries: TapQueries::new(),
            set: None,
        }
    }
}

impl Business for TapQuerySetRunner {
    async fn startup(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        let sets = &monkey.surroundings().query_sets;
        let set = sets.tap(&self.options.query_set);
        let set = set.map_err(|error| IterationError::fatal("query_set", error))?;
        self.set = Some(set.clone());
        self.queries.open(&self.options.tap, monkey).await?;
        monkey.info(&format!("Query templates to choose from: {}", set.listing()));
        Ok(())
    }

    async fn execute(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        let set = self.set.as_ref();
        let set = set.ok_or_else(|| IterationError::retry("client", NotStarted))?;
        let query = set.query(&mut self.random, monkey.name().as_str());
        let query = query.map_err(|error| IterationError::retry("template", error))?;
        self.queries.run(&self.options.tap, &query, monkey).await
    }

    async fn close(&mut self, _: &Monkey) {
        self.queries.close();
    }
}
