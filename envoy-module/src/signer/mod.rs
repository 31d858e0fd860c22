//! The way to the key: one connection per signer and identity, over which
//! snapshots arrive and signatures are asked for.

mod batches;
pub mod connector;
pub mod denied;
pub mod link;
pub mod pending;
pub mod runtime;
pub mod session;
pub mod standing;
mod token;
