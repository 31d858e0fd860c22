//! What the tests stand on: certificates, and a signer with a key in memory.

pub mod certificates;
pub mod signer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A path for a Unix socket that nobody else uses.
pub fn socket_path() -> PathBuf {
    static LAST: AtomicUsize = AtomicUsize::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("mk-{}-{number}.sock", std::process::id()))
}
