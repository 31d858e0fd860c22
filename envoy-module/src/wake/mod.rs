//! How another thread gets a worker to look at a connection again.
//!
//! - `wf`: a filter on a private "waker" listener gives each worker a scheduler;
//!   finished steps queue up on their worker and one commit announces them all.
//! - `lowat`: without that listener, writing a TCP option provokes a write event
//!   on the connection itself.

pub mod dialer;
pub mod filter;
pub mod lowat;
pub mod target;
pub mod worker;
