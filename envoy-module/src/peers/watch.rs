//! One thread for each file, however many listeners and clusters use it.
//!
//! Looking costs a stat a second. inotify would have to follow every symbolic link
//! on the way to the file, which is how the kubelet replaces one, and says nothing
//! on some network file systems.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::file::ListFile;

const PERIOD: Duration = Duration::from_secs(1);
/// For how long a configuration waits for the first look, so that the handshakes
/// right after it are not refused for nothing. A file system that hangs does not
/// hold Envoy up for longer.
const FIRST_LOOK: Duration = Duration::from_millis(250);

static FILES: Mutex<Option<HashMap<PathBuf, Weak<ListFile>>>> = Mutex::new(None);

/// The file at `path`, followed from now on until nobody holds it any more.
pub fn open(path: &Path) -> Result<Arc<ListFile>, String> {
    let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    let files = files.get_or_insert_default();
    if let Some(file) = files.get(path).and_then(Weak::upgrade) {
        return Ok(file);
    }
    let file = Arc::new(ListFile::new(path));
    let (looked, first_look) = channel();
    let watched = Arc::downgrade(&file);
    std::thread::Builder::new()
        .name("meshkey-peers".to_owned())
        .spawn(move || follow(&watched, &looked))
        .map_err(|error| format!("peers file {path:?}: no thread to follow it: {error}"))?;
    let _ = first_look.recv_timeout(FIRST_LOOK);
    files.retain(|_, file| file.strong_count() > 0);
    files.insert(path.to_owned(), Arc::downgrade(&file));
    Ok(file)
}

fn follow(watched: &Weak<ListFile>, looked: &Sender<()>) {
    let mut seen = None;
    while let Some(file) = watched.upgrade() {
        file.look(&mut seen);
        drop(file);
        let _ = looked.send(());
        std::thread::sleep(PERIOD);
    }
}
