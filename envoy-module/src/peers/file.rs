//! One file of peer lists, as it was when somebody last looked.

use std::collections::HashSet;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;

use super::listed::Listed;
use super::lists::Lists;
use crate::abi::{Level, log};
use crate::spiffe::SpiffeId;

/// A ConfigMap has at most as much.
const MAX_SIZE: u64 = 1024 * 1024;

/// The file that listeners, clusters and filters share.
#[derive(Debug)]
pub struct ListFile {
    path: PathBuf,
    reading: ArcSwap<Reading>,
    users: Mutex<Vec<Weak<Listed>>>,
}

/// What is in force, and what is wrong with the file since.
#[derive(Debug, Default)]
pub struct Reading {
    /// The last good ones; `None`: there have never been any.
    lists: Option<Arc<Lists>>,
    trouble: Option<String>,
}

/// What tells one content of a file from the next, also where a symbolic link on
/// the way there has been replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl ListFile {
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            reading: ArcSwap::default(),
            users: Mutex::default(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Calls `look` with the peers of an entry, or says why there are none.
    pub fn with<T>(
        &self,
        entry: &str,
        look: impl FnOnce(&HashSet<SpiffeId>) -> T,
    ) -> Result<T, String> {
        let reading = self.reading.load();
        let path = &self.path;
        match (&reading.lists, &reading.trouble) {
            (Some(lists), _) => match lists.of(entry) {
                Some(peers) => Ok(look(peers)),
                None => Err(format!("peers file {path:?} has no entry {entry:?}")),
            },
            (None, Some(trouble)) => {
                Err(format!("peers file {path:?}, entry {entry:?}: {trouble}"))
            }
            (None, None) => Err(format!(
                "peers file {path:?}, entry {entry:?}: not read yet"
            )),
        }
    }

    /// From now on `user` is told of changes.
    pub fn add(&self, user: &Arc<Listed>) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|user| user.strong_count() > 0);
        users.push(Arc::downgrade(user));
    }

    /// Reads the file if it is not what it was at `seen`. Blocks on the file system:
    /// for the thread that follows the file, and for no other.
    pub fn look(&self, seen: &mut Option<Mark>) {
        match read(&self.path, seen) {
            Ok(None) => {}
            Ok(Some(json)) => match Lists::parse(&json) {
                Ok(lists) => self.take(lists),
                Err(reason) => self.keep(format!("malformed: {reason}")),
            },
            Err(error) => {
                *seen = None;
                self.keep(format!("cannot be read: {error}"));
            }
        }
    }

    fn take(&self, lists: Lists) {
        let (path, count) = (&self.path, lists.len());
        let lists = Some(Arc::new(lists));
        let trouble = None;
        self.reading.store(Arc::new(Reading { lists, trouble }));
        log(
            Level::Info,
            &format!("peers file {path:?}: {count} entries"),
        );
        self.tell();
    }

    /// The lists that were good stay in force.
    fn keep(&self, trouble: String) {
        let before = self.reading.load_full();
        if before.trouble.as_ref() == Some(&trouble) {
            return;
        }
        let path = &self.path;
        match &before.lists {
            Some(_) => log(
                Level::Warn,
                &format!("peers file {path:?}: {trouble}; what was read before stays in force"),
            ),
            // At first it is the users who say it: Envoy is starting.
            None if before.trouble.is_none() => {}
            None => log(Level::Warn, &format!("peers file {path:?}: {trouble}")),
        }
        let (lists, trouble) = (before.lists.clone(), Some(trouble));
        self.reading.store(Arc::new(Reading { lists, trouble }));
    }

    fn tell(&self) {
        let users = {
            let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
            users.iter().filter_map(Weak::upgrade).collect::<Vec<_>>()
        };
        for user in users {
            user.notice(log);
        }
    }
}

impl Mark {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// The content, unless the file is what it was at `seen`, which is brought up to date.
fn read(path: &Path, seen: &mut Option<Mark>) -> io::Result<Option<Vec<u8>>> {
    if *seen == Some(Mark::of(&std::fs::metadata(path)?)) {
        return Ok(None);
    }
    // A pipe would have us wait for somebody to write.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    // Before the content: what is written meanwhile is another mark.
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let json = bounded(&file, found.len())?;
    *seen = Some(Mark::of(&found));
    Ok(Some(json))
}

fn bounded(file: &File, size: u64) -> io::Result<Vec<u8>> {
    let mut json = Vec::new();
    if size <= MAX_SIZE {
        file.take(MAX_SIZE + 1).read_to_end(&mut json)?;
    }
    if size.max(json.len() as u64) > MAX_SIZE {
        return Err(io::Error::other(format!(
            "it has more than {MAX_SIZE} bytes"
        )));
    }
    Ok(json)
}
