//! Who is on the other end of an established connection.

use std::fmt::Write;
use std::time::SystemTime;

use crate::failure::{Failure, Reason};
use crate::identity::snapshot::Snapshot;
use crate::spiffe::SpiffeId;
use crate::tls::certificate::Leaf;
use crate::tls::session::Session;

/// What the companion filter tells Envoy's other filters.
#[derive(Debug)]
pub struct Peer {
    pub spiffe_id: SpiffeId,
    /// Who we are to it: of the certificate that this connection was made with.
    pub local: SpiffeId,
    /// When its certificate does.
    pub expires: SystemTime,
    /// One element of an `x-forwarded-client-cert` header, whole.
    pub forwarded: String,
    /// Version, cipher suite and key exchange, separated by spaces.
    pub tls: String,
    /// The ALPN protocol, empty if there is none.
    pub protocol: Vec<u8>,
}

impl Peer {
    /// Of a session whose handshake is done, begun under `local`.
    pub fn of(session: &Session, local: &Snapshot) -> Result<Self, Failure> {
        let Some(leaf) = session.peer_chain().first() else {
            let detail = "the peer presented no certificate";
            return Err(Failure::new(Reason::NoPeerCertificate, detail));
        };
        let parsed = Leaf::parse(leaf)?;
        let spiffe_id = parsed.spiffe_id()?;
        Ok(Self {
            forwarded: forwarded(&local.spiffe_id, leaf, &spiffe_id),
            tls: parameters(session),
            protocol: session
                .common()
                .alpn_protocol()
                .unwrap_or_default()
                .to_vec(),
            spiffe_id,
            local: local.spiffe_id.clone(),
            expires: parsed.expires(),
        })
    }
}

/// As Envoy writes it. A SPIFFE ID contains nothing that ends a quoted string.
fn forwarded(by: &SpiffeId, leaf: &[u8], uri: &SpiffeId) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
    let mut hash = String::with_capacity(64);
    for byte in digest.as_ref() {
        let _ = write!(hash, "{byte:02x}");
    }
    format!("By={by};Hash={hash};URI=\"{uri}\"")
}

fn parameters(session: &Session) -> String {
    let common = session.common();
    let cipher = common
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str());
    let group = common
        .negotiated_key_exchange_group()
        .and_then(|group| match group.name() {
            rustls::NamedGroup::X25519 => Some("X25519"),
            rustls::NamedGroup::X25519MLKEM768 => Some("X25519MLKEM768"),
            rustls::NamedGroup::secp256r1 => Some("P-256"),
            rustls::NamedGroup::secp384r1 => Some("P-384"),
            _ => None,
        });
    let cipher = cipher.unwrap_or("-").replace("TLS13_", "TLS_");
    format!("TLSv1.3 {cipher} {}", group.unwrap_or("-"))
}
