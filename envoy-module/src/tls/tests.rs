//! Both roles against each other in memory, each with its key at a signer.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use rcgen::SignatureAlgorithm;
use rustls::SignatureAlgorithm as Algorithm;
use rustls::SignatureScheme;
use rustls::sign::SigningKey;

use super::configs::TlsConfig;
use super::remote_key::{RemoteKey, ServerSide, with_deadline};
use super::session::{MAX_FRAGMENT, Session};
use crate::config::Config;
use crate::failure::{Failure, Reason};
use crate::identity::snapshot::Snapshot;
use crate::peer::Peer;
use crate::peers::Expected;
use crate::signer::link::{self, LinkHandle};
use crate::stats::Role;
use crate::testing::certificates::{Authority, CLIENT, Certified, SERVER};
use crate::testing::signer::{FakeSigner, signs_with, update};
use crate::testing::socket_path;
use std::sync::Arc;

/// A side with a signer of its own.
struct Side {
    tls: TlsConfig,
    snapshot: Arc<Snapshot>,
    _link: Arc<LinkHandle>,
    _signer: FakeSigner,
}

impl Side {
    /// `key`: what the signer signs with, which may be somebody else's.
    fn new(
        role: Role,
        id: &str,
        peer: &str,
        ca: &Authority,
        own: &Certified,
        key: &Certified,
    ) -> Self {
        let alpn = r#"["h2","http/1.1"]"#;
        Self::speaking(alpn, role, (id, peer), ca, own, key)
    }

    /// `alpn`: a JSON list; `ids`: its own and the peer's.
    fn speaking(
        alpn: &str,
        role: Role,
        (id, peer): (&str, &str),
        ca: &Authority,
        own: &Certified,
        key: &Certified,
    ) -> Self {
        let path = socket_path();
        let signer = FakeSigner::start(&path, update(1, id, ca, own), signs_with(key));
        let json = format!(
            r#"{{"signer":"{}","alpn":{alpn},"peers":{{"spiffe_ids":["{peer}"]}}}}"#,
            path.display()
        );
        let config = Config::parse(role, json.as_bytes()).unwrap();
        let link = link::open(&config.address).unwrap();
        let snapshot = wait(&link);
        let expected = Expected::open(&config.peers).unwrap();
        let tls = TlsConfig::new(&config, &expected, &link.link, &snapshot).unwrap();
        Self {
            tls,
            snapshot,
            _link: link,
            _signer: signer,
        }
    }

    fn session(&self) -> Session {
        self.tls.session().unwrap()
    }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn wait(link: &LinkHandle) -> Arc<Snapshot> {
    let until = deadline();
    loop {
        match link.link.snapshot(until) {
            Ok(snapshot) => return snapshot,
            Err(failure) => assert!(Instant::now() < until, "{failure}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn pair(ca: &Authority) -> (Side, Side) {
    let (server, client) = (ca.workload(SERVER), ca.workload(CLIENT));
    (
        Side::new(Role::Server, SERVER, CLIENT, ca, &server, &server),
        Side::new(Role::Client, CLIENT, SERVER, ca, &client, &client),
    )
}

/// Feeds `to` with `bytes`, `chunk` at a time; its answer and its plaintext.
fn feed(to: &mut Session, bytes: &[u8], chunk: usize) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let (mut input, mut output, mut plaintext) = (Vec::new(), Vec::new(), Vec::new());
    let mut sink = |data: &[u8]| plaintext.extend_from_slice(data);
    // Without input once: that is how a client begins.
    for part in std::iter::once(&bytes[..0]).chain(bytes.chunks(chunk)) {
        input.extend_from_slice(part);
        let processed = with_deadline(deadline(), || {
            to.process(&mut input, &mut output, &mut sink)
        })?;
        input.drain(..processed.consumed);
    }
    Ok((output, plaintext))
}

/// Until both are done; an error names who refused.
fn shake(server: &mut Session, client: &mut Session, chunk: usize) -> Result<(), (Role, Failure)> {
    let mut to_server = feed(client, &[], 1)
        .map_err(|failure| (Role::Client, failure))?
        .0;
    while server.is_handshaking() || client.is_handshaking() {
        let to_client = feed(server, &to_server, chunk)
            .map_err(|failure| (Role::Server, failure))?
            .0;
        to_server = feed(client, &to_client, chunk)
            .map_err(|failure| (Role::Client, failure))?
            .0;
    }
    Ok(())
}

#[test]
fn both_sides_come_to_know_each_other() {
    let ca = Authority::new();
    let (server, client) = pair(&ca);
    let (mut at_server, mut at_client) = (server.session(), client.session());
    shake(&mut at_server, &mut at_client, usize::MAX).unwrap();
    let peer = Peer::of(&at_server, &server.snapshot).unwrap();
    assert_eq!(peer.spiffe_id.as_str(), CLIENT);
    assert_eq!(peer.protocol, b"h2");
    assert_eq!(peer.tls, "TLSv1.3 TLS_AES_128_GCM_SHA256 X25519MLKEM768");
    let (begin, end) = (format!("By={SERVER};Hash="), format!(";URI=\"{CLIENT}\""));
    assert!(peer.forwarded.starts_with(&begin) && peer.forwarded.ends_with(&end));
    assert_eq!(peer.local.as_str(), SERVER);
    let peer = Peer::of(&at_client, &client.snapshot).unwrap();
    assert_eq!(peer.spiffe_id.as_str(), SERVER);
    assert_eq!(peer.local.as_str(), CLIENT);
}

/// What both sides have agreed on.
fn agreed(server: &str, client: &str, chunk: usize) -> [Vec<u8>; 2] {
    let ca = Authority::new();
    let (own, peer) = (ca.workload(SERVER), ca.workload(CLIENT));
    let server = Side::speaking(server, Role::Server, (SERVER, CLIENT), &ca, &own, &own);
    let client = Side::speaking(client, Role::Client, (CLIENT, SERVER), &ca, &peer, &peer);
    let (mut at_server, mut at_client) = (server.session(), client.session());
    shake(&mut at_server, &mut at_client, chunk).unwrap();
    let peers = [
        Peer::of(&at_server, &server.snapshot).unwrap(),
        Peer::of(&at_client, &client.snapshot).unwrap(),
    ];
    assert_eq!(peers[0].spiffe_id.as_str(), CLIENT);
    peers.map(|peer| peer.protocol)
}

#[test]
fn a_server_that_is_offered_nothing_of_its_own_goes_on_without_a_protocol() {
    let ours = r#"["h2","http/1.1"]"#;
    for chunk in [1, 100, usize::MAX] {
        let istio = agreed(ours, r#"["istio-http/1.1","istio"]"#, chunk);
        assert_eq!(istio, [b"", b""]);
        let shared = agreed(ours, r#"["istio","http/1.1"]"#, chunk);
        assert_eq!(shared, [b"http/1.1", b"http/1.1"]);
    }
    assert_eq!(agreed(ours, "[]", usize::MAX), [b"", b""]);
    assert_eq!(agreed("[]", ours, usize::MAX), [b"", b""]);
}

#[test]
fn what_is_no_client_hello_is_answered_as_ever() {
    let ca = Authority::new();
    let (server, _client) = pair(&ca);
    let (mut input, mut output) = (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Vec::new());
    let error = server
        .session()
        .process(&mut input, &mut output, &mut |_| {})
        .unwrap_err();
    assert_eq!(Failure::from(error).reason, Reason::Protocol);
}

/// Both sides have keys of this kind, and sign with the best of its schemes.
fn shake_with(kind: &'static SignatureAlgorithm, schemes: &[SignatureScheme]) {
    let ca = Authority::new();
    let (server, client) = (
        ca.workload_with(SERVER, kind),
        ca.workload_with(CLIENT, kind),
    );
    let server = Side::new(Role::Server, SERVER, CLIENT, &ca, &server, &server);
    let client = Side::new(Role::Client, CLIENT, SERVER, &ca, &client, &client);
    assert_eq!(server.snapshot.schemes, schemes);
    let (mut at_server, mut at_client) = (server.session(), client.session());
    shake(&mut at_server, &mut at_client, usize::MAX).unwrap();
    let peer = Peer::of(&at_server, &server.snapshot).unwrap();
    assert_eq!(peer.spiffe_id.as_str(), CLIENT);
    let key = RemoteKey::<ServerSide>::new(server._link.link.clone(), server.snapshot.clone());
    for scheme in schemes {
        // What one peer takes need not be what another takes.
        assert_eq!(key.choose_scheme(&[*scheme]).unwrap().scheme(), *scheme);
    }
    assert!(key.choose_scheme(&[SignatureScheme::ED448]).is_none());
    let expected = match schemes[0] {
        SignatureScheme::ED25519 => Algorithm::ED25519,
        SignatureScheme::RSA_PSS_SHA256 => Algorithm::RSA,
        _ => Algorithm::ECDSA,
    };
    assert_eq!(key.algorithm(), expected);
}

#[test]
fn keys_on_p_256_sign_for_both_sides() {
    let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
    shake_with(&rcgen::PKCS_ECDSA_P256_SHA256, &schemes);
}

#[test]
fn keys_on_p_384_sign_for_both_sides() {
    let schemes = [SignatureScheme::ECDSA_NISTP384_SHA384];
    shake_with(&rcgen::PKCS_ECDSA_P384_SHA384, &schemes);
}

#[test]
fn keys_on_p_521_sign_for_both_sides() {
    let schemes = [SignatureScheme::ECDSA_NISTP521_SHA512];
    shake_with(&rcgen::PKCS_ECDSA_P521_SHA512, &schemes);
}

#[test]
fn rsa_keys_sign_for_both_sides_with_pss() {
    let schemes = [
        SignatureScheme::RSA_PSS_SHA256,
        SignatureScheme::RSA_PSS_SHA384,
        SignatureScheme::RSA_PSS_SHA512,
    ];
    shake_with(&rcgen::PKCS_RSA_SHA256, &schemes);
}

#[test]
fn ed25519_keys_sign_for_both_sides() {
    shake_with(&rcgen::PKCS_ED25519, &[SignatureScheme::ED25519]);
}

#[test]
fn nothing_is_left_to_resume_from() {
    let ca = Authority::new();
    let (server, client) = pair(&ca);
    for _ in 0..2 {
        let (mut at_server, mut at_client) = (server.session(), client.session());
        shake(&mut at_server, &mut at_client, usize::MAX).unwrap();
        let full = Some(rustls::HandshakeKind::Full);
        assert_eq!(at_server.common().handshake_kind(), full);
        assert_eq!(at_client.common().handshake_kind(), full);
    }
}

#[test]
fn a_stolen_chain_is_of_no_use_without_its_key() {
    let ca = Authority::new();
    let (own, thief) = (ca.workload(SERVER), ca.workload(SERVER));
    let client = ca.workload(CLIENT);
    let server = Side::new(Role::Server, SERVER, CLIENT, &ca, &own, &thief);
    let client = Side::new(Role::Client, CLIENT, SERVER, &ca, &client, &client);
    let (who, failure) =
        shake(&mut server.session(), &mut client.session(), usize::MAX).unwrap_err();
    assert_eq!((who, failure.reason), (Role::Client, Reason::PeerSignature));
}

#[test]
fn a_client_whose_chain_is_stolen_is_refused_too() {
    let ca = Authority::new();
    let (own, thief) = (ca.workload(CLIENT), ca.workload(CLIENT));
    let server = ca.workload(SERVER);
    let server = Side::new(Role::Server, SERVER, CLIENT, &ca, &server, &server);
    let client = Side::new(Role::Client, CLIENT, SERVER, &ca, &own, &thief);
    let (who, failure) =
        shake(&mut server.session(), &mut client.session(), usize::MAX).unwrap_err();
    assert_eq!((who, failure.reason), (Role::Server, Reason::PeerSignature));
}

#[test]
fn an_unexpected_peer_is_sent_an_alert() {
    let ca = Authority::new();
    let other = "spiffe://demo.mesh/ns/demo/sa/other";
    let (server, client) = (ca.workload(other), ca.workload(CLIENT));
    let server = Side::new(Role::Server, other, CLIENT, &ca, &server, &server);
    let client = Side::new(Role::Client, CLIENT, SERVER, &ca, &client, &client);
    let (mut at_server, mut at_client) = (server.session(), client.session());
    let hello = feed(&mut at_client, &[], 1).unwrap().0;
    let mut flight = feed(&mut at_server, &hello, usize::MAX).unwrap().0;
    let mut alert = Vec::new();
    let error = at_client
        .process(&mut flight, &mut alert, &mut |_| {})
        .unwrap_err();
    assert_eq!(Failure::from(error).reason, Reason::PeerUnexpected);
    let failure = feed(&mut at_server, &alert, usize::MAX).unwrap_err();
    assert_eq!(failure.reason, Reason::PeerAlert);
}

#[test]
fn close_notify_ends_one_direction() {
    let ca = Authority::new();
    let (server, client) = pair(&ca);
    let (mut at_server, mut at_client) = (server.session(), client.session());
    shake(&mut at_server, &mut at_client, usize::MAX).unwrap();
    let mut records = Vec::new();
    at_client.encrypt(b"last words", &mut records).unwrap();
    at_client.close_notify(&mut records).unwrap();
    let mut heard = Vec::new();
    let processed = at_server
        .process(&mut records, &mut Vec::new(), &mut |data| {
            heard.extend_from_slice(data)
        })
        .unwrap();
    assert!(processed.closed && heard == b"last words");
    let mut answer = Vec::new();
    at_server.encrypt(b"understood", &mut answer).unwrap();
    let (_, heard) = feed(&mut at_client, &answer, usize::MAX).unwrap();
    assert_eq!(heard, b"understood");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn bytes_may_come_in_any_pieces(
        chunk in 1usize..4000,
        message in proptest::collection::vec(any::<u8>(), 0..3 * MAX_FRAGMENT),
    ) {
        use std::sync::LazyLock;
        static SIDES: LazyLock<(Side, Side)> = LazyLock::new(|| pair(&Authority::new()));
        let (mut server, mut client) = (SIDES.0.session(), SIDES.1.session());
        shake(&mut server, &mut client, chunk).unwrap();
        let mut records = Vec::new();
        client.encrypt(&message, &mut records).unwrap();
        let (_, heard) = feed(&mut server, &records, chunk).unwrap();
        prop_assert_eq!(heard, message);
    }

    #[test]
    fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        use std::sync::LazyLock;
        static SIDES: LazyLock<(Side, Side)> = LazyLock::new(|| pair(&Authority::new()));
        let _ = feed(&mut SIDES.0.session(), &bytes, usize::MAX);
        let _ = feed(&mut SIDES.1.session(), &bytes, usize::MAX);
    }
}
