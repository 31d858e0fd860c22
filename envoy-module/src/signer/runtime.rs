//! One thread that does all of the module's own I/O.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle};

static RUNTIME: OnceLock<Result<Handle, String>> = OnceLock::new();

/// The handle of the I/O thread, started on first use. The thread and its
/// runtime are never taken down: Envoy exits under them, and a destructor would
/// race with what they do.
pub fn handle() -> Result<&'static Handle, String> {
    RUNTIME.get_or_init(start).as_ref().map_err(Clone::clone)
}

fn start() -> Result<Handle, String> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| format!("cannot start the signer's I/O: {error}"))?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("meshkey-io".to_owned())
        .spawn(move || Box::leak(Box::new(runtime)).block_on(std::future::pending::<()>()))
        .map_err(|error| format!("cannot start the signer's I/O thread: {error}"))?;
    Ok(handle)
}
