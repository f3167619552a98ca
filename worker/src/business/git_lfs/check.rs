//! One check, step by step (`contracts/businesses.md` 10), in a directory of its own.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use mobu_fleet::domain::business::GitLfsOptions;
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use tracing::warn;
use url::Url;

use crate::business::Phase;
use crate::client::git::{Git, GitError, LIMIT};
use crate::client::shown::plain;
use crate::monkey::Monkey;

/// All of git's configuration. Nothing may go on in the background of a directory that is about to be removed.
const CONFIG: &str = "\
[user]
\temail = gituser@example.com
\tname = Git User
[receive]
\tdenyCurrentBranch = ignore
[lfs]
\tlocksverify = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
";
/// A file that Git LFS has nothing to do with.
const README: &str = "# Throw me away\n\nA monkey checks Git LFS with this repository, and removes it afterwards.\n";
/// Which files Git LFS has to do with.
const ATTRIBUTES: &str = "assets/* filter=lfs diff=lfs merge=lfs -text\n";
/// How what stands in for such a file begins.
const POINTER: &str = "version https://git-lfs.github.com/spec/v1";
/// As whom the token is presented.
const USER: &str = "gituser";
/// Most bytes that are read of a file to compare it.
const COMPARED: u64 = 4096;

/// A check that is prepared: its directory is there.
#[derive(Debug)]
pub(super) struct Check<'a> {
    git: Git<'a>,
    options: &'a GitLfsOptions,
    write_url: WriteUrl,
    payload: String,
    directory: TempDir,
}

/// Why a check failed. Never says the token.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    #[error("lfs_write_url `{url}` is no URL with a host, for which git could have a password")]
    WriteUrl { url: String },
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("cannot {what}")]
    File { what: &'static str, source: io::Error },
    #[error("Comparison failed: expected '{expected}', but received '{received}'")]
    Comparison { expected: String, received: String },
}

/// The parts of the write URL by which git finds a password.
#[derive(Debug)]
struct WriteUrl {
    scheme: String,
    /// With the port, if it has one.
    host: String,
}

impl WriteUrl {
    fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let host = url.host_str().filter(|host| !host.is_empty())?;
        Some(Self {
            scheme: url.scheme().to_owned(),
            host: match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            },
        })
    }
}

/// Says which work with a file failed.
fn file(what: &'static str) -> impl FnOnce(io::Error) -> CheckError {
    move |source| CheckError::File { what, source }
}

impl<'a> Check<'a> {
    /// Makes the directory with the configuration.
    pub(super) fn prepare(monkey: &'a Monkey, options: &'a GitLfsOptions, payload: String) -> Result<Self, CheckError> {
        let write_url = WriteUrl::parse(&options.lfs_write_url).ok_or_else(|| CheckError::WriteUrl {
            url: plain(options.lfs_write_url.as_bytes(), &monkey.user().token),
        })?;
        let directory = tempfile::Builder::new()
            .prefix("mobu-git-lfs-")
            .tempdir()
            .map_err(file("make a temporary directory"))?;
        let config = directory.path().join("gitconfig");
        fs::write(&config, CONFIG).map_err(file("write git's configuration"))?;
        let home = directory.path().join("home");
        fs::create_dir(&home).map_err(file("make a home for git"))?;
        let git = Git {
            monkey,
            config,
            home,
            limit: LIMIT,
        };
        Ok(Self {
            git,
            options,
            write_url,
            payload,
            directory,
        })
    }

    /// Does all steps, or as many as work. The files are small, so that reading and writing them needs no thread of its own.
    pub(super) async fn run(&self) -> Result<(), CheckError> {
        let (origin, checkout, clone) = (self.path("origin"), self.path("checkout"), self.path("clone"));
        let monkey = self.git.monkey;
        monkey.enter(Phase::CreateOrigin);
        self.create_origin(&origin).await?;
        monkey.enter(Phase::AddAsset);
        self.git
            .run(self.root(), &["clone", &text(&origin), &text(&checkout)])
            .await?;
        self.add_asset(&checkout).await?;
        monkey.enter(Phase::PushAsset);
        self.push(&checkout).await?;
        monkey.enter(Phase::VerifyOrigin);
        self.verify_origin(&origin).await?;
        monkey.enter(Phase::VerifyAsset);
        self.clone_with_asset(&origin, &clone).await?;
        compare(&self.payload, &read(&clone.join(self.asset()))?, self.token())
    }

    /// Removes the directory. Dropping the check does the same, but keeps a thread waiting for it.
    pub(super) async fn tidy_up(self) {
        let directory = self.directory;
        let removed = tokio::task::spawn_blocking(move || directory.close()).await;
        if let Ok(Err(error)) = removed {
            warn!(error = %error, "cannot remove the directory of a Git LFS check");
        }
    }

    async fn create_origin(&self, origin: &Path) -> Result<(), CheckError> {
        self.git
            .run(self.root(), &["init", "--initial-branch=main", &text(origin)])
            .await?;
        fs::write(origin.join("README.md"), README).map_err(file("write README.md"))?;
        let config = format!("[lfs]\n\turl = {}\n", config_value(&self.options.lfs_read_url));
        fs::write(origin.join(".lfsconfig"), config).map_err(file("write .lfsconfig"))?;
        self.git.run(origin, &["add", "README.md"]).await?;
        self.git.run(origin, &["add", ".lfsconfig"]).await?;
        Ok(self.git.run(origin, &["commit", "-am", "Initial commit"]).await?)
    }

    async fn add_asset(&self, checkout: &Path) -> Result<(), CheckError> {
        self.git.run(checkout, &["lfs", "install", "--local"]).await?;
        fs::write(checkout.join(".gitattributes"), ATTRIBUTES).map_err(file("write .gitattributes"))?;
        self.git.run(checkout, &["add", ".gitattributes"]).await?;
        // Not by a command, whose line everybody on the machine can read: the URL may have a password.
        let config = format!("[lfs]\n\turl = {}\n", config_value(&self.options.lfs_write_url));
        append(&checkout.join(".git/config"), &config).map_err(file("write .git/config"))?;
        let asset = self.asset();
        fs::create_dir(checkout.join("assets")).map_err(file("make the directory of assets"))?;
        fs::write(checkout.join(&asset), &self.payload).map_err(file("write the asset"))?;
        self.git.run(checkout, &["add", &asset]).await?;
        let message = "Add git-lfs tracked assets";
        Ok(self.git.run(checkout, &["commit", "-am", message]).await?)
    }

    async fn push(&self, checkout: &Path) -> Result<(), CheckError> {
        let WriteUrl { scheme, host } = &self.write_url;
        let credentials = Credentials {
            path: self.path(".git_credentials"),
        };
        let helper = format!("store --file {}", shell_word(&text(&credentials.path)));
        let key = format!("credential.{scheme}://{host}.helper");
        self.git.run(checkout, &["config", "--local", &key, &helper]).await?;
        let line = format!("{scheme}://{USER}:{}@{host}\n", self.token().expose_secret());
        credentials.write(&line).map_err(file("write the credentials"))?;
        let pushed = self.git.run(checkout, &["push", "origin", "main"]).await;
        credentials.remove().map_err(file("remove the credentials"))?;
        Ok(pushed?)
    }

    async fn verify_origin(&self, origin: &Path) -> Result<(), CheckError> {
        self.git.run(origin, &["reset", "--hard"]).await?;
        compare(README, &read(&origin.join("README.md"))?, self.token())?;
        let pointer = read(&origin.join(self.asset()))?;
        let first = pointer.split(|byte| *byte == b'\n').next().unwrap_or_default();
        compare(POINTER, first, self.token())
    }

    async fn clone_with_asset(&self, origin: &Path, clone: &Path) -> Result<(), CheckError> {
        // What follows writes to the configuration, which is to stay as it is for the other repositories.
        let config = self.path("gitconfig-clone");
        fs::copy(&self.git.config, &config).map_err(file("copy git's configuration"))?;
        let git = Git {
            monkey: self.git.monkey,
            config,
            home: self.git.home.clone(),
            limit: self.git.limit,
        };
        git.run(self.root(), &["lfs", "install"]).await?;
        git.run(self.root(), &["clone", &text(origin), "-b", "main", &text(clone)])
            .await?;
        Ok(git.run(clone, &["pull"]).await?)
    }

    fn asset(&self) -> String {
        format!("assets/{}", self.payload)
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    fn token(&self) -> &SecretString {
        &self.git.monkey.user().token
    }
}

/// The file with the token, which is there for as short as possible, however the push ends.
struct Credentials {
    path: PathBuf,
}

impl Credentials {
    fn write(&self, line: &str) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options.open(&self.path)?.write_all(line.as_bytes())
    }

    /// Removes the file; git itself has done so if the service did not want what is in it.
    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            warn!(error = %error, "cannot remove the credentials of a Git LFS check");
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CheckError> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(COMPARED).read_to_end(&mut bytes))
        .map_err(file("read a file of the repository"))?;
    Ok(bytes)
}

fn compare(expected: &str, received: &[u8], token: &SecretString) -> Result<(), CheckError> {
    if expected.as_bytes() == received {
        return Ok(());
    }
    Err(CheckError::Comparison {
        expected: expected.to_owned(),
        received: plain(received, token),
    })
}

/// Returns a path as an argument. Ours are below the system's temporary directory and have ordinary names.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Returns a value as git's configuration quotes it.
fn config_value(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(text.as_bytes())
}

/// Returns a word that the shell, through which git calls its helpers, takes as it is.
fn shell_word(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_kept_for_the_host_and_port_of_the_write_url() {
        let parts = |text| WriteUrl::parse(text).map(|url| (url.scheme, url.host));
        let wanted = ("https".to_owned(), "lfs.test:8443".to_owned());
        assert_eq!(parts("https://lfs.test:8443/a/b.git/info/lfs"), Some(wanted));
        assert_eq!(
            parts("http://u:p@lfs.test/"),
            Some(("http".to_owned(), "lfs.test".to_owned()))
        );
        assert_eq!(parts("lfs.test/x"), None);
        assert_eq!(parts("file:///x"), None);
    }

    #[test]
    fn what_is_not_as_expected_is_said_without_the_token() {
        let token = SecretString::from("gt-key.secret");
        assert!(compare("abc", b"abc", &token).is_ok());
        let error = compare("abc", b"a gt-key.secret", &token).unwrap_err().to_string();
        assert_eq!(error, "Comparison failed: expected 'abc', but received 'a gt-key.***'");
    }

    #[test]
    fn values_and_words_are_quoted() {
        assert_eq!(config_value("a;#\"b\\\n"), "\"a;#\\\"b\\\\\\n\"");
        assert_eq!(shell_word("/a b/it's"), "'/a b/it'\\''s'");
    }
}
