//! What the tests stand on: certificates, and a signer with a key in memory.

pub mod certificates;
pub mod signer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::signer::link::Address;

/// A path for a Unix socket that nobody else uses.
pub fn socket_path() -> PathBuf {
    static LAST: AtomicUsize = AtomicUsize::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("mk-{}-{number}.sock", std::process::id()))
}

/// The default identity of a signer that asks for no token.
pub fn address(signer: &Path) -> Address {
    Address {
        signer: signer.to_owned(),
        identity: "default".to_owned(),
        token_file: None,
    }
}

/// Polls until `condition()` holds.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let bound = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < bound, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
