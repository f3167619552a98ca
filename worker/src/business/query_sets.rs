//! The query sets that come with this release (`worker/query_sets`): templates, and from what their values are drawn.

pub(crate) mod own;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;

use super::sky::{Drawn, Field};

/// A set of query templates.
#[derive(Debug)]
pub(super) struct QuerySet {
    pub(super) name: Cow<'static, str>,
    /// By name, sorted.
    templates: Vec<Template>,
    field: Field,
    /// Identifiers of objects; empty if the set knows none.
    objects: Vec<u64>,
}

/// A query with gaps.
#[derive(Debug)]
pub(super) struct Template {
    name: Cow<'static, str>,
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Gap(Box<str>),
}

/// There is no set of that name.
#[derive(Debug, thiserror::Error)]
#[error("there is no query set `{name}`; there are {known}")]
pub(super) struct UnknownSet {
    pub(super) name: String,
    pub(super) known: String,
}

/// A template asks for something that its set does not have.
#[derive(Debug, thiserror::Error)]
#[error("'{gap}' is undefined (query template `{template}`)")]
pub(super) struct Undefined {
    gap: String,
    template: String,
}

macro_rules! set {
    ($set:literal, objects of $objects:literal, $($template:literal),+) => {
        QuerySet::new(
            $set,
            include_str!(concat!("../../query_sets/", $set, "/parameters.json")),
            include_str!(concat!("../../query_sets/", $objects, "/objects.json")),
            &[$(($template, include_str!(concat!("../../query_sets/", $set, "/", $template, ".sql")))),+],
        )
    };
}

/// Read once, when the first monkey asks.
static SETS: LazyLock<[Arc<QuerySet>; 4]> = LazyLock::new(|| {
    [
        set!(
            "dp0.1", objects of "dp0.1",
            "cone-object", "cone-photometry", "cone-position", "histogram-flux", "histogram-magnitude", "neighbor-near",
            "object-one", "object-photometry", "object-reference", "object-several", "polygon-object", "polygon-position",
            "scan-flux", "scan-magnitude", "scan-top"
        ),
        set!(
            "dp0.2", objects of "dp0.2",
            "cone-object", "cone-source", "near-neighbor", "object-one", "polygon-object", "polygon-source",
            "time-series-one"
        ),
        set!(
            "dp0.2-long-scans", objects of "dp0.2",
            "histogram-forcedsource", "scan-forcedsource", "time-series-several"
        ),
        set!(
            "dp0.2-med-scans", objects of "dp0.2",
            "histogram-object", "object-several", "scan-object", "scan-object-top"
        ),
    ]
    .map(Arc::new)
});

impl QuerySet {
    fn new(name: &'static str, field: &str, objects: &str, templates: &[(&'static str, &'static str)]) -> Self {
        let templates = templates.iter().map(|(name, text)| {
            Template::parse(*name, *text).expect("what is embedded is right: a test reads all of it")
        });
        Self {
            name: name.into(),
            templates: templates.collect(),
            field: read(field),
            objects: read(objects),
        }
    }

    /// Returns the file names of the templates as Python writes a list, as mobu logs them.
    pub(super) fn listing(&self) -> String {
        let names = self.templates.iter().map(|template| format!("'{}.sql'", template.name));
        format!("[{}]", names.collect::<Vec<_>>().join(", "))
    }

    /// Chooses a template and fills it in.
    pub(super) fn query(&self, random: &mut fastrand::Rng, username: &str) -> Result<String, Undefined> {
        let template = &self.templates[random.usize(..self.templates.len())];
        let drawn = Drawn::draw(&self.field, &self.objects, random);
        template.fill(&drawn, username)
    }
}

/// Reads an embedded file.
pub(super) fn read<'a, T: Deserialize<'a>>(text: &'a str) -> T {
    serde_json::from_str(text).expect("what is embedded is right: a test reads all of it")
}

impl Template {
    /// Reads a template. The line break at its end is none of the query's.
    fn parse(name: impl Into<Cow<'static, str>>, text: impl AsRef<str>) -> Result<Self, String> {
        let text = text.as_ref();
        let mut parts = Vec::new();
        let mut rest = text.strip_suffix('\n').unwrap_or(text);
        while let Some((before, after)) = rest.split_once("{{") {
            let closed = after.split_once("}}");
            let (gap, after) = closed.ok_or("a gap is opened by {{ and not closed by }}")?;
            parts.extend([Part::Text(before.into()), Part::Gap(gap.trim().into())]);
            rest = after;
        }
        parts.push(Part::Text(rest.into()));
        Ok(Self {
            name: name.into(),
            parts,
        })
    }

    fn fill(&self, drawn: &Drawn, username: &str) -> Result<String, Undefined> {
        let mut query = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => query.push_str(text),
                Part::Gap(gap) if &**gap == "username" => query.push_str(username),
                Part::Gap(gap) => {
                    let value = drawn.get(gap).ok_or_else(|| Undefined {
                        gap: gap.to_string(),
                        template: self.name.to_string(),
                    })?;
                    query.push_str(&value);
                }
            }
        }
        Ok(query)
    }
}

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    //! See [`crate::fuzzing`].

    use super::{Drawn, Template};
    use crate::business::sky::Field;

    /// Reads a template and fills it in.
    pub fn query_template(text: &str) -> Result<String, String> {
        let template = Template::parse("fuzz", text)?;
        let drawn = Drawn::draw(&Field::default(), &[], &mut fastrand::Rng::with_seed(0));
        template.fill(&drawn, "bot-mobu-x").map_err(|error| error.to_string())
    }

    /// Reads a set's part of the sky, and draws from it what it would.
    pub fn query_field(text: &str) -> Result<(), String> {
        let field: Field = serde_json::from_str(text).map_err(|error| error.to_string())?;
        field.check()?;
        drop(Drawn::draw(&field, &[7], &mut fastrand::Rng::with_seed(1)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::own::QuerySets;
    use super::*;

    /// The name of a template, and its gaps.
    type Wanted = (&'static str, &'static [&'static str]);

    /// Every template of the contract, set by set.
    const WANTED: [(&str, &[Wanted]); 4] = [
        (
            "dp0.1",
            &[
                ("cone-object", &["ra", "dec", "radius"]),
                ("cone-photometry", &["ra", "dec", "radius"]),
                ("cone-position", &["ra", "dec", "radius"]),
                ("histogram-flux", &[]),
                ("histogram-magnitude", &[]),
                ("neighbor-near", &["ra", "dec", "radius_near"]),
                ("object-one", &["object"]),
                ("object-photometry", &["objects"]),
                ("object-reference", &["object"]),
                ("object-several", &["objects"]),
                ("polygon-object", &["polygon"]),
                ("polygon-position", &["polygon"]),
                ("scan-flux", &["min_flux", "max_flux"]),
                ("scan-magnitude", &["min_mag", "max_mag"]),
                ("scan-top", &[]),
            ],
        ),
        (
            "dp0.2",
            &[
                ("cone-object", &["ra", "dec", "radius"]),
                ("cone-source", &["ra", "dec", "radius"]),
                ("near-neighbor", &["ra", "dec", "radius_near"]),
                ("object-one", &["object"]),
                ("polygon-object", &["polygon"]),
                ("polygon-source", &["polygon"]),
                ("time-series-one", &["object"]),
            ],
        ),
        (
            "dp0.2-long-scans",
            &[
                ("histogram-forcedsource", &[]),
                ("scan-forcedsource", &["min_flux", "max_flux"]),
                ("time-series-several", &["objects"]),
            ],
        ),
        (
            "dp0.2-med-scans",
            &[
                ("histogram-object", &[]),
                ("object-several", &["objects"]),
                ("scan-object", &["min_flux", "max_flux"]),
                ("scan-object-top", &[]),
            ],
        ),
    ];

    #[test]
    fn the_sets_have_the_templates_and_gaps_that_they_should() {
        assert_eq!(
            SETS.each_ref().map(|set| set.name.as_ref()),
            WANTED.map(|(name, _)| name)
        );
        for (name, wanted) in WANTED {
            let set = QuerySets::default().tap(name).unwrap();
            assert_eq!(set.objects.len(), 500);
            assert_eq!(set.templates.len(), wanted.len());
            for (template, (name, gaps)) in set.templates.iter().zip(wanted) {
                let found = template.parts.iter().filter_map(|part| match part {
                    Part::Gap(gap) => Some(&**gap),
                    Part::Text(_) => None,
                });
                let found: Vec<_> = found.collect();
                assert_eq!(
                    (template.name.as_ref(), found[0], &found[1..]),
                    (*name, "query_id", *gaps)
                );
            }
        }
    }

    #[test]
    fn every_query_names_itself_and_has_no_gap_left() {
        let mut random = fastrand::Rng::with_seed(7);
        for set in &*SETS {
            for template in &set.templates {
                let drawn = Drawn::draw(&set.field, &set.objects, &mut random);
                let query = template.fill(&drawn, "bot-mobu-x").unwrap();
                let literal = if template.name == "near-neighbor" {
                    "neighbor-near"
                } else {
                    &*template.name
                };
                assert!(
                    query.contains("'mobu-") && query.contains(&format!("'{literal}' AS")),
                    "{query}"
                );
                assert!(!query.contains(['{', '}']) && !query.ends_with('\n'), "{query}");
            }
        }
    }

    #[test]
    fn an_unknown_set_and_an_undefined_gap_are_named() {
        assert_eq!(
            QuerySets::default().tap("dp9").unwrap_err().to_string(),
            "there is no query set `dp9`; there are dp0.1, dp0.2, dp0.2-long-scans, dp0.2-med-scans"
        );
        let mut random = fastrand::Rng::with_seed(7);
        let drawn = Drawn::draw(&Field::default(), &[], &mut random);
        for gap in ["{{object}}", "{{objects}}", "{{nothing}}"] {
            let error = Template::parse("t", gap)
                .unwrap()
                .fill(&drawn, "u")
                .unwrap_err()
                .to_string();
            assert!(error.ends_with("is undefined (query template `t`)"), "{error}");
        }
        let filled = Template::parse("t", "{{ username }} {{ra}}\n").unwrap();
        let filled = filled.fill(&drawn, "u").unwrap();
        assert!(filled.starts_with("u 5") || filled.starts_with("u 6"), "{filled}");
    }

    #[test]
    fn the_listing_looks_like_pythons() {
        assert_eq!(
            QuerySets::default().tap("dp0.2-long-scans").unwrap().listing(),
            "['histogram-forcedsource.sql', 'scan-forcedsource.sql', 'time-series-several.sql']"
        );
    }
}
