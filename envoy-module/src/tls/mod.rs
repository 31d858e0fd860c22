//! TLS 1.3 with rustls: who the peer must be, what we present, and a private key
//! that is somewhere else.

pub mod certificate;
pub mod configs;
pub mod matcher;
pub mod remote_key;
pub mod server;
pub mod session;
pub mod verifiers;

#[cfg(test)]
mod tests;
