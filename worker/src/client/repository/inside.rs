//! Reading what a repository holds. Its authors choose what its links lead to, so that a path of a clone may end at a device that
//! never ends, at a pipe that nobody writes to, or at a file of this machine.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::GIT;

/// Why a file of a clone is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnreadFile {
    #[error("{0}")]
    File(#[from] io::Error),
    #[error("it leads out of the repository")]
    Outside,
    #[error("it is neither a file nor a link to one")]
    NoFile,
    #[error("the file is larger than {} MiB", .0 >> 20)]
    TooLarge(u64),
}

/// Reads a file below `root` that has at most so many bytes, wherever below `root` links lead. Blocks, but only for the disk.
pub(super) fn read(root: &Path, file: &Path, most: u64) -> Result<Vec<u8>, UnreadFile> {
    // Nobody writes to a clone, so what is found here is still there when it is opened.
    let root = root.canonicalize()?;
    let place = file.canonicalize()?;
    let below = place.strip_prefix(&root).map_err(|_| UnreadFile::Outside)?;
    // What git keeps for itself is no content, and may have the credentials of the remote repository.
    if below.starts_with(GIT) {
        return Err(UnreadFile::Outside);
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).expect("the flags of the system are of this type");
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(&place)?;
    let metadata = opened.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::from(Errno::ISDIR).into());
    }
    if !metadata.is_file() {
        return Err(UnreadFile::NoFile);
    }
    if metadata.len() > most {
        return Err(UnreadFile::TooLarge(most));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    opened.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(UnreadFile::TooLarge(most));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_within_the_repository_and_to_files_only() {
        let around = tempfile::tempdir().unwrap();
        let root = around.path().join("clone");
        fs::create_dir_all(root.join("a/.git")).unwrap();
        fs::create_dir(root.join(".git")).unwrap();
        for path in ["clone/a/file", "clone/a/.git/file", "clone/.git/config", "beside"] {
            fs::write(around.path().join(path), "text").unwrap();
        }
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), fifo, 0o600.into(), 0).unwrap();
        let absolute = root.join("a/file").display().to_string();
        let links = [
            ("within", "a/file"),
            ("absolute", &absolute),
            ("around", "../clone/a/file"),
            ("chain", "within"),
            ("nested", "a/.git/file"),
            ("beside", "../beside"),
            ("git", ".git/config"),
            ("endless", "/dev/zero"),
            ("empty", "/dev/null"),
            ("to-pipe", "pipe"),
            ("loop", "loop"),
            ("dangling", "nothing"),
            ("directory", "a"),
        ];
        for (name, target) in links {
            symlink(target, root.join(name)).unwrap();
        }
        let read = |name: &str| read(&root, &root.join(name), 4);
        for name in ["a/file", "within", "absolute", "around", "chain", "nested"] {
            assert_eq!(read(name).unwrap(), b"text", "{name}");
        }
        for (name, cause) in [
            ("beside", "it leads out of the repository"),
            ("git", "it leads out of the repository"),
            ("endless", "it leads out of the repository"),
            ("empty", "it leads out of the repository"),
            ("pipe", "it is neither a file nor a link to one"),
            ("to-pipe", "it is neither a file nor a link to one"),
            ("loop", "Too many levels of symbolic links"),
            ("dangling", "No such file or directory"),
            ("directory", "Is a directory"),
        ] {
            let error = read(name).unwrap_err().to_string();
            assert!(error.starts_with(cause), "{name}: {error}");
        }
    }

    #[test]
    fn what_is_larger_than_allowed_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, vec![b'x'; (1 << 20) + 1]).unwrap();
        let error = read(root.path(), &file, 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "the file is larger than 1 MiB");
        assert_eq!(read(root.path(), &file, (1 << 20) + 1).unwrap().len(), (1 << 20) + 1);
    }
}
