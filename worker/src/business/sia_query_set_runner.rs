//! `SIAQuerySetRunner`: looks for images at random places (`contracts/businesses.md` 8).

use std::sync::{Arc, LazyLock};

use mobu_fleet::domain::business::SiaQuerySetRunnerOptions;
use mobu_fleet::domain::events::Act;
use serde::Deserialize;
use serde_json::json;

use super::query_sets::read;
use super::sky::{between, check, sizes};
use super::tap_query::{NotStarted, discover, failed, measured, not_found};
use super::{Business, IterationError, Phase};
use crate::client::sia::{ImageSearch, Sia};
use crate::monkey::Monkey;

/// Name of the one set that there is.
pub(super) const DP02: &str = "dp02";

/// Read once, when the first monkey asks.
pub(super) static PARAMETERS: LazyLock<Arc<SearchField>> =
    LazyLock::new(|| read::<SearchField>(include_str!("../../query_sets/dp02/parameters.json")).into());

/// Where and when to look: degrees, and modified Julian dates.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SearchField {
    min_ra: f64,
    max_ra: f64,
    min_dec: f64,
    max_dec: f64,
    min_radius: f64,
    radius_range: f64,
    start_time: f64,
    end_time: f64,
    /// The switch between the questions that are meant, and those that mobu asks: it adds both minima twice, so that it looks
    /// elsewhere, and sends the start and the end each as a time of its own, not as one interval.
    pub(super) asks_as_mobu: bool,
}

impl Default for SearchField {
    fn default() -> Self {
        Self {
            min_ra: 55.0,
            max_ra: 70.0,
            min_dec: -42.0,
            max_dec: -30.0,
            min_radius: 0.01,
            radius_range: 0.04,
            start_time: 60_550.318_034_611_11,
            end_time: 60_550.318_381_828_71,
            asks_as_mobu: false,
        }
    }
}

impl SearchField {
    /// Returns what is wrong with it, if anything.
    pub(super) fn check(&self) -> Result<(), String> {
        check(&[
            ("min_ra", self.min_ra),
            ("max_ra", self.max_ra),
            ("min_dec", self.min_dec),
            ("max_dec", self.max_dec),
            ("start_time", self.start_time),
            ("end_time", self.end_time),
        ])?;
        sizes(&[("min_radius", self.min_radius), ("radius_range", self.radius_range)])
    }

    fn draw(&self, random: &mut fastrand::Rng) -> ImageSearch {
        let ra = between(self.min_ra, self.max_ra, random);
        let dec = between(self.min_dec, self.max_dec, random);
        let radius = between(self.min_radius, self.min_radius + self.radius_range, random);
        let (start, end) = (self.start_time, self.end_time);
        if self.asks_as_mobu {
            ImageSearch {
                ra: self.min_ra + ra,
                dec: self.min_dec + dec,
                radius,
                times: vec![(start, start), (end, end)],
            }
        } else {
            ImageSearch {
                ra,
                dec,
                radius,
                times: vec![(start, end)],
            }
        }
    }
}

/// A monkey that looks for images.
#[derive(Debug)]
pub(super) struct SiaQuerySetRunner {
    options: Arc<SiaQuerySetRunnerOptions>,
    random: fastrand::Rng,
    /// Known from start-up on.
    field: Option<Arc<SearchField>>,
    /// `None` before start-up and after the end.
    sia: Option<Sia>,
}

impl SiaQuerySetRunner {
    pub(super) fn new(options: Arc<SiaQuerySetRunnerOptions>, monkey: &Monkey) -> Self {
        Self {
            options,
            random: monkey.random(),
            field: None,
            sia: None,
        }
    }
}

impl Business for SiaQuerySetRunner {
    async fn startup(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        let sets = &monkey.surroundings().query_sets;
        let field = sets.sia(&self.options.query_set);
        self.field = Some(field.map_err(|error| IterationError::fatal("query_set", error))?);
        monkey.info("Starting SIA Query Set Runner");
        monkey.enter(Phase::Discovery);
        let discovery = discover(monkey).await?;
        let base = discovery.sia(&self.options.dataset);
        let base = base.map_err(not_found)?;
        let token = monkey.user().token.clone();
        monkey.enter(Phase::MakeClient);
        let opened = monkey.unless_stopped(Box::pin(Sia::open(base, token))).await?;
        self.sia = Some(opened.map_err(failed)?);
        monkey.leave();
        Ok(())
    }

    async fn execute(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        let sia = self.sia.as_ref();
        let sia = sia.ok_or_else(|| IterationError::retry("client", NotStarted))?;
        let field = self.field.as_ref();
        let field = field.ok_or_else(|| IterationError::retry("client", NotStarted))?;
        let search = field.draw(&mut self.random);
        let (start, end) = (field.start_time, field.end_time);
        let ImageSearch { ra, dec, radius, .. } = search;
        monkey.info(&format!(
            "Running SIA query: SIA parameters: pos=({ra:?}, {dec:?}, {radius:?}), time=[{start:?}, {end:?}])"
        ));
        let shown = json!({"dec": dec, "ra": ra, "radius": radius, "time": [start, end]});
        monkey.enter(Phase::SiaSearch);
        let act = |success, duration| Act::SiaQuery { success, duration };
        measured(monkey, shown, act, async {
            let outcome = monkey.unless_stopped(Box::pin(sia.run(&search))).await?;
            outcome.map_err(failed)
        })
        .await
    }

    async fn close(&mut self, _: &Monkey) {
        self.sia = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn searches_are_in_the_field_or_where_mobu_looks(seed: u64) {
            let mut random = fastrand::Rng::with_seed(seed);
            let search = PARAMETERS.draw(&mut random);
            prop_assert!((52.0..72.0).contains(&search.ra) && (-44.0..-28.0).contains(&search.dec));
            prop_assert!((0.003..0.0531).contains(&search.radius));
            prop_assert_eq!(search.times, vec![(60_550.318_034_611_11, 60_550.318_381_828_71)]);
            let as_mobu = SearchField { asks_as_mobu: true, ..SearchField::clone(&PARAMETERS) };
            let search = as_mobu.draw(&mut random);
            prop_assert!((104.0..124.0).contains(&search.ra) && (-88.0..-72.0).contains(&search.dec));
            let (start, end) = (60_550.318_034_611_11, 60_550.318_381_828_71);
            prop_assert_eq!(search.times, vec![(start, start), (end, end)]);
        }
    }
}
