//! Envoy's dynamic module ABI (`v0.2.0`, Envoy 1.40): C types, the table of
//! Envoy's callbacks and thin typed handles over them.
//!
//! Together with `lib.rs` this is the only file with `unsafe` for the ABI. The
//! callbacks are looked up with `dlsym` when Envoy loads the module, so a host
//! without one of them is an error message instead of a failed load, and the
//! crate's tests run without Envoy.

use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

/// `envoy_dynamic_module_type_envoy_buffer` and `..._module_buffer`: a borrowed
/// byte string.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Bytes {
    ptr: *const u8,
    length: usize,
}

impl Bytes {
    pub const EMPTY: Self = Self {
        ptr: std::ptr::null(),
        length: 0,
    };

    /// For Envoy to read during one call, or for as long as the owner of
    /// `bytes` promises.
    pub fn borrowing(bytes: &[u8]) -> Self {
        Self {
            ptr: bytes.as_ptr(),
            length: bytes.len(),
        }
    }

    /// # Safety
    /// `self` must come from Envoy, in a call that has not returned yet.
    pub unsafe fn as_slice<'a>(self) -> &'a [u8] {
        if self.ptr.is_null() || self.length == 0 {
            return &[];
        }
        // SAFETY: the caller passes on what Envoy promises for its buffers.
        unsafe { std::slice::from_raw_parts(self.ptr, self.length) }
    }
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(dead_code)] // Envoy's enumeration, whole
pub enum ConnectionEvent {
    RemoteClose = 0,
    LocalClose = 1,
    Connected = 2,
    ConnectedZeroRtt = 3,
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PostIoAction {
    KeepOpen = 0,
    Close = 1,
}

/// What `do_read` and `do_write` return, by value.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoResult {
    pub action: PostIoAction,
    pub bytes_processed: u64,
    pub end_stream_read: bool,
}

impl IoResult {
    pub fn keep_open(bytes_processed: u64) -> Self {
        Self {
            action: PostIoAction::KeepOpen,
            bytes_processed,
            end_stream_read: false,
        }
    }

    pub fn close() -> Self {
        Self {
            action: PostIoAction::Close,
            ..Self::keep_open(0)
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterStatus {
    Continue = 0,
    StopIteration = 1,
}

/// `envoy_dynamic_module_type_log_level`.
#[derive(Clone, Copy)]
pub enum Level {
    Info = 2,
    Warn = 3,
    Error = 4,
}

const IO_SUCCESS: c_int = 0;
const IO_AGAIN: c_int = 1;
const CLOSE_NO_FLUSH: c_int = 1;

/// Declares the table of callbacks and how to fill it.
macro_rules! host_callbacks {
    ($(fn $name:ident($($arg:ty),*) $(-> $ret:ty)?;)*) => {
        #[derive(Clone, Copy)]
        struct Host { $($name: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)* }

        impl Host {
            fn resolve() -> Result<Self, String> {
                Ok(Self { $($name: {
                    let symbol = lookup(concat!("envoy_dynamic_module_callback_", stringify!($name)))?;
                    // SAFETY: Envoy defines the symbol with this signature; `host_version`
                    // refuses an Envoy whose callbacks have not been compared with this table.
                    unsafe {
                        std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($arg),*) $(-> $ret)?>(symbol)
                    }
                },)* })
            }

            /// Every callback does nothing, and returns zeroes.
            #[cfg(test)]
            fn inert() -> Self {
                Self { $($name: {
                    unsafe extern "C" fn inert($(_: $arg),*) $(-> $ret)? {
                        // SAFETY: integers, booleans and pointers, which may be zero.
                        unsafe { std::mem::zeroed() }
                    }
                    inert
                },)* }
            }
        }
    };
}

#[cfg(test)]
#[path = "testing/envoy.rs"]
pub mod fake;

host_callbacks! {
    fn log(c_int, Bytes);
    fn log_enabled(c_int) -> bool;
    fn get_concurrency() -> u32;
    fn transport_socket_io_read(*mut c_void, *mut u8, usize, *mut usize) -> c_int;
    fn transport_socket_io_write(*mut c_void, *const u8, usize, *mut usize) -> c_int;
    fn transport_socket_get_fd(*mut c_void) -> c_int;
    fn transport_socket_raise_event(*mut c_void, ConnectionEvent);
    fn transport_socket_read_buffer_add(*mut c_void, *const u8, usize);
    fn transport_socket_write_buffer_drain(*mut c_void, usize);
    fn transport_socket_write_buffer_get_slices(*mut c_void, *mut Bytes, *mut usize);
    fn transport_socket_should_drain_read_buffer(*mut c_void) -> bool;
    fn transport_socket_set_is_readable(*mut c_void);
    fn transport_socket_set_is_writable(*mut c_void);
    fn transport_socket_get_connection_id(*mut c_void, *mut u64) -> bool;
    fn network_filter_get_connection_id(*mut c_void) -> u64;
    fn network_filter_get_worker_index(*mut c_void) -> u32;
    fn network_filter_continue_reading(*mut c_void);
    fn network_filter_close(*mut c_void, c_int);
    fn network_filter_read_enabled(*mut c_void) -> bool;
    fn network_filter_read_disable(*mut c_void, bool) -> c_int;
    fn network_filter_drain_read_buffer(*mut c_void, usize) -> bool;
    fn network_set_filter_state_bytes(*mut c_void, Bytes, Bytes) -> bool;
    fn network_get_filter_state_bytes(*mut c_void, Bytes, *mut Bytes) -> bool;
    fn network_set_dynamic_metadata_string(*mut c_void, Bytes, Bytes, Bytes);
    fn network_get_dynamic_metadata_string(*mut c_void, Bytes, Bytes, *mut Bytes) -> bool;
    fn network_filter_scheduler_new(*mut c_void) -> *mut c_void;
    fn network_filter_scheduler_commit(*mut c_void, u64);
    fn network_filter_scheduler_delete(*mut c_void);
    fn network_filter_config_define_counter(*mut c_void, Bytes, *mut usize) -> c_int;
    fn network_filter_config_define_gauge(*mut c_void, Bytes, *mut usize) -> c_int;
    fn network_filter_config_increment_counter(*mut c_void, usize, u64) -> c_int;
    fn network_filter_config_increment_gauge(*mut c_void, usize, u64) -> c_int;
    fn network_filter_config_decrement_gauge(*mut c_void, usize, u64) -> c_int;
    fn network_filter_config_set_gauge(*mut c_void, usize, u64) -> c_int;
}

static HOST: OnceLock<Result<Host, String>> = OnceLock::new();

/// Looks Envoy's callbacks up, once per process.
pub fn resolve_callbacks() -> Result<(), &'static str> {
    match HOST.get_or_init(Host::resolve) {
        Ok(_) => Ok(()),
        Err(reason) => Err(reason),
    }
}

fn lookup(name: &str) -> Result<*mut c_void, String> {
    let symbol = CString::new(name).map_err(|error| error.to_string())?;
    // SAFETY: `symbol` is a NUL-terminated string that outlives the call.
    match unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr().cast::<c_char>()) } {
        address if address.is_null() => Err(format!("the host lacks {name}")),
        address => Ok(address),
    }
}

/// The table; only hooks reach it, and a host without it gets no further than
/// its first configuration.
fn host() -> &'static Host {
    match HOST.get() {
        Some(Ok(host)) => host,
        _ => unreachable!("a hook ran before the callbacks were resolved"),
    }
}

/// How many configurations Envoy holds. Envoy destroys them before its logger
/// and its statistics, so the module's own threads may talk to Envoy only while
/// one is alive: they take the lock shared, `Alive` takes it exclusively.
static ALIVE: RwLock<usize> = RwLock::new(0);

/// Held by every configuration that Envoy has accepted.
pub struct Alive(());

impl Alive {
    pub fn new() -> Self {
        *ALIVE.write().unwrap_or_else(PoisonError::into_inner) += 1;
        Self(())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        *ALIVE.write().unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}

/// Writes a line to Envoy's log (logger `dynamic_modules`). Any thread; silent
/// while Envoy starts its end.
pub fn log(level: Level, message: &str) {
    let alive = ALIVE.read().unwrap_or_else(PoisonError::into_inner);
    if *alive > 0 {
        log_unguarded(level, message);
    }
}

/// [`log`] for the hooks that create configurations: Envoy is certainly there.
pub fn log_unguarded(level: Level, message: &str) {
    let line = format!("meshkey: {message}");
    match HOST.get() {
        // SAFETY: plain values; `line` outlives the call.
        Some(Ok(host)) => unsafe {
            if (host.log_enabled)(level as c_int) {
                (host.log)(level as c_int, Bytes::borrowing(line.as_bytes()));
            }
        },
        _ => log_to_stranger(level, &line),
    }
}

/// To a host whose callbacks are not, or not all, what we know: logging is the
/// one that has been the same in every version so far.
fn log_to_stranger(level: Level, line: &str) {
    match lookup("envoy_dynamic_module_callback_log") {
        Ok(symbol) => {
            // SAFETY: the signature of every version that exports the symbol.
            unsafe {
                let log: unsafe extern "C" fn(c_int, Bytes) = std::mem::transmute(symbol);
                log(level as c_int, Bytes::borrowing(line.as_bytes()));
            }
        }
        Err(_) => eprintln!("{line}"),
    }
}

/// The number of workers. Main thread only.
pub fn concurrency() -> usize {
    // SAFETY: takes nothing; the caller is on the main thread.
    unsafe { (host().get_concurrency)() as usize }
}

/// The outcome of a read from, or a write to, the connection's file descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Io {
    Done(usize),
    Again,
    Failed,
}

fn io(status: c_int, count: usize) -> Io {
    match status {
        IO_SUCCESS => Io::Done(count),
        IO_AGAIN => Io::Again,
        _ => Io::Failed,
    }
}

/// Envoy's side of one transport socket. Valid from `transport_socket_new` to
/// `transport_socket_destroy`; every method on the connection's own thread only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TransportSocket(pub *mut c_void);

// SAFETY (all methods): the handle is used within its lifetime on its thread, as
// the type demands; pointers passed on are valid for the call.
impl TransportSocket {
    /// `Done(0)` is the end of the stream.
    pub fn io_read(self, into: &mut [u8]) -> Io {
        let mut count = 0;
        let status = unsafe {
            (host().transport_socket_io_read)(self.0, into.as_mut_ptr(), into.len(), &mut count)
        };
        io(status, count)
    }

    pub fn io_write(self, from: &[u8]) -> Io {
        let mut count = 0;
        let status = unsafe {
            (host().transport_socket_io_write)(self.0, from.as_ptr(), from.len(), &mut count)
        };
        io(status, count)
    }

    pub fn fd(self) -> c_int {
        unsafe { (host().transport_socket_get_fd)(self.0) }
    }

    /// Can run any of the connection's hooks before it returns.
    pub fn raise_event(self, event: ConnectionEvent) {
        unsafe { (host().transport_socket_raise_event)(self.0, event) }
    }

    /// Inside `do_read` only.
    pub fn read_buffer_add(self, bytes: &[u8]) {
        unsafe {
            (host().transport_socket_read_buffer_add)(self.0, bytes.as_ptr(), bytes.len());
        }
    }

    /// Inside `do_write` only.
    pub fn write_buffer_drain(self, count: usize) {
        unsafe { (host().transport_socket_write_buffer_drain)(self.0, count) }
    }

    /// Inside `do_write` only: shows `look` the first slices of Envoy's write
    /// buffer.
    pub fn with_write_buffer<T>(self, look: impl FnOnce(&[&[u8]]) -> T) -> T {
        const SLICES: usize = 16;
        let mut raw = [Bytes::EMPTY; SLICES];
        let mut count = SLICES;
        let mut slices: [&[u8]; SLICES] = [&[]; SLICES];
        unsafe {
            (host().transport_socket_write_buffer_get_slices)(self.0, raw.as_mut_ptr(), &mut count);
            for (slice, raw) in slices.iter_mut().zip(&raw[..count.min(SLICES)]) {
                *slice = raw.as_slice();
            }
        }
        look(&slices[..count.min(SLICES)])
    }

    pub fn should_drain_read_buffer(self) -> bool {
        unsafe { (host().transport_socket_should_drain_read_buffer)(self.0) }
    }

    pub fn set_is_readable(self) {
        unsafe { (host().transport_socket_set_is_readable)(self.0) }
    }

    pub fn set_is_writable(self) {
        unsafe { (host().transport_socket_set_is_writable)(self.0) }
    }

    /// The connection's id; known downstream only.
    pub fn connection_id(self) -> Option<u64> {
        let mut id = 0;
        unsafe { (host().transport_socket_get_connection_id)(self.0, &mut id) }.then_some(id)
    }
}

/// Envoy's side of one network filter, on the connection's own thread only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NetworkFilter(pub *mut c_void);

// SAFETY (all methods): as for `TransportSocket`.
impl NetworkFilter {
    pub fn connection_id(self) -> u64 {
        unsafe { (host().network_filter_get_connection_id)(self.0) }
    }

    pub fn worker_index(self) -> u32 {
        unsafe { (host().network_filter_get_worker_index)(self.0) }
    }

    /// Lets the filters after this one run, after `StopIteration`.
    pub fn continue_reading(self) {
        unsafe { (host().network_filter_continue_reading)(self.0) }
    }

    pub fn close(self) {
        unsafe { (host().network_filter_close)(self.0, CLOSE_NO_FLUSH) }
    }

    pub fn read_enabled(self) -> bool {
        unsafe { (host().network_filter_read_enabled)(self.0) }
    }

    /// Counted: as many `false` as `true` enable reading again.
    pub fn read_disable(self, disable: bool) {
        unsafe { (host().network_filter_read_disable)(self.0, disable) };
    }

    pub fn drain_read_buffer(self, count: usize) {
        unsafe { (host().network_filter_drain_read_buffer)(self.0, count) };
    }

    /// Connection-wide filter state; whether it holds `value` now. Envoy itself
    /// says yes even when it could not set it.
    pub fn set_filter_state(self, key: &str, value: &str) -> bool {
        let set = unsafe {
            let (key, value) = (key.as_bytes(), value.as_bytes());
            let (key, value) = (Bytes::borrowing(key), Bytes::borrowing(value));
            (host().network_set_filter_state_bytes)(self.0, key, value)
        };
        set && self.has_filter_state(key, value)
    }

    /// Whether filter state holds exactly that.
    pub fn has_filter_state(self, key: &str, value: &str) -> bool {
        let mut found = Bytes::EMPTY;
        unsafe {
            let key = Bytes::borrowing(key.as_bytes());
            (host().network_get_filter_state_bytes)(self.0, key, &mut found)
                && found.as_slice() == value.as_bytes()
        }
    }

    /// Connection-wide dynamic metadata; whether it holds `value` now.
    pub fn set_metadata(self, namespace: &str, key: &str, value: &str) -> bool {
        unsafe {
            let [namespace, key, value] =
                [namespace, key, value].map(|text| Bytes::borrowing(text.as_bytes()));
            (host().network_set_dynamic_metadata_string)(self.0, namespace, key, value);
        }
        self.has_metadata(namespace, key, value)
    }

    /// Whether dynamic metadata holds exactly that text.
    pub fn has_metadata(self, namespace: &str, key: &str, value: &str) -> bool {
        let mut found = Bytes::EMPTY;
        unsafe {
            let [namespace, key] = [namespace, key].map(|text| Bytes::borrowing(text.as_bytes()));
            (host().network_get_dynamic_metadata_string)(self.0, namespace, key, &mut found)
                && found.as_slice() == value.as_bytes()
        }
    }

    /// A way to have `network_filter_scheduled` called on this filter's thread.
    pub fn scheduler(self) -> Scheduler {
        Scheduler(unsafe { (host().network_filter_scheduler_new)(self.0) } as usize)
    }
}

/// Deleted when dropped, which must happen before its filter is destroyed.
#[derive(Debug)]
pub struct Scheduler(usize);

impl Scheduler {
    /// Any thread.
    pub fn commit(&self) {
        // SAFETY: the scheduler lives until `self` is dropped.
        unsafe { (host().network_filter_scheduler_commit)(self.0 as *mut c_void, 0) }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        // SAFETY: made by `scheduler_new`, deleted once.
        unsafe { (host().network_filter_scheduler_delete)(self.0 as *mut c_void) }
    }
}

/// Envoy's side of a network filter's configuration: what owns statistics.
/// Usable from any thread until `network_filter_config_destroy`.
pub struct FilterConfig(AtomicUsize);

// SAFETY (all methods): the pointer is used within its lifetime, as the type
// demands; Envoy's counters and gauges are atomic and found by an index into a
// table that does not change after the definitions.
impl FilterConfig {
    pub fn new(envoy: *mut c_void) -> Self {
        Self(AtomicUsize::new(envoy as usize))
    }

    fn raw(&self) -> *mut c_void {
        self.0.load(Ordering::Relaxed) as *mut c_void
    }

    /// In `network_filter_config_new` only.
    pub fn define_counter(&self, name: &str) -> usize {
        let mut id = 0;
        let name = Bytes::borrowing(name.as_bytes());
        unsafe { (host().network_filter_config_define_counter)(self.raw(), name, &mut id) };
        id
    }

    /// In `network_filter_config_new` only.
    pub fn define_gauge(&self, name: &str) -> usize {
        let mut id = 0;
        let name = Bytes::borrowing(name.as_bytes());
        unsafe { (host().network_filter_config_define_gauge)(self.raw(), name, &mut id) };
        id
    }

    pub fn add_to_counter(&self, id: usize, count: u64) {
        unsafe { (host().network_filter_config_increment_counter)(self.raw(), id, count) };
    }

    pub fn add_to_gauge(&self, id: usize, count: u64) {
        unsafe { (host().network_filter_config_increment_gauge)(self.raw(), id, count) };
    }

    pub fn take_from_gauge(&self, id: usize, count: u64) {
        unsafe { (host().network_filter_config_decrement_gauge)(self.raw(), id, count) };
    }

    pub fn set_gauge(&self, id: usize, value: u64) {
        unsafe { (host().network_filter_config_set_gauge)(self.raw(), id, value) };
    }
}
