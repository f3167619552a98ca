//! Where services are: what Repertoire answers, and what a static block of the configuration says in its place
//! (`contracts/businesses.md` 3).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use url::Url;

use super::validation::{Extra, FromInput, Input, Loc, Parsed, ValidationErrors};

/// A service that is not listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotDiscovered {
    /// A service of the platform, in a version of its API.
    #[error("{service} ({version}) service not found in service discovery")]
    Version {
        /// Name of the service.
        service: &'static str,
        /// The version that is needed.
        version: &'static str,
    },
    /// A service with pages for people.
    #[error("{0} service not found in service discovery")]
    Ui(&'static str),
    /// A service of a dataset.
    #[error("{service} for {dataset} not found in service discovery")]
    Dataset {
        /// Kind of service, in capitals.
        service: &'static str,
        /// Name of the dataset.
        dataset: String,
    },
    /// A service of the platform.
    #[error("Service {0} not found in service discovery")]
    Internal(&'static str),
}

/// A service: where it is, and where each version of its API is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Service {
    url: Option<Url>,
    versions: BTreeMap<String, Url>,
}

/// The services of one environment. Everything may be missing; `{}` is a valid answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Applications that are installed, by which notebooks are chosen.
    pub applications: BTreeSet<String>,
    /// Name of the environment.
    pub environment_name: Option<String>,
    internal: BTreeMap<String, Service>,
    ui: BTreeMap<String, Service>,
    datasets: BTreeMap<String, BTreeMap<String, Service>>,
}

impl Discovery {
    /// Reads an answer of Repertoire, or a block of the configuration.
    ///
    /// # Errors
    ///
    /// All mistakes at once, placed below `loc`.
    pub fn parse_at(value: &Value, loc: &[Loc]) -> Result<Self, ValidationErrors> {
        Input::read(value, loc, Self::from_input).map(|parsed| parsed.value)
    }

    /// Reads a block of the configuration, in which a key that is none is a mistake: it was written by hand.
    pub(crate) fn from_block(input: &Input<'_>) -> Option<Parsed<Self>> {
        ROOT.check(input);
        Self::from_input(input)
    }

    /// Returns the base of Gafaelfawr's API, without a slash at its end.
    ///
    /// # Errors
    ///
    /// If version 1 of it is not listed.
    pub fn gafaelfawr(&self) -> Result<String, NotDiscovered> {
        let found = self
            .internal
            .get("gafaelfawr")
            .and_then(|service| service.versions.get("v1"));
        found.map(without_slash).ok_or(NotDiscovered::Version {
            service: "gafaelfawr",
            version: "v1",
        })
    }

    /// Returns the base of `JupyterHub`, without a slash at its end.
    ///
    /// # Errors
    ///
    /// If it is not listed.
    pub fn nublado(&self) -> Result<String, NotDiscovered> {
        let found = self.ui.get("nublado").and_then(|service| service.url.as_ref());
        found.map(without_slash).ok_or(NotDiscovered::Ui("nublado"))
    }

    /// Returns where TAP queries of a dataset go.
    ///
    /// # Errors
    ///
    /// If it is not listed.
    pub fn tap(&self, dataset: &str) -> Result<&Url, NotDiscovered> {
        self.of_dataset(dataset, "tap", "TAP")
    }

    /// Returns where SIA queries of a dataset go.
    ///
    /// # Errors
    ///
    /// If it is not listed.
    pub fn sia(&self, dataset: &str) -> Result<&Url, NotDiscovered> {
        self.of_dataset(dataset, "sia", "SIA")
    }

    /// Returns where Muster is.
    ///
    /// # Errors
    ///
    /// If it is not listed.
    pub fn muster(&self) -> Result<&Url, NotDiscovered> {
        let found = self.internal.get("muster").and_then(|service| service.url.as_ref());
        found.ok_or(NotDiscovered::Internal("muster"))
    }

    fn of_dataset(&self, dataset: &str, key: &str, service: &'static str) -> Result<&Url, NotDiscovered> {
        let services = self.datasets.get(dataset);
        let found = services.and_then(|services| services.get(key)?.url.as_ref());
        found.ok_or_else(|| NotDiscovered::Dataset {
            service,
            dataset: dataset.to_owned(),
        })
    }
}

fn without_slash(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// Reads an `http` or `https` URL with a host, and without user and password, which logs would show.
pub(crate) fn http_url(input: &Input<'_>) -> Option<Parsed<Url>> {
    let text = String::from_input(input)?;
    match Url::parse(&text.value) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
            input.value_error("the URL must begin with http:// or https:// and name a host")
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            input.value_error("the URL may not hold a user or a password")
        }
        Ok(url) => Some(text.map(|_| url)),
        Err(error) => input.value_error(format_args!("not an absolute URL: {error}")),
    }
}

/// Most entries of one object: an environment has dozens.
const MAX_ENTRIES: usize = 10_000;

fn by_name<T>(
    input: &Input<'_>,
    read: impl Fn(&Input<'_>) -> Option<Parsed<T>>,
) -> Option<Parsed<BTreeMap<String, T>>> {
    let entries = input.entries(MAX_ENTRIES, |_, input| read(input))?;
    Some(entries.map(BTreeMap::from_iter))
}

fn version(input: &Input<'_>) -> Option<Parsed<Option<Url>>> {
    let mut fields = input.model("Version")?;
    let url = fields.nullable_by("url", http_url);
    Some(Parsed::new(url, fields.close(Extra::Ignored)?))
}

impl FromInput for Service {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("Service")?;
        let url = fields.nullable_by("url", http_url);
        let versions = fields.nullable_by("versions", |input| by_name(input, version));
        let echo = fields.close(Extra::Ignored)?;
        let versions = versions.unwrap_or_default().into_iter();
        let versions = versions.filter_map(|(name, url)| Some((name, url?))).collect();
        Some(Parsed::new(Self { url, versions }, echo))
    }
}

/// What an object of a static block may hold: its keys, and what is below those that are looked at.
struct Shape {
    keys: &'static [&'static str],
    below: fn(&Input<'_>, &str),
}

/// Keys that Repertoire has, whether or not somebody here looks at them: a static block may be an answer of it.
const ROOT: Shape = Shape {
    keys: &[
        "applications",
        "datasets",
        "environment_name",
        "influxdb_databases",
        "services",
    ],
    below: |input, key| match key {
        "datasets" => DATASET.check_each(input),
        "services" => SERVICES.check(input),
        _ => {}
    },
};
const SERVICES: Shape = Shape {
    keys: &["internal", "ui"],
    below: |input, _| SERVICE.check_each(input),
};
const DATASET: Shape = Shape {
    keys: &["butler_config", "description", "docs_url", "services"],
    below: |input, key| {
        if key == "services" {
            SERVICE.check_each(input);
        }
    },
};
const SERVICE: Shape = Shape {
    keys: &["openapi", "url", "versions"],
    below: |input, key| {
        if key == "versions" {
            VERSION.check_each(input);
        }
    },
};
const VERSION: Shape = Shape {
    keys: &["ivoa_standard_id", "url"],
    below: |_, _| {},
};

impl Shape {
    /// Reports every key that is none; what is no object was reported by whoever read it.
    fn check(&self, input: &Input<'_>) {
        for (key, value) in input.value().as_object().into_iter().flatten() {
            let input = input.at_key(key, value);
            if self.keys.contains(&key.as_str()) {
                (self.below)(&input, key);
            } else {
                let known = self.keys.join("`, `");
                input.value_error::<()>(format_args!("there is no such key here: known are `{known}`"));
            }
        }
    }

    fn check_each(&self, input: &Input<'_>) {
        for (key, value) in input.value().as_object().into_iter().flatten() {
            self.check(&input.at_key(key, value));
        }
    }
}

fn services(input: &Input<'_>) -> Option<Parsed<BTreeMap<String, Service>>> {
    by_name(input, Service::from_input)
}

impl FromInput for Discovery {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.document()?;
        let applications = fields.nullable_by("applications", |input| input.set(String::from_input));
        let environment_name = fields.nullable("environment_name");
        let (mut internal, mut ui) = (BTreeMap::new(), BTreeMap::new());
        fields.nullable_by("services", |input| {
            let mut fields = input.model("Services")?;
            internal = fields.nullable_by("internal", services).unwrap_or_default();
            ui = fields.nullable_by("ui", services).unwrap_or_default();
            Some(Parsed::new((), fields.close(Extra::Ignored)?))
        });
        let datasets = fields.nullable_by("datasets", |input| {
            by_name(input, |input| {
                let mut fields = input.model("Dataset")?;
                let listed = fields.nullable_by("services", services).unwrap_or_default();
                Some(Parsed::new(listed, fields.close(Extra::Ignored)?))
            })
        });
        let echo = fields.close(Extra::Ignored)?;
        let discovery = Self {
            applications: applications.unwrap_or_default(),
            environment_name,
            internal,
            ui,
            datasets: datasets.unwrap_or_default(),
        };
        Some(Parsed::new(discovery, echo))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Result<Discovery, ValidationErrors> {
        Discovery::parse_at(value, &[])
    }

    #[test]
    fn services_are_found_where_repertoire_lists_them() {
        let discovery = read(&json!({
            "applications": ["tap", "mobu"],
            "environment_name": "data.test",
            "new_in_a_later_version": 1,
            "datasets": {"dp02": {"services": {
                "tap": {"url": "https://data.test/api/tap"},
                "sia": {"url": "https://data.test/api/sia/dp02", "versions": {"v2": {"url": "https://data.test/2"}}},
            }}},
            "services": {
                "internal": {
                    "gafaelfawr": {"url": "https://data.test/auth/api", "versions": {"v1": {"url": "https://data.test/v1/"}}},
                    "muster": {"url": "https://data.test"},
                },
                "ui": {"nublado": {"url": "https://nb.data.test/nb/"}},
            },
        }))
        .unwrap();
        assert_eq!(discovery.gafaelfawr().unwrap(), "https://data.test/v1");
        assert_eq!(discovery.nublado().unwrap(), "https://nb.data.test/nb");
        assert_eq!(discovery.tap("dp02").unwrap().as_str(), "https://data.test/api/tap");
        assert_eq!(
            discovery.sia("dp02").unwrap().as_str(),
            "https://data.test/api/sia/dp02"
        );
        assert_eq!(discovery.muster().unwrap().as_str(), "https://data.test/");
        assert!(discovery.applications.contains("tap"));
    }

    #[test]
    fn nothing_listed_is_an_answer_in_which_nothing_is_found() {
        let discovery = read(&json!({})).unwrap();
        let errors = [
            discovery.gafaelfawr().unwrap_err(),
            discovery.nublado().unwrap_err(),
            discovery.tap("dp02").unwrap_err(),
            discovery.sia("dp1").unwrap_err(),
            discovery.muster().unwrap_err(),
        ];
        assert_eq!(
            errors.map(|error| error.to_string()),
            [
                "gafaelfawr (v1) service not found in service discovery",
                "nublado service not found in service discovery",
                "TAP for dp02 not found in service discovery",
                "SIA for dp1 not found in service discovery",
                "Service muster not found in service discovery",
            ]
        );
    }

    #[test]
    fn wrong_urls_are_placed() {
        let errors = read(&json!({"services": {"ui": {"nublado": {"url": "nb"}, "x": {"url": "http://a:b@c"}}}}));
        let errors = errors.unwrap_err().to_string();
        assert!(
            errors.contains("services.ui.nublado.url: Value error, not an absolute URL"),
            "{errors}"
        );
        assert!(
            errors.contains("services.ui.x.url: Value error, the URL may not hold a user"),
            "{errors}"
        );
    }
}
