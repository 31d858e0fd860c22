//! An Envoy that remembers what was asked of it, on each thread for itself.

use std::cell::RefCell;
use std::collections::HashMap;

use super::*;

/// What the calling thread has asked for since it called [`install`].
#[derive(Default)]
pub struct Seen {
    pub log: Vec<String>,
    pub filter_state: HashMap<String, String>,
    /// Setting this key is reported as done and changes nothing, as on a conflict.
    pub fixed_filter_state: Option<String>,
    /// By its namespace and key.
    pub metadata: HashMap<[String; 2], String>,
    pub closed: usize,
    pub continued: usize,
    pub commits: usize,
    pub woken: Vec<usize>,
}

thread_local! {
    static SEEN: RefCell<Seen> = RefCell::default();
}

/// Makes this the Envoy of the test process.
pub fn install() {
    let host = HOST.get_or_init(|| {
        Ok(Host {
            log,
            log_enabled,
            network_filter_read_enabled,
            network_filter_continue_reading,
            network_filter_close,
            network_set_filter_state_bytes,
            network_get_filter_state_bytes,
            network_set_dynamic_metadata_string,
            network_get_dynamic_metadata_string,
            network_filter_scheduler_commit,
            transport_socket_set_is_readable,
            ..Host::inert()
        })
    });
    assert!(host.is_ok());
    SEEN.take();
}

pub fn seen<T>(look: impl FnOnce(&mut Seen) -> T) -> T {
    SEEN.with_borrow_mut(look)
}

fn text(bytes: Bytes) -> String {
    // SAFETY: the caller's borrow lasts until its callback has returned.
    String::from_utf8_lossy(unsafe { bytes.as_slice() }).into_owned()
}

unsafe extern "C" fn log(_: c_int, line: Bytes) {
    seen(|seen| seen.log.push(text(line)));
}

unsafe extern "C" fn log_enabled(_: c_int) -> bool {
    true
}

unsafe extern "C" fn network_filter_read_enabled(_: *mut c_void) -> bool {
    true
}

unsafe extern "C" fn network_filter_continue_reading(_: *mut c_void) {
    seen(|seen| seen.continued += 1);
}

unsafe extern "C" fn network_filter_close(_: *mut c_void, _: c_int) {
    seen(|seen| seen.closed += 1);
}

unsafe extern "C" fn network_set_filter_state_bytes(_: *mut c_void, key: Bytes, to: Bytes) -> bool {
    seen(|seen| {
        let key = text(key);
        if seen.fixed_filter_state.as_ref() != Some(&key) {
            seen.filter_state.insert(key, text(to));
        }
    });
    true
}

unsafe extern "C" fn network_get_filter_state_bytes(
    _: *mut c_void,
    key: Bytes,
    value: *mut Bytes,
) -> bool {
    seen(|seen| match seen.filter_state.get(&text(key)) {
        Some(found) => {
            // SAFETY: the caller's; the text stays where it is until it is set again.
            unsafe { *value = Bytes::borrowing(found.as_bytes()) };
            true
        }
        None => false,
    })
}

unsafe extern "C" fn network_set_dynamic_metadata_string(
    _: *mut c_void,
    namespace: Bytes,
    key: Bytes,
    value: Bytes,
) {
    seen(|seen| {
        seen.metadata
            .insert([namespace, key].map(text), text(value))
    });
}

unsafe extern "C" fn network_get_dynamic_metadata_string(
    _: *mut c_void,
    namespace: Bytes,
    key: Bytes,
    value: *mut Bytes,
) -> bool {
    seen(
        |seen| match seen.metadata.get(&[namespace, key].map(text)) {
            Some(found) => {
                // SAFETY: the caller's; the text stays where it is until it is set again.
                unsafe { *value = Bytes::borrowing(found.as_bytes()) };
                true
            }
            None => false,
        },
    )
}

unsafe extern "C" fn network_filter_scheduler_commit(_: *mut c_void, _: u64) {
    seen(|seen| seen.commits += 1);
}

unsafe extern "C" fn transport_socket_set_is_readable(socket: *mut c_void) {
    seen(|seen| seen.woken.push(socket as usize));
}
