//! Handshakes, off Envoy's event loops: a step is run by one of the pool's
//! threads, which may wait for a signature, and its result goes back to the
//! worker that owns the connection.

pub mod deadlines;
pub mod mailbox;
pub mod pool;
pub mod step;
