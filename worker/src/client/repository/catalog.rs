//! What there is to run in a clone: the repository's own configuration, and its notebooks with what they ask for.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mobu_fleet::domain::business::RepositoryConfig;
use mobu_fleet::domain::validation::ValidationErrors;
use mobu_fleet::runtime::config::{Mistake, parse_yaml};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::GIT;
use super::inside::{UnreadFile, read};
use super::notebook::{Notebook, NotebookError, read_json};

/// The repository's own configuration, at its root.
const CONFIG: &str = "mobu.yaml";
/// Largest such file, in bytes.
const MAX_CONFIG: u64 = 1 << 20;
/// How the names of notebooks end, in this case only.
const NOTEBOOK: &str = ".ipynb";

/// What there is to run in a clone.
#[derive(Debug)]
pub(crate) struct Catalog {
    /// The repository's own configuration.
    pub(crate) config: RepositoryConfig,
    /// All notebooks, by path.
    pub(crate) notebooks: Vec<Listed>,
}

/// What is at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EntryKind {
    /// A file, or anything else that holds no entries.
    File,
    /// A link to a directory.
    LinkToDirectory,
    /// A directory.
    Directory,
}

/// A notebook of a clone.
#[derive(Debug)]
pub(crate) struct Listed {
    /// Its path in the repository.
    pub(crate) path: String,
    /// Where it is.
    pub(crate) file: PathBuf,
    /// What it is, unless it is a file after all.
    pub(crate) kind: EntryKind,
    /// Applications without which it cannot run.
    pub(crate) required_applications: BTreeSet<String>,
    /// What it says, once somebody has asked.
    pub(super) content: OnceCell<Arc<Notebook>>,
}

impl Listed {
    pub(crate) fn new(path: String, file: PathBuf, kind: EntryKind) -> Self {
        Self {
            path,
            file,
            kind,
            required_applications: BTreeSet::new(),
            content: OnceCell::new(),
        }
    }

    /// Its name without the directories.
    pub(crate) fn base_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// Why nobody can say what there is to run. The texts are mobu's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CatalogError {
    /// The repository's configuration is wrong.
    #[error("Error parsing config file: {CONFIG}")]
    Config(#[source] ConfigError),
    /// The metadata of a notebook are wrong.
    #[error("Invalid notebook metadata {name}: {cause}")]
    Metadata {
        /// Its base name.
        name: String,
        /// What is wrong.
        cause: NotebookError,
    },
    /// The clone cannot be read.
    #[error("cannot look for notebooks in the clone")]
    Unread(#[source] io::Error),
}

/// What is wrong with the repository's configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("the file cannot be read: {0}")]
    Unread(#[from] UnreadFile),
    #[error("the file is no UTF-8")]
    Encoding(#[from] std::str::Utf8Error),
    #[error("{0}")]
    Yaml(Mistake),
    #[error("{0}")]
    Content(#[from] ValidationErrors),
}

/// The part of a notebook that says what it needs.
#[derive(Debug, Deserialize)]
struct Document {
    metadata: Metadata,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    #[serde(default)]
    mobu: Needs,
}

#[derive(Debug, Default, Deserialize)]
struct Needs {
    #[serde(default)]
    required_applications: BTreeSet<String>,
}

impl Catalog {
    /// Reads a clone. Blocks.
    pub(super) fn read(root: &Path) -> Result<Self, CatalogError> {
        let config = read_config(root).map_err(CatalogError::Config)?;
        let mut notebooks = Vec::new();
        for (file, kind) in find(root).map_err(CatalogError::Unread)? {
            let path = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
            let mut listed = Listed::new(path, file, kind);
            let document: Result<Document, _> = read_json(root, &listed.file);
            let document = document.map_err(|cause| CatalogError::Metadata {
                name: listed.base_name().to_owned(),
                cause,
            })?;
            listed.required_applications = document.metadata.mobu.required_applications;
            notebooks.push(listed);
        }
        Ok(Self { config, notebooks })
    }
}

fn read_config(root: &Path) -> Result<RepositoryConfig, ConfigError> {
    let bytes = match read(root, &root.join(CONFIG), MAX_CONFIG) {
        Err(UnreadFile::File(error)) if error.kind() == ErrorKind::NotFound => return Ok(RepositoryConfig::default()),
        read => read?,
    };
    parse_config(&bytes)
}

/// Reads the content of a repository's own configuration.
pub(crate) fn parse_config(bytes: &[u8]) -> Result<RepositoryConfig, ConfigError> {
    let value = parse_yaml(CONFIG, std::str::from_utf8(bytes)?).map_err(ConfigError::Yaml)?;
    Ok(RepositoryConfig::parse(&value)?)
}

/// Finds everything that is named like a notebook, sorted, without following links to directories.
fn find(root: &Path) -> io::Result<Vec<(PathBuf, EntryKind)>> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let (name, path) = (entry.file_name(), entry.path());
            if directory == root && name == GIT {
                continue;
            }
            let file_type = entry.file_type()?;
            let kind = if file_type.is_dir() {
                directories.push(path.clone());
                EntryKind::Directory
            } else if file_type.is_symlink() && path.is_dir() {
                EntryKind::LinkToDirectory
            } else {
                EntryKind::File
            };
            if name.to_string_lossy().ends_with(NOTEBOOK) {
                found.push((path, kind));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn notebooks_are_found_wherever_they_are_but_in_gits_own_directory() {
        let root = tree(&[
            ("b.ipynb", r#"{"metadata": {}}"#),
            (
                "a/.hidden/é.ipynb",
                r#"{"metadata": {"mobu": {"required_applications": ["tap", "tap"], "x": 1}}}"#,
            ),
            (
                "a/.git/c.ipynb",
                r#"{"metadata": {"mobu": {"required_services": ["tap"]}}}"#,
            ),
            (".git/refs/heads/d.ipynb", "0123"),
            ("e.IPYNB", ""),
            ("mobu.yaml", "exclude_dirs: [a]"),
        ]);
        std::os::unix::fs::symlink("a", root.path().join("link")).unwrap();
        let catalog = Catalog::read(root.path()).unwrap();
        let paths: Vec<_> = catalog.notebooks.iter().map(|listed| listed.path.as_str()).collect();
        assert_eq!(paths, ["a/.git/c.ipynb", "a/.hidden/é.ipynb", "b.ipynb"]);
        let needs = |index: usize| catalog.notebooks[index].required_applications.len();
        assert_eq!([needs(0), needs(1), needs(2)], [0, 1, 0]);
        assert_eq!(catalog.notebooks[1].base_name(), "é.ipynb");
        assert_eq!(catalog.config.exclude_dirs.len(), 1);
    }

    #[test]
    fn metadata_that_are_wrong_name_the_notebook() {
        for (text, cause) in [
            ("", "EOF while parsing a value"),
            ("{}", "missing field `metadata`"),
            ("[]", "invalid length 0"),
            (r#"{"metadata": {"mobu": null}}"#, "invalid type: null"),
            (
                r#"{"metadata": {"mobu": {"required_applications": "tap"}}}"#,
                "invalid type: string",
            ),
        ] {
            let root = tree(&[("a/x.ipynb", text)]);
            let error = Catalog::read(root.path()).unwrap_err().to_string();
            let expected = format!("Invalid notebook metadata x.ipynb: {cause}");
            assert!(error.starts_with(&expected), "{error}");
        }
        let root = tree(&[("dir.ipynb/x", "")]);
        let error = Catalog::read(root.path()).unwrap_err().to_string();
        assert!(
            error.starts_with("Invalid notebook metadata dir.ipynb: Is a directory"),
            "{error}"
        );
    }

    #[test]
    fn links_to_what_is_no_file_of_the_repository_fail_with_its_name_and_do_not_hang() {
        for (name, target) in [
            ("x.ipynb", "/dev/zero"),
            ("mobu.yaml", "/dev/zero"),
            ("mobu.yaml", "/etc/passwd"),
        ] {
            let root = tree(&[]);
            std::os::unix::fs::symlink(target, root.path().join(name)).unwrap();
            let error = Catalog::read(root.path()).unwrap_err();
            let text = mobu_fleet::runtime::process::chain(&error);
            assert!(
                text.contains(name) && text.ends_with("it leads out of the repository"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_configuration_that_is_wrong_says_where() {
        for (text, cause) in [
            ("", "Input should be a valid dictionary"),
            ("a: [", "mobu.yaml:"),
            ("exclude: []", "exclude: Extra inputs are not permitted"),
            ("\u{0}", "mobu.yaml"),
        ] {
            let error = Catalog::read(tree(&[("mobu.yaml", text)]).path()).unwrap_err();
            assert_eq!(error.to_string(), "Error parsing config file: mobu.yaml");
            let source = error.source().unwrap().to_string();
            assert!(source.contains(cause), "{text:?}: {source}");
        }
    }
}
