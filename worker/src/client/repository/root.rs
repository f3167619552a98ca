//! The one directory of all clones of a replica, and what processes before this one left of theirs.
//!
//! A directory belongs to a process for as long as that holds a lock in it. The system lets go of the lock with the process,
//! however that ended, so that whoever comes next knows which directories nobody will ever remove.

use std::fs::{self, DirEntry, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tracing::{info, warn};

/// How the names of such directories begin.
const PREFIX: &str = "mobu-notebooks-";
/// The file that is locked.
const LOCK: &str = "lock";

/// The directory of all clones. It goes with what is in it when it is dropped.
#[derive(Debug)]
pub(super) struct Root {
    directory: TempDir,
    /// Locked as long as it is open.
    _lock: File,
}

impl Root {
    /// Makes the directory, and removes those that nobody owns any more.
    pub(super) fn create(parent: &Path) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        // Under its own name, the file has never been without its lock.
        let unnamed = directory.path().join("new");
        let lock = File::create_new(&unnamed)?;
        lock.lock()?;
        fs::rename(unnamed, directory.path().join(LOCK))?;
        if let Err(error) = sweep(parent, directory.path()) {
            warn!(error = %error, "cannot look for clones that earlier processes have left");
        }
        Ok(Self { directory, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

fn sweep(parent: &Path, own: &Path) -> io::Result<()> {
    let owner = fs::symlink_metadata(own)?.uid();
    for entry in fs::read_dir(parent)? {
        // What another process removes meanwhile is gone, and what belongs to others stays.
        if let Ok(entry) = entry
            && let Some(left) = abandoned(&entry, owner)
        {
            match fs::remove_dir_all(&left) {
                Ok(()) => info!("removed {}, which an earlier process has left", left.display()),
                Err(error) => {
                    warn!(error = %error, "cannot remove {}, which an earlier process has left", left.display());
                }
            }
        }
    }
    Ok(())
}

/// Returns the path of a directory like ours whose process is gone.
fn abandoned(entry: &DirEntry, owner: u32) -> Option<PathBuf> {
    if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
        return None;
    }
    // Says what the entry itself is, not what a link leads to.
    let metadata = entry.metadata().ok()?;
    if !metadata.is_dir() || metadata.uid() != owner {
        return None;
    }
    let path = entry.path();
    let lock = File::open(path.join(LOCK)).ok()?;
    lock.try_lock().ok()?;
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(parent: &Path) -> Vec<PathBuf> {
        let mut names: Vec<_> = fs::read_dir(parent)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_dead_process_left_goes_and_what_a_living_one_uses_stays() {
        let parent = tempfile::tempdir().unwrap();
        let dead = Root::create(parent.path()).unwrap();
        let Root { directory, _lock: lock } = dead;
        fs::write(directory.path().join("file"), "x").unwrap();
        let left = directory.keep();
        let foreign = parent.path().join("mobu-notebooks-x");
        fs::create_dir(&foreign).unwrap();
        let living = Root::create(parent.path()).unwrap();
        assert!(left.is_dir(), "its lock is still held");
        drop(lock);
        let other = Root::create(parent.path()).unwrap();
        let mut expected = vec![foreign, living.path().to_owned(), other.path().to_owned()];
        expected.sort();
        assert_eq!(names(parent.path()), expected);
        drop((living, other));
        assert_eq!(names(parent.path()).len(), 1);
    }
}
