//! A client of SIA 2 (`contracts/businesses.md` 8).

use secrecy::SecretString;
use url::Url;

use super::vo::{QueryError, Request, Session, below};

/// An SIA service, as one monkey sees it.
#[derive(Debug)]
pub(crate) struct Sia {
    session: Session,
    /// Where queries go.
    query: Url,
}

/// A search for images: a circle on the sky in degrees, and times as modified Julian dates.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ImageSearch {
    pub(crate) ra: f64,
    pub(crate) dec: f64,
    pub(crate) radius: f64,
    /// Each a first and a last moment.
    pub(crate) times: Vec<(f64, f64)>,
}

impl Sia {
    /// Asks the service at `base` where queries go. That needs no token, and gets none.
    pub(crate) async fn open(base: &Url, token: SecretString) -> Result<Self, QueryError> {
        let session = Session::new(below(base, "query"), token)?;
        let capabilities = session.capabilities(base).await?;
        let query = capabilities.sia2().ok_or(QueryError::NoSia)?;
        Ok(Self { session, query })
    }

    /// Runs a query. Takes as long as the service does.
    pub(crate) async fn run(&self, search: &ImageSearch) -> Result<(), QueryError> {
        let url = search.at(&self.query);
        let response = self.session.send(Request::get(&url)).await?;
        self.session.judge(response).await
    }
}

impl ImageSearch {
    fn at(&self, query: &Url) -> Url {
        let Self { ra, dec, radius, times } = self;
        let mut url = query.clone();
        let mut pairs = url.query_pairs_mut();
        pairs.append_pair("POS", &format!("CIRCLE {ra:?} {dec:?} {radius:?}"));
        for (first, last) in times {
            pairs.append_pair("TIME", &format!("{first:?} {last:?}"));
        }
        drop(pairs);
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_written_as_the_standard_says() {
        let search = ImageSearch {
            ra: 113.192_875_003_797_75,
            dec: -82.569_363_792_816_25,
            radius: 0.040_337_284_718_222_316,
            times: vec![(60550.318, 60550.318), (60550.5, 60551.0)],
        };
        assert_eq!(
            search.at(&"https://x.test/query?a=b".parse().unwrap()).as_str(),
            "https://x.test/query?a=b&POS=CIRCLE+113.19287500379775+-82.56936379281625+0.040337284718222316\
             &TIME=60550.318+60550.318&TIME=60550.5+60551.0"
        );
    }
}
