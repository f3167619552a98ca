//! All query sets that a worker knows: those of this release, and those of a directory of one's own (`querySetDir`).
//!
//! The directory has `tap/SET/TEMPLATE.sql`, and beside the templates `parameters.json` and `objects.json`, which may be missing; and
//! `sia/SET/parameters.json`. A set of one's own goes before one of this release that is called the same. All of it is read and checked
//! once, when the worker starts.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::{QuerySet, SETS, Template, UnknownSet};
use crate::business::sia_query_set_runner::{DP02, PARAMETERS, SearchField};
use crate::business::sky::{Drawn, Field};

/// Size of the largest file, in bytes.
const FILE: u64 = 1024 * 1024;

/// All query sets that a worker knows.
#[derive(Debug, Default)]
pub(crate) struct QuerySets {
    tap: BTreeMap<String, Arc<QuerySet>>,
    sia: BTreeMap<String, Arc<SearchField>>,
}

/// What is wrong with the directory: all of it at once.
#[derive(Debug, thiserror::Error)]
pub struct QuerySetMistakes {
    directory: PathBuf,
    /// By the place where it was made.
    mistakes: Vec<(PathBuf, String)>,
}

impl fmt::Display for QuerySetMistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the query sets in {} cannot be used", self.directory.display())?;
        for (place, mistake) in &self.mistakes {
            let place = place.strip_prefix(&self.directory).unwrap_or(place);
            write!(f, "; {}: {mistake}", place.display())?;
        }
        Ok(())
    }
}

impl QuerySets {
    /// Reads the sets of a directory, besides which there are those of this release.
    pub(crate) fn read(directory: &Path) -> Result<Self, QuerySetMistakes> {
        let mut mistakes = Vec::new();
        let mut sets = Self::default();
        if !directory.is_dir() {
            mistakes.push((directory.to_owned(), "it is no directory that can be read".to_owned()));
        }
        for (name, path) in folders(&directory.join("tap"), &mut mistakes) {
            if let Some(set) = tap_set(&name, &path, &mut mistakes) {
                sets.tap.insert(name, Arc::new(set));
            }
        }
        for (name, path) in folders(&directory.join("sia"), &mut mistakes) {
            let path = path.join("parameters.json");
            let Some(field) = optional::<SearchField>(&path, &mut mistakes) else {
                continue;
            };
            if let Err(mistake) = field.check() {
                mistakes.push((path, mistake));
            }
            sets.sia.insert(name, Arc::new(field));
        }
        if mistakes.is_empty() && sets.tap.is_empty() && sets.sia.is_empty() {
            let mistake = "there is neither a folder tap/SET nor a folder sia/SET".to_owned();
            mistakes.push((directory.to_owned(), mistake));
        }
        if mistakes.is_empty() {
            return Ok(sets);
        }
        Err(QuerySetMistakes {
            directory: directory.to_owned(),
            mistakes,
        })
    }

    /// Returns a set of templates by its name.
    pub(in crate::business) fn tap(&self, name: &str) -> Result<Arc<QuerySet>, UnknownSet> {
        let embedded = || SETS.iter().find(|set| set.name == name);
        self.tap.get(name).or_else(embedded).cloned().ok_or_else(|| {
            let embedded = SETS.iter().map(|set| set.name.as_ref());
            unknown(name, self.tap.keys().map(String::as_str).chain(embedded))
        })
    }

    /// Returns a field of searches by its name.
    pub(in crate::business) fn sia(&self, name: &str) -> Result<Arc<SearchField>, UnknownSet> {
        if let Some(field) = self.sia.get(name) {
            return Ok(field.clone());
        }
        if name == DP02 {
            return Ok(PARAMETERS.clone());
        }
        let own = self.sia.keys().map(String::as_str);
        Err(unknown(name, own.chain([DP02])))
    }
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> UnknownSet {
    let mut known: Vec<_> = known.collect();
    known.sort_unstable();
    known.dedup();
    UnknownSet {
        name: name.to_owned(),
        known: known.join(", "),
    }
}

/// What is found wrong, and where.
type Mistakes = Vec<(PathBuf, String)>;

/// Returns what is in a folder, sorted by name; nothing if there is no such folder.
fn entries(folder: &Path, mistakes: &mut Mistakes) -> Vec<(String, PathBuf)> {
    let read = match fs::read_dir(folder) {
        Ok(read) => read,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            mistakes.push((folder.to_owned(), error.to_string()));
            return Vec::new();
        }
    };
    // Kubernetes mounts files through hidden folders and links.
    let visible = read.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        (!name.starts_with('.')).then(|| (name, entry.path()))
    });
    let mut found: Vec<_> = visible.collect();
    found.sort();
    found
}

fn folders(folder: &Path, mistakes: &mut Mistakes) -> Vec<(String, PathBuf)> {
    let mut found = entries(folder, mistakes);
    found.retain(|(_, path)| path.is_dir());
    found
}

fn tap_set(name: &str, folder: &Path, mistakes: &mut Mistakes) -> Option<QuerySet> {
    let before = mistakes.len();
    let parameters = folder.join("parameters.json");
    let field = optional::<Field>(&parameters, mistakes);
    if let Some(Err(mistake)) = field.as_ref().map(Field::check) {
        mistakes.push((parameters, mistake));
    }
    let objects = optional::<Vec<u64>>(&folder.join("objects.json"), mistakes);
    let mut templates = Vec::new();
    for (file, path) in entries(folder, mistakes) {
        let Some(template) = file.strip_suffix(".sql") else {
            continue;
        };
        match text(&path).and_then(|text| Template::parse(template.to_owned(), text)) {
            Ok(template) => templates.push((path, template)),
            Err(mistake) => mistakes.push((path, mistake)),
        }
    }
    let (Some(field), Some(objects)) = (field, objects) else {
        return None;
    };
    if templates.is_empty() && mistakes.len() == before {
        mistakes.push((
            folder.to_owned(),
            "there is no template (a file whose name ends in .sql)".to_owned(),
        ));
    }
    // A gap that nothing fills would fail each time that the template is chosen.
    let drawn = Drawn::draw(&field, &objects, &mut fastrand::Rng::with_seed(0));
    for (path, template) in &templates {
        if let Err(undefined) = template.fill(&drawn, "bot-mobu-x") {
            mistakes.push((path.clone(), undefined.to_string()));
        }
    }
    let templates = templates.into_iter().map(|(_, template)| template).collect();
    (mistakes.len() == before).then(|| QuerySet {
        name: name.to_owned().into(),
        templates,
        field,
        objects,
    })
}

/// Reads a file of JSON; one that is not there has the defaults.
fn optional<T: DeserializeOwned + Default>(path: &Path, mistakes: &mut Mistakes) -> Option<T> {
    if !path.exists() {
        return Some(T::default());
    }
    let read = text(path).and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
    read.map_err(|mistake| mistakes.push((path.to_owned(), mistake))).ok()
}

fn text(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE {
        return Err(format!("it has {size} bytes, more than {FILE}"));
    }
    fs::read_to_string(path).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a directory with these files.
    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    #[test]
    fn sets_of_ones_own_are_used_and_go_before_those_of_this_release() {
        let directory = directory(&[
            ("tap/mine/b.sql", "SELECT '{{query_id}}', {{object}}\n"),
            ("tap/mine/a.sql", "SELECT {{ra}} AS \"{\"\n"),
            ("tap/mine/README.md", "not a template"),
            ("tap/mine/objects.json", "[5]"),
            ("tap/mine/.hidden.sql", "{{"),
            ("tap/dp0.1/only.sql", "SELECT {{dec}}"),
            ("tap/dp0.1/parameters.json", "{\"min_dec\": 1, \"max_dec\": 1}"),
            ("sia/dp02/parameters.json", "{\"asks_as_mobu\": true}"),
        ]);
        let sets = QuerySets::read(directory.path()).unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        assert_eq!(sets.tap("mine").unwrap().listing(), "['a.sql', 'b.sql']");
        let mut query = || sets.tap("mine").unwrap().query(&mut random, "u").unwrap();
        let queries: Vec<_> = std::iter::repeat_with(&mut query).take(50).collect();
        assert!(queries.iter().any(|query| query.ends_with(", 5")), "{queries:?}");
        assert!(queries.iter().any(|query| query.ends_with("AS \"{\"")), "{queries:?}");
        let query = sets.tap("dp0.1").unwrap().query(&mut random, "u").unwrap();
        assert_eq!(query, "SELECT 1.0");
        assert_eq!(sets.tap("dp0.2").unwrap().name, "dp0.2");
        assert!(sets.sia("dp02").unwrap().asks_as_mobu);
        assert_eq!(
            sets.tap("yours").unwrap_err().to_string(),
            "there is no query set `yours`; there are dp0.1, dp0.2, dp0.2-long-scans, dp0.2-med-scans, mine"
        );
        assert_eq!(
            sets.sia("mine").unwrap_err().to_string(),
            "there is no query set `mine`; there are dp02"
        );
    }

    #[test]
    fn all_mistakes_are_told_at_once_with_their_places() {
        let directory = directory(&[
            ("tap/a/open.sql", "SELECT {{ra"),
            ("tap/a/gap.sql", "SELECT {{object}}"),
            ("tap/b/parameters.json", "{\"min_ra\": 3, \"max_ra\": 2}"),
            ("tap/b/x.sql", "SELECT 1"),
            ("tap/c/parameters.json", "{\"max_raa\": 2}"),
            ("tap/c/objects.json", "[-1]"),
            ("tap/d/notes.txt", ""),
            ("sia/e/parameters.json", "{\"start_time\": 2, \"end_time\": 1}"),
        ]);
        let text = QuerySets::read(directory.path()).unwrap_err().to_string();
        for mistake in [
            "; tap/a/open.sql: a gap is opened by {{ and not closed by }}",
            "; tap/a/gap.sql: 'object' is undefined (query template `gap`)",
            "; tap/b/parameters.json: max_ra must not be below min_ra",
            "; tap/c/parameters.json: unknown field `max_raa`",
            "; tap/c/objects.json: invalid value",
            "; tap/d: there is no template (a file whose name ends in .sql)",
            "; sia/e/parameters.json: end_time must not be below start_time",
        ] {
            assert!(text.contains(mistake), "{mistake} in {text}");
        }
    }

    #[test]
    fn a_directory_without_sets_is_a_mistake() {
        let empty = directory(&[]);
        let text = QuerySets::read(empty.path()).unwrap_err().to_string();
        assert!(
            text.ends_with(": there is neither a folder tap/SET nor a folder sia/SET"),
            "{text}"
        );
        let text = QuerySets::read(&empty.path().join("none")).unwrap_err().to_string();
        assert!(text.contains("it is no directory that can be read"), "{text}");
    }
}
