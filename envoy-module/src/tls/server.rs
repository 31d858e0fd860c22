//! A server's connection, which may have to go on without ALPN.
//!
//! RFC 7301 3.2 has a server that supports none of the offered protocols end the
//! handshake, and rustls does. Envoy's own TLS goes on as if nothing had been
//! offered, and Istio builds on that: its clients offer `istio` and the like, which
//! choose a filter chain (tls_inspector) and are no server's protocol. So the
//! ClientHello is looked at before rustls gets it.

use std::sync::Arc;

use rustls::server::{Acceptor, UnbufferedServerConnection};
use rustls::{Error, ServerConfig};

/// Begun with ALPN, until a ClientHello says that there is nothing in common.
pub struct Server {
    connection: UnbufferedServerConnection,
    /// What is ours, while the ClientHello is not known.
    undecided: Option<Arc<ServerConfig>>,
}

impl Server {
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config.clone())?,
            undecided: (!config.alpn_protocols.is_empty()).then_some(config),
        })
    }

    pub fn connection(&self) -> &UnbufferedServerConnection {
        &self.connection
    }

    pub fn connection_mut(&mut self) -> &mut UnbufferedServerConnection {
        &mut self.connection
    }

    /// Whether it is known how to go on, now that `input` is all that has come.
    pub fn decide(&mut self, input: &[u8]) -> Result<bool, Error> {
        let Some(config) = &self.undecided else {
            return Ok(true);
        };
        match offer(input, &config.alpn_protocols) {
            Offer::Incomplete => return Ok(false),
            Offer::Usable => {}
            Offer::NothingOfOurs => {
                let mut without = ServerConfig::clone(config);
                without.alpn_protocols.clear();
                self.connection = UnbufferedServerConnection::new(Arc::new(without))?;
            }
        }
        self.undecided = None;
        Ok(true)
    }
}

/// What a ClientHello offers by ALPN.
#[derive(Debug, PartialEq, Eq)]
enum Offer {
    /// It is not all there.
    Incomplete,
    /// Nothing, something of ours, or no ClientHello: the server's usual business.
    Usable,
    NothingOfOurs,
}

fn offer(mut input: &[u8], ours: &[Vec<u8>]) -> Offer {
    let mut acceptor = Acceptor::default();
    loop {
        match acceptor.read_tls(&mut input) {
            Ok(0) => return Offer::Incomplete,
            Ok(_) => {}
            Err(_) => return Offer::Usable,
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let Some(mut theirs) = hello.alpn() else {
                    return Offer::Usable;
                };
                return match theirs.any(|offered| ours.iter().any(|known| known == offered)) {
                    true => Offer::Usable,
                    false => Offer::NothingOfOurs,
                };
            }
            Err(_) => return Offer::Usable,
        }
    }
}
