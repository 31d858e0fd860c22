//! One entry of a file of peer lists, as a listener, a cluster or a filter uses it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::file::ListFile;
use super::watch;
use crate::abi::{Level, log_unguarded};
use crate::failure::{Failure, Reason};
use crate::spiffe::SpiffeId;
use crate::stats::{self, Gauge};

/// The peers of the entry, whoever they are at the moment. While there is no such
/// list nobody is accepted, and a gauge says so.
#[derive(Debug)]
pub struct Listed {
    file: Arc<ListFile>,
    entry: String,
    missing: Mutex<bool>,
}

impl Listed {
    /// In a `config_new` hook.
    pub fn open(path: &Path, entry: &str) -> Result<Arc<Self>, String> {
        let listed = Self::of(watch::open(path)?, entry);
        listed.notice(log_unguarded);
        Ok(listed)
    }

    fn of(file: Arc<ListFile>, entry: &str) -> Arc<Self> {
        let listed = Arc::new(Self {
            file,
            entry: entry.to_owned(),
            missing: Mutex::new(false),
        });
        listed.file.add(&listed);
        listed
    }

    pub fn check(&self, peer: &SpiffeId) -> Result<(), Failure> {
        let detail = match self.file.with(&self.entry, |peers| peers.contains(peer)) {
            Ok(true) => return Ok(()),
            Ok(false) => {
                let (path, entry) = (self.file.path(), &self.entry);
                format!("peer {peer} is not in entry {entry:?} of peers file {path:?}")
            }
            Err(why) => format!("peer {peer} is not accepted: {why}"),
        };
        Err(Failure::new(Reason::PeerUnexpected, detail))
    }

    /// Says when the list comes or goes. Any thread.
    pub fn notice(&self, log: impl FnOnce(Level, &str)) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        match self.file.with(&self.entry, |peers| peers.len()) {
            Err(why) if !*missing => {
                *missing = true;
                stats::raise(Gauge::ListsMissing);
                let line = format!("{why}; nobody is accepted until it is there");
                log(Level::Warn, &line);
            }
            Ok(count) if *missing => {
                *missing = false;
                stats::lower(Gauge::ListsMissing);
                let (path, entry) = (self.file.path(), &self.entry);
                let line = format!("peers file {path:?} has entry {entry:?}: {count} peers");
                log(Level::Info, &line);
            }
            _ => {}
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        if *self
            .missing
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
        {
            stats::lower(Gauge::ListsMissing);
        }
    }
}

#[cfg(test)]
#[path = "listed_tests.rs"]
mod tests;
