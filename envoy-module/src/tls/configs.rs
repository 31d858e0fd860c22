//! rustls configurations, one per role and snapshot.

use std::sync::{Arc, LazyLock};

use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};

use super::remote_key::{ClientSide, RemoteKey, ServerSide};
use super::server::Server;
use super::session::Session;
use super::verifiers::{ClientVerifier, PeerVerifier, ServerVerifier};
use crate::config::Config;
use crate::failure::Failure;
use crate::identity::snapshot::Snapshot;
use crate::peers::Expected;
use crate::signer::link::Link;
use crate::stats::Role;

/// aws-lc-rs with TLS 1.3's three suites; the hybrid X25519MLKEM768 comes first,
/// and a client sends a plain X25519 share along with it. Passed explicitly:
/// the process default belongs to nobody.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    use aws_lc_rs::{cipher_suite, kx_group};
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    })
});

/// Makes sessions with the chain, the key and the roots of one snapshot.
#[derive(Clone)]
pub enum TlsConfig {
    Server(Arc<ServerConfig>),
    Client(Arc<ClientConfig>, ServerName<'static>),
}

impl TlsConfig {
    pub fn new(
        config: &Config,
        expected: &Expected,
        link: &Arc<Link>,
        snapshot: &Arc<Snapshot>,
    ) -> Result<Self, Failure> {
        let verifier = PeerVerifier {
            bundles: snapshot.bundles.clone(),
            expected: expected.clone(),
            link: link.clone(),
            algorithms: PROVIDER.signature_verification_algorithms,
        };
        let (link, snapshot) = (link.clone(), snapshot.clone());
        match config.role {
            Role::Server => server(config, verifier, link, snapshot),
            Role::Client => client(config, verifier, link, snapshot),
        }
    }

    pub fn session(&self) -> Result<Session, Failure> {
        Ok(match self {
            Self::Server(config) => Session::Server(Box::new(Server::new(config.clone())?)),
            Self::Client(config, name) => Session::Client(Box::new(
                UnbufferedClientConnection::new(config.clone(), name.clone())?,
            )),
        })
    }
}

fn certified(snapshot: &Snapshot, key: impl SigningKey + 'static) -> Arc<SingleCertAndKey> {
    let certified = CertifiedKey::new(snapshot.chain.clone(), Arc::new(key));
    Arc::new(SingleCertAndKey::from(certified))
}

fn server(
    config: &Config,
    verifier: PeerVerifier,
    link: Arc<Link>,
    snapshot: Arc<Snapshot>,
) -> Result<TlsConfig, Failure> {
    let key = RemoteKey::<ServerSide>::new(link, snapshot.clone());
    let mut server = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(ClientVerifier(verifier)))
        .with_cert_resolver(certified(&snapshot, key));
    server.alpn_protocols.clone_from(&config.alpn);
    // AES-128 first, as listed: its hash is SHA-256, which processors help with.
    server.ignore_client_order = true;
    // Whoever reads this process's memory must not find anything that completes
    // a handshake: no session state, no tickets, no 0-RTT.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    server.max_early_data_size = 0;
    Ok(TlsConfig::Server(Arc::new(server)))
}

fn client(
    config: &Config,
    verifier: PeerVerifier,
    link: Arc<Link>,
    snapshot: Arc<Snapshot>,
) -> Result<TlsConfig, Failure> {
    let key = RemoteKey::<ClientSide>::new(link, snapshot.clone());
    let mut client = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier(verifier)))
        .with_client_cert_resolver(certified(&snapshot, key));
    client.alpn_protocols.clone_from(&config.alpn);
    client.resumption = Resumption::disabled();
    client.enable_early_data = false;
    client.enable_sni = config.sni.is_some();
    let name = config.sni.clone().map_or_else(unsent_name, Ok)?;
    Ok(TlsConfig::Client(Arc::new(client), name))
}

/// rustls wants a name even where none is sent.
fn unsent_name() -> Result<ServerName<'static>, Failure> {
    ServerName::try_from("peer.invalid")
        .map_err(|error| Failure::new(crate::failure::Reason::Internal, error.to_string()))
}
