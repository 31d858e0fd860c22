//! The configuration of a `meshkey` transport socket: the `Struct` in Envoy's
//! `transport_socket_config`, which arrives as JSON.
//!
//! ```yaml
//! signer: /run/meshkey/signer.sock     # required: the sidecar's Unix socket
//! identity: default                    # which of the sidecar's identities
//! token_file: /run/meshkey/token       # what the sidecar asks of its callers; default: nothing
//! alpn: [h2, http/1.1]                 # preferred first; empty: no ALPN
//! peers: {spiffe_ids: [...]}           # who may be on the other end; or
//!                                      # {file: /etc/meshkey-peers/peers.json, entry: server}
//! max_handshakes: 1024                 # in flight at once; more are refused
//! handshake_timeout_ms: 10000          # for one handshake, signature included; at most this
//! peer_expiry_slack_ms: 60000          # a connection ends so long after its peer's certificate;
//!                                      # default: it goes on, as with Envoy's own TLS
//! # listeners only: how often handshakes begin; no limit unless given
//! handshake_rate: {per_second: 80, burst: 80}   # burst: how many at once, default one second's
//! source_rate: {per_second: 20, burst: 40}      # of each source: an IPv4 /24, an IPv6 /64
//! source_max_handshakes: 64                     # in flight at once, of each source
//! # clusters only
//! sni: server.demo.mesh                # default: none is sent
//! allow_any_workload: false            # true: peers may be {trust_domain: ...}
//! ```
//!
//! A cluster names its peers exactly, here or in an entry of a file that is followed
//! while it changes (`peers`). A listener may instead take every workload of a trust
//! domain, `peers: {trust_domain: demo.mesh}`, and leave the choice to RBAC.
//!
//! A listener that is offered ALPN protocols, but none of its own, goes on without
//! one (`tls/server.rs`).
//!
//! Whoever connects to a listener costs a signature before it has shown who it is.
//! The rates have no default because a right one follows from the token and the
//! network: one that is too low refuses honest peers after a restart, and behind a
//! proxy all peers are one source. The numbers above protect a token of 100
//! signatures a second: a fifth is left to the handshakes of clusters, and no
//! source gets more than a quarter of the rest. On a Unix socket there are no
//! sources, and file permissions say who may connect.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::admission::rate::Rate;
use crate::admission::{Allowance, Limits};
use crate::peers::Rule;
use crate::signer::link::Address;
use crate::spiffe::SpiffeId;
use crate::stats::Role;
use crate::tls::matcher::PeerMatcher;

/// `sockaddr_un` holds 108 bytes, the last of them NUL.
const MAX_SOCKET_PATH: usize = 107;

/// For how long the sidecar keeps a replaced key for the handshakes that began
/// with it (`HANDSHAKE_TIMEOUT` in sidecar/identity/keyring.py).
const MAX_HANDSHAKE_TIMEOUT_MS: u64 = 10_000;

const MAX_PEER_EXPIRY_SLACK_MS: u64 = 86_400_000;

/// A checked configuration.
#[derive(Debug, PartialEq)]
pub struct Config {
    pub role: Role,
    pub address: Address,
    pub alpn: Vec<Vec<u8>>,
    pub sni: Option<rustls::pki_types::ServerName<'static>>,
    pub peers: Rule,
    /// A cluster that any workload of the trust domain can impersonate.
    pub any_workload: bool,
    pub limits: Limits,
    pub handshake_timeout: Duration,
    /// How long a connection may outlive its peer's certificate; `None`: it may.
    pub peer_expiry_slack: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    signer: PathBuf,
    #[serde(default = "default_identity")]
    identity: String,
    token_file: Option<PathBuf>,
    #[serde(default)]
    alpn: Vec<String>,
    peers: Peers,
    #[serde(default = "default_max_handshakes")]
    max_handshakes: usize,
    #[serde(default = "default_handshake_timeout_ms")]
    handshake_timeout_ms: u64,
    peer_expiry_slack_ms: Option<u64>,
    handshake_rate: Option<RateDocument>,
    source_rate: Option<RateDocument>,
    source_max_handshakes: Option<usize>,
    sni: Option<String>,
    #[serde(default)]
    allow_any_workload: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateDocument {
    per_second: u32,
    burst: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Peers {
    spiffe_ids: Option<Vec<String>>,
    trust_domain: Option<String>,
    file: Option<PathBuf>,
    entry: Option<String>,
}

fn default_identity() -> String {
    "default".to_owned()
}

fn default_max_handshakes() -> usize {
    1024
}

fn default_handshake_timeout_ms() -> u64 {
    MAX_HANDSHAKE_TIMEOUT_MS
}

impl Config {
    /// Parses and checks what Envoy hands over; the error is one line.
    pub fn parse(role: Role, json: &[u8]) -> Result<Self, String> {
        let document: Document =
            serde_json::from_slice(json).map_err(|error| format!("configuration: {error}"))?;
        let any_workload = document.allow_any_workload;
        let limits = limits(role, &document)?;
        if role == Role::Server && (any_workload || document.sni.is_some()) {
            return Err("sni and allow_any_workload are for clusters only".to_owned());
        }
        Ok(Self {
            role,
            address: Address {
                signer: signer_path(document.signer)?,
                identity: document.identity,
                token_file: document.token_file.map(token_file).transpose()?,
            },
            alpn: alpn(document.alpn)?,
            sni: document.sni.map(server_name).transpose()?,
            peers: rule(role, document.peers, any_workload)?,
            any_workload,
            limits,
            handshake_timeout: handshake_timeout(document.handshake_timeout_ms)?,
            peer_expiry_slack: document
                .peer_expiry_slack_ms
                .map(peer_expiry_slack)
                .transpose()?,
        })
    }
}

fn signer_path(path: PathBuf) -> Result<PathBuf, String> {
    if !path.is_absolute() {
        return Err(format!(
            "signer {path:?}: the path of a Unix socket must be absolute"
        ));
    }
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        return Err(format!(
            "signer {path:?}: the path of a Unix socket has at most {MAX_SOCKET_PATH} bytes"
        ));
    }
    Ok(path)
}

fn token_file(path: PathBuf) -> Result<PathBuf, String> {
    if !path.is_absolute() {
        return Err(format!("token_file {path:?} must be an absolute path"));
    }
    Ok(path)
}

fn alpn(protocols: Vec<String>) -> Result<Vec<Vec<u8>>, String> {
    // RFC 7301 3.1: ProtocolName is opaque<1..2^8-1>
    match protocols
        .iter()
        .find(|name| name.is_empty() || name.len() > 255)
    {
        Some(name) => Err(format!("alpn {name:?}: a protocol name has 1 to 255 bytes")),
        None => Ok(protocols.into_iter().map(String::into_bytes).collect()),
    }
}

fn server_name(name: String) -> Result<rustls::pki_types::ServerName<'static>, String> {
    match rustls::pki_types::ServerName::try_from(name.clone()) {
        Ok(server_name @ rustls::pki_types::ServerName::DnsName(_)) => Ok(server_name),
        // RFC 6066 3: literal addresses are not permitted in HostName
        _ => Err(format!("sni {name:?} is not a DNS name")),
    }
}

fn rule(role: Role, peers: Peers, any_workload: bool) -> Result<Rule, String> {
    let Peers {
        spiffe_ids,
        trust_domain,
        file,
        entry,
    } = peers;
    if any_workload && trust_domain.is_none() {
        return Err("allow_any_workload contradicts an exact list of peers".to_owned());
    }
    match (spiffe_ids, trust_domain, file, entry) {
        (Some(ids), None, None, None) => exactly(&ids),
        (None, Some(domain), None, None) => any_of(role, &domain, any_workload),
        (None, None, Some(file), Some(entry)) => listed(file, entry),
        (None, None, Some(_), None) | (None, None, None, Some(_)) => {
            Err("peers.file and peers.entry belong together".to_owned())
        }
        _ => Err("peers: exactly one of spiffe_ids, trust_domain and file is required".to_owned()),
    }
}

fn exactly(ids: &[String]) -> Result<Rule, String> {
    if ids.is_empty() {
        return Err("peers.spiffe_ids is empty: name every SPIFFE ID that may answer".to_owned());
    }
    ids.iter()
        .map(|id| id.parse())
        .collect::<Result<Vec<SpiffeId>, _>>()
        .map(|ids| Rule::Fixed(PeerMatcher::Exactly(ids)))
        .map_err(|reason| format!("peers.spiffe_ids: {reason}"))
}

fn any_of(role: Role, domain: &str, any_workload: bool) -> Result<Rule, String> {
    if role == Role::Client && !any_workload {
        return Err(
            "peers.trust_domain on a cluster lets any workload impersonate the service: name \
             peers.spiffe_ids, or set allow_any_workload: true to accept that"
                .to_owned(),
        );
    }
    domain
        .parse()
        .map(|domain| Rule::Fixed(PeerMatcher::AnyOf(domain)))
        .map_err(|reason| format!("peers.trust_domain: {reason}"))
}

fn listed(file: PathBuf, entry: String) -> Result<Rule, String> {
    if !file.is_absolute() {
        return Err(format!("peers.file {file:?} must be an absolute path"));
    }
    if entry.is_empty() {
        return Err("peers.entry is empty: name a list of the file".to_owned());
    }
    Ok(Rule::Listed { file, entry })
}

fn peer_expiry_slack(milliseconds: u64) -> Result<Duration, String> {
    if milliseconds > MAX_PEER_EXPIRY_SLACK_MS {
        return Err(format!(
            "peer_expiry_slack_ms must be at most {MAX_PEER_EXPIRY_SLACK_MS}, a day: leave it out to \
             let connections outlive their peers' certificates"
        ));
    }
    Ok(Duration::from_millis(milliseconds))
}

fn limits(role: Role, document: &Document) -> Result<Limits, String> {
    let limits = Limits {
        in_flight: at_least_one("max_handshakes", document.max_handshakes)?,
        rate: rate("handshake_rate", document.handshake_rate.as_ref())?,
        source: Allowance {
            rate: rate("source_rate", document.source_rate.as_ref())?,
            in_flight: document
                .source_max_handshakes
                .map(|most| at_least_one("source_max_handshakes", most))
                .transpose()?,
        },
    };
    if role == Role::Client && (limits.rate.is_some() || !limits.source.is_unlimited()) {
        return Err(
            "handshake_rate, source_rate and source_max_handshakes are for listeners only:              clusters call nobody whom their Envoy does not want to call"
                .to_owned(),
        );
    }
    Ok(limits)
}

fn rate(name: &str, document: Option<&RateDocument>) -> Result<Option<Rate>, String> {
    let Some(document) = document else {
        return Ok(None);
    };
    let per_second = at_least_one(&format!("{name}.per_second"), document.per_second)?;
    let burst = at_least_one(
        &format!("{name}.burst"),
        document.burst.unwrap_or(per_second),
    )?;
    Ok(Some(Rate { per_second, burst }))
}

fn handshake_timeout(milliseconds: u64) -> Result<Duration, String> {
    if milliseconds > MAX_HANDSHAKE_TIMEOUT_MS {
        return Err(format!(
            "handshake_timeout_ms must be at most {MAX_HANDSHAKE_TIMEOUT_MS}: after that the \
             sidecar may have destroyed the key that the handshake began with"
        ));
    }
    at_least_one("handshake_timeout_ms", milliseconds).map(Duration::from_millis)
}

fn at_least_one<T: From<u8> + PartialOrd>(name: &str, value: T) -> Result<T, String> {
    if value < T::from(1) {
        return Err(format!("{name} must be at least 1"));
    }
    Ok(value)
}

/// The configuration of the `meshkey_peer` filter.
#[derive(Debug, Default, PartialEq)]
pub struct CompanionConfig {
    /// Who is let in, of those whom the transport socket has accepted.
    pub peers: Option<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompanionDocument {
    peers: Option<Peers>,
}

impl CompanionConfig {
    /// A `filter_config` need not be there.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        if json.is_empty() {
            return Ok(Self::default());
        }
        let document: CompanionDocument =
            serde_json::from_slice(json).map_err(|error| format!("meshkey_peer: {error}"))?;
        let peers = document
            .peers
            .map(|peers| rule(Role::Server, peers, false))
            .transpose()
            .map_err(|reason| format!("meshkey_peer: {reason}"))?;
        Ok(Self { peers })
    }
}

/// The configuration of the `meshkey_waker` filter.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct WakerConfig {
    /// The Unix socket that the filter's own listener is bound to.
    pub socket: PathBuf,
}

impl WakerConfig {
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| format!("meshkey_waker: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "spiffe://demo.mesh/ns/demo/sa/server";

    fn client(json: &str) -> Result<Config, String> {
        Config::parse(Role::Client, json.as_bytes())
    }

    fn server(json: &str) -> Result<Config, String> {
        Config::parse(Role::Server, json.as_bytes())
    }

    #[test]
    fn the_smallest_cluster_gets_the_documented_defaults() {
        let json = format!(r#"{{"signer":"/s","peers":{{"spiffe_ids":["{ID}"]}}}}"#);
        let config = client(&json).unwrap();
        assert_eq!(config.address.identity, "default");
        let unlimited = Limits {
            in_flight: 1024,
            rate: None,
            source: Allowance::default(),
        };
        assert_eq!(config.limits, unlimited);
        assert_eq!(config.handshake_timeout, Duration::from_secs(10));
        assert_eq!(
            config.peers,
            Rule::Fixed(PeerMatcher::Exactly(vec![ID.parse().unwrap()]))
        );
        assert_eq!(config.peer_expiry_slack, None);
        assert!(config.sni.is_none() && config.alpn.is_empty());
    }

    #[test]
    fn a_cluster_without_exact_peers_is_rejected() {
        for peers in [
            "{}",
            r#"{"spiffe_ids":[]}"#,
            r#"{"trust_domain":"demo.mesh"}"#,
        ] {
            let json = format!(r#"{{"signer":"/s","peers":{peers}}}"#);
            assert!(client(&json).is_err(), "{peers}");
        }
        assert!(client(r#"{"signer":"/s"}"#).is_err());
    }

    #[test]
    fn any_workload_has_to_be_asked_for() {
        let json =
            r#"{"signer":"/s","allow_any_workload":true,"peers":{"trust_domain":"demo.mesh"}}"#;
        assert!(client(json).unwrap().any_workload);
        assert!(server(json).is_err());
        let exact = format!(
            r#"{{"signer":"/s","allow_any_workload":true,"peers":{{"spiffe_ids":["{ID}"]}}}}"#
        );
        assert!(client(&exact).is_err());
    }

    #[test]
    fn a_listener_takes_a_trust_domain_or_a_list() {
        assert!(server(r#"{"signer":"/s","peers":{"trust_domain":"demo.mesh"}}"#).is_ok());
        let json = format!(r#"{{"signer":"/s","peers":{{"spiffe_ids":["{ID}"]}}}}"#);
        assert!(server(&json).is_ok());
        assert!(server(r#"{"signer":"/s","peers":{"spiffe_ids":[]}}"#).is_err());
    }

    #[test]
    fn a_listener_says_how_often_and_from_where_handshakes_may_begin() {
        let json = |limits: &str| {
            format!(r#"{{"signer":"/s","peers":{{"spiffe_ids":["{ID}"]}},{limits}}}"#)
        };
        let limits = r#""handshake_rate":{"per_second":80},"max_handshakes":9,
            "source_rate":{"per_second":20,"burst":40},"source_max_handshakes":64"#;
        let (per_second, burst) = (80, 80);
        let expected = Limits {
            in_flight: 9,
            rate: Some(Rate { per_second, burst }),
            source: Allowance {
                rate: Some(Rate {
                    per_second: 20,
                    burst: 40,
                }),
                in_flight: Some(64),
            },
        };
        assert_eq!(server(&json(limits)).unwrap().limits, expected);
        for limit in [
            r#""handshake_rate":{"per_second":80}"#,
            r#""source_rate":{"per_second":80}"#,
            r#""source_max_handshakes":1"#,
        ] {
            assert!(server(&json(limit)).is_ok());
            let error = client(&json(limit)).unwrap_err();
            assert!(error.contains("for listeners only"), "{error}");
        }
        for (limit, name) in [
            (
                r#""handshake_rate":{"per_second":0}"#,
                "handshake_rate.per_second",
            ),
            (
                r#""source_rate":{"per_second":1,"burst":0}"#,
                "source_rate.burst",
            ),
            (r#""source_max_handshakes":0"#, "source_max_handshakes"),
            (r#""source_rate":{"burst":1}"#, "per_second"),
        ] {
            let error = server(&json(limit)).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn peers_may_be_an_entry_of_a_file() {
        let json = r#"{"signer":"/s","peers":{"file":"/p.json","entry":"server"}}"#;
        let listed = Rule::Listed {
            file: PathBuf::from("/p.json"),
            entry: "server".to_owned(),
        };
        assert_eq!(client(json).unwrap().peers, listed);
        assert_eq!(server(json).unwrap().peers, listed);
        let json = br#"{"peers":{"file":"/p.json","entry":"server"}}"#;
        assert_eq!(CompanionConfig::parse(json).unwrap().peers, Some(listed));
        for (peers, word) in [
            (r#""file":"p.json","entry":"a""#, "must be an absolute path"),
            (r#""file":"","entry":"a""#, "must be an absolute path"),
            (r#""file":"/p.json","entry":"""#, "peers.entry is empty"),
            (r#""file":"/p.json""#, "belong together"),
            (r#""entry":"a""#, "belong together"),
            (
                r#""file":"/p.json","entry":"a","trust_domain":"a""#,
                "exactly one of",
            ),
            (
                r#""file":"/p.json","entry":"a","spiffe_ids":[]"#,
                "exactly one of",
            ),
        ] {
            let json = format!(r#"{{"signer":"/s","peers":{{{peers}}}}}"#);
            for error in [client(&json).unwrap_err(), server(&json).unwrap_err()] {
                assert!(error.contains(word), "{error}");
            }
        }
        let any = r#"{"signer":"/s","allow_any_workload":true,
            "peers":{"file":"/p.json","entry":"a"}}"#;
        assert!(client(any).unwrap_err().contains("contradicts"));
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = [
            (r#"{"signer":"s","peers":{"trust_domain":"a"}}"#, "absolute"),
            (
                r#"{"signer":"/s","token_file":"t","peers":{"trust_domain":"a"}}"#,
                "token_file",
            ),
            (
                r#"{"signer":"/s","peers":{"trust_domain":"A"}}"#,
                "trust_domain",
            ),
            (
                r#"{"signer":"/s","sni":"a","peers":{"trust_domain":"a"}}"#,
                "sni",
            ),
            (
                r#"{"signer":"/s","alpn":[""],"peers":{"trust_domain":"a"}}"#,
                "alpn",
            ),
            (
                r#"{"signer":"/s","max_handshakes":0,"peers":{"trust_domain":"a"}}"#,
                "max_handshakes",
            ),
            (
                r#"{"signer":"/s","sigher":1,"peers":{"trust_domain":"a"}}"#,
                "sigher",
            ),
            (
                r#"{"signer":"/s","handshake_timeout_ms":0,"peers":{"trust_domain":"a"}}"#,
                "handshake_timeout_ms must be at least 1",
            ),
            (
                r#"{"signer":"/s","handshake_timeout_ms":10001,"peers":{"trust_domain":"a"}}"#,
                "handshake_timeout_ms must be at most 10000: ",
            ),
            (
                r#"{"signer":"/s","peer_expiry_slack_ms":86400001,"peers":{"trust_domain":"a"}}"#,
                "peer_expiry_slack_ms must be at most 86400000",
            ),
            ("", "configuration"),
        ];
        for (json, word) in wrong {
            let error = server(json).unwrap_err();
            assert!(error.contains(word) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn the_companion_lets_everybody_in_unless_peers_are_named() {
        for json in ["", "{}"] {
            assert_eq!(CompanionConfig::parse(json.as_bytes()).unwrap().peers, None);
        }
        let json = format!(r#"{{"peers":{{"spiffe_ids":["{ID}"]}}}}"#);
        let config = CompanionConfig::parse(json.as_bytes()).unwrap();
        let exactly = Rule::Fixed(PeerMatcher::Exactly(vec![ID.parse().unwrap()]));
        assert_eq!(config.peers, Some(exactly));
        let config = CompanionConfig::parse(br#"{"peers":{"trust_domain":"demo.mesh"}}"#).unwrap();
        let any = Rule::Fixed(PeerMatcher::AnyOf("demo.mesh".parse().unwrap()));
        assert_eq!(config.peers, Some(any));
        for wrong in [
            r#"{"peers":{}}"#,
            r#"{"peers":{"spiffe_ids":[]}}"#,
            r#"{"pears":{}}"#,
            "[",
        ] {
            let error = CompanionConfig::parse(wrong.as_bytes()).unwrap_err();
            assert!(error.starts_with("meshkey_peer: "), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_configuration_panics(json in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Config::parse(Role::Client, &json);
            let _ = CompanionConfig::parse(&json);
            let _ = WakerConfig::parse(&json);
        }
    }
}
