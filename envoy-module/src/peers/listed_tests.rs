//! Lists in files that are replaced, damaged and removed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;
use crate::abi::{Alive, fake};
use crate::peers::file::Mark;
use crate::testing::certificates::{CLIENT, SERVER};
use crate::testing::socket_path;

const ENTRY: &str = "server.demo";

/// A file that is looked at when the test says so.
struct Desk {
    path: PathBuf,
    file: Arc<ListFile>,
    seen: Option<Mark>,
}

impl Desk {
    fn new() -> Self {
        let path = socket_path().with_extension("json");
        Self::of(path)
    }

    fn of(path: PathBuf) -> Self {
        fake::install();
        let file = Arc::new(ListFile::new(&path));
        Self {
            path,
            file,
            seen: None,
        }
    }

    fn entry(&self, entry: &str) -> Arc<Listed> {
        let listed = Listed::of(self.file.clone(), entry);
        listed.notice(crate::abi::log);
        listed
    }

    /// Replaces the file as an editor does.
    fn write(&mut self, json: &str) {
        let new = self.path.with_extension("new");
        fs::write(&new, json).unwrap();
        fs::rename(&new, &self.path).unwrap();
        self.look();
    }

    fn look(&mut self) {
        self.file.look(&mut self.seen);
    }

    /// What has been logged since.
    fn said(&self) -> Vec<String> {
        let lines = fake::seen(|seen| std::mem::take(&mut seen.log));
        let path = format!("meshkey: peers file {:?}", self.path);
        let said = |line: String| line.strip_prefix(&path).unwrap().to_owned();
        lines.into_iter().map(said).collect()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn list(ids: &[&str]) -> String {
    serde_json::json!({ ENTRY: ids }).to_string()
}

fn accepted(listed: &Listed) -> [bool; 2] {
    [CLIENT, SERVER].map(|id| listed.check(&id.parse().unwrap()).is_ok())
}

fn refusal(listed: &Listed) -> String {
    let failure = listed.check(&CLIENT.parse().unwrap()).unwrap_err();
    assert_eq!(failure.reason, Reason::PeerUnexpected);
    failure.detail
}

#[test]
fn a_list_that_comes_later_heals_and_its_changes_count() {
    let mut desk = Desk::new();
    let listed = desk.entry(ENTRY);
    desk.look();
    let why = format!(
        "peer {CLIENT} is not accepted: peers file {:?}, entry {ENTRY:?}: cannot be read: No such \
         file or directory (os error 2)",
        desk.path
    );
    assert_eq!(refusal(&listed), why);
    desk.write(&list(&[CLIENT]));
    assert_eq!(accepted(&listed), [true, false]);
    desk.write(&list(&[CLIENT, SERVER]));
    assert_eq!(accepted(&listed), [true, true]);
    desk.write(&list(&[SERVER]));
    assert_eq!(accepted(&listed), [false, true]);
    let why = format!(
        "peer {CLIENT} is not in entry {ENTRY:?} of peers file {:?}",
        desk.path
    );
    assert_eq!(refusal(&listed), why);
}

#[test]
fn an_entry_that_a_good_file_lacks_accepts_nobody() {
    let mut desk = Desk::new();
    desk.write(&list(&[CLIENT]));
    let (listed, other) = (desk.entry(ENTRY), desk.entry("other"));
    assert_eq!(accepted(&other), [false, false]);
    assert!(refusal(&other).ends_with("has no entry \"other\""));
    assert_eq!(accepted(&listed), [true, false]);
    desk.write("{}");
    assert_eq!(accepted(&listed), [false, false]);
    desk.write(&list(&[CLIENT]));
    assert_eq!(accepted(&listed), [true, false]);
}

#[test]
fn a_file_that_turns_bad_keeps_what_was_good_and_says_so_once() {
    let _alive = Alive::new();
    let mut desk = Desk::new();
    desk.write(&list(&[CLIENT]));
    let listed = desk.entry(ENTRY);
    assert_eq!(desk.said(), [": 1 entries"]);
    desk.write("{");
    desk.look();
    let said = desk.said();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with(": malformed: EOF"), "{said:?}");
    assert!(said[0].ends_with("; what was read before stays in force"));
    fs::remove_file(&desk.path).unwrap();
    desk.look();
    desk.look();
    assert_eq!(desk.said().len(), 1);
    assert_eq!(accepted(&listed), [true, false]);
    desk.write(&list(&[SERVER]));
    assert_eq!(desk.said(), [": 1 entries"]);
    assert_eq!(accepted(&listed), [false, true]);
}

#[test]
fn a_list_is_said_to_be_missing_and_to_be_there_once() {
    let _alive = Alive::new();
    let mut desk = Desk::new();
    desk.look();
    let listed = desk.entry(ENTRY);
    let until = "; nobody is accepted until it is there";
    let said = desk.said();
    assert!(said.len() == 1 && said[0].ends_with(until), "{said:?}");
    assert!(*listed.missing.lock().unwrap());
    desk.write("{}");
    desk.write(&list(&[CLIENT]));
    let there = format!(" has entry {ENTRY:?}: 1 peers");
    assert_eq!(desk.said(), [": 0 entries", ": 1 entries", there.as_str()]);
    assert!(!*listed.missing.lock().unwrap());
    desk.write("{}");
    let gone = format!(" has no entry {ENTRY:?}{until}");
    assert_eq!(desk.said(), [": 0 entries", gone.as_str()]);
    assert!(*listed.missing.lock().unwrap());
}

#[test]
fn a_symbolic_link_on_the_way_may_be_replaced() {
    // As the kubelet does: peers.json -> ..data/peers.json, ..data -> a directory.
    let volume = socket_path().with_extension("volume");
    let generation = |name: &str, ids: &[&str]| {
        fs::create_dir_all(volume.join(name)).unwrap();
        fs::write(volume.join(name).join("peers.json"), list(ids)).unwrap();
        symlink(name, volume.join("..new")).unwrap();
        fs::rename(volume.join("..new"), volume.join("..data")).unwrap();
    };
    generation("..1", &[CLIENT]);
    symlink("..data/peers.json", volume.join("peers.json")).unwrap();
    let mut desk = Desk::of(volume.join("peers.json"));
    let listed = desk.entry(ENTRY);
    desk.look();
    assert_eq!(accepted(&listed), [true, false]);
    // Of the same size.
    generation("..2", &[SERVER]);
    fs::remove_dir_all(volume.join("..1")).unwrap();
    desk.look();
    assert_eq!(accepted(&listed), [false, true]);
    fs::remove_dir_all(&volume).unwrap();
}

#[test]
fn what_is_too_large_or_no_file_is_refused_without_being_read() {
    let mut desk = Desk::new();
    let listed = desk.entry(ENTRY);
    desk.write(&format!("{}{}", " ".repeat(1024 * 1024), list(&[CLIENT])));
    assert!(refusal(&listed).ends_with("it has more than 1048576 bytes"));
    let mut desk = Desk::of(std::env::temp_dir());
    let listed = desk.entry(ENTRY);
    desk.look();
    assert!(refusal(&listed).contains("no regular file"));
    desk.path = PathBuf::new();
    let pipe = socket_path().with_extension("pipe");
    let name = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
    // SAFETY: a terminated string that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let mut desk = Desk::of(pipe);
    let listed = desk.entry(ENTRY);
    desk.look();
    assert!(refusal(&listed).contains("no regular file"));
}

#[test]
fn one_thread_follows_a_file_for_all_that_use_it() {
    let path = socket_path().with_extension("json");
    fs::write(&path, list(&[CLIENT])).unwrap();
    let (one, two) = (watch::open(&path).unwrap(), watch::open(&path).unwrap());
    assert!(Arc::ptr_eq(&one, &two));
    let listed = Listed::of(one, ENTRY);
    crate::testing::until("the first look", || accepted(&listed)[0]);
    fs::remove_file(&path).unwrap();
    let watched = Arc::downgrade(&two);
    drop((two, listed));
    crate::testing::until("the end of its thread's work", || {
        watched.upgrade().is_none()
    });
}
