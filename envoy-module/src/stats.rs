//! The module's statistics, readable at Envoy's admin `/stats`.
//!
//! Envoy hands out counters and gauges to a network filter's configuration
//! only, so `meshkey_peer` and `meshkey_waker` are where they are anchored
//! (docs/adr/0014). Values gathered while nothing is anchored are published as
//! soon as something is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::abi::FilterConfig;
use crate::failure::{Ending, Reason};

/// Which end of the connection Envoy is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Server,
    Client,
}

impl Role {
    pub const ALL: [Self; 2] = [Self::Server, Self::Client];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// Everything that is counted.
#[derive(Clone, Copy)]
pub enum Counter {
    HandshakeOk(Role),
    HandshakeFailed(Role, Reason),
    /// Established connections that the module has closed.
    Closed(Role, Ending),
    SignatureAsked,
    SignatureMade,
    SignatureRefused,
    SignatureRetried,
    SnapshotTaken,
    SnapshotRefused,
    /// Peers that `meshkey_peer` did not let in after their handshake.
    PeerDenied,
}

#[derive(Clone, Copy)]
pub enum Gauge {
    /// Handshakes begun and neither finished nor failed.
    InFlight,
    /// The most that `InFlight` has ever been.
    InFlightMax,
    /// Clusters configured with `allow_any_workload`.
    AnyWorkload,
    /// Signers that are there and have said who we are.
    SignersConnected,
    /// The generation taken last.
    Generation,
    /// Workers woken through `meshkey_waker`.
    WorkersCovered,
    /// Listeners, clusters and filters that wait for the list of their peers.
    ListsMissing,
}

const PER_ROLE: usize = 1 + Reason::ALL.len() + Ending::ALL.len();
const PLAIN: [&str; 7] = [
    "meshkey.signatures.asked",
    "meshkey.signatures.made",
    "meshkey.signatures.refused",
    "meshkey.signatures.retried",
    "meshkey.snapshots.taken",
    "meshkey.snapshots.refused",
    "meshkey.peers.denied",
];
const COUNTERS: usize = 2 * PER_ROLE + PLAIN.len();
const GAUGES: [&str; 7] = [
    "meshkey.handshakes.in_flight",
    "meshkey.handshakes.in_flight_max",
    "meshkey.clusters.allow_any_workload",
    "meshkey.signers.connected",
    "meshkey.identity.generation",
    "meshkey.waker.workers",
    "meshkey.peers.lists_missing",
];

impl Counter {
    fn index(self) -> usize {
        match self {
            Self::HandshakeOk(role) => role as usize * PER_ROLE,
            Self::HandshakeFailed(role, reason) => role as usize * PER_ROLE + 1 + reason as usize,
            Self::Closed(role, ending) => {
                role as usize * PER_ROLE + 1 + Reason::ALL.len() + ending as usize
            }
            Self::SignatureAsked => 2 * PER_ROLE,
            Self::SignatureMade => 2 * PER_ROLE + 1,
            Self::SignatureRefused => 2 * PER_ROLE + 2,
            Self::SignatureRetried => 2 * PER_ROLE + 3,
            Self::SnapshotTaken => 2 * PER_ROLE + 4,
            Self::SnapshotRefused => 2 * PER_ROLE + 5,
            Self::PeerDenied => 2 * PER_ROLE + 6,
        }
    }
}

fn counter_names() -> Vec<String> {
    let mut names = Vec::with_capacity(COUNTERS);
    for role in Role::ALL.map(Role::as_str) {
        names.push(format!("meshkey.handshakes.{role}.ok"));
        names.extend(
            Reason::ALL
                .iter()
                .map(|reason| format!("meshkey.handshakes.{role}.failed.{}", reason.as_str())),
        );
        names.extend(
            Ending::ALL
                .iter()
                .map(|ending| ending.reason().as_str())
                .map(|reason| format!("meshkey.connections.{role}.closed.{reason}")),
        );
    }
    names.extend(PLAIN.map(String::from));
    names
}

static UNPUBLISHED: [AtomicU64; COUNTERS] = [const { AtomicU64::new(0) }; COUNTERS];
static LEVELS: [AtomicU64; GAUGES.len()] = [const { AtomicU64::new(0) }; GAUGES.len()];
static ANCHORS: RwLock<Vec<Anchor>> = RwLock::new(Vec::new());

struct Anchor {
    config: FilterConfig,
    key: usize,
    counters: Vec<usize>,
    gauges: Vec<usize>,
}

/// Keeps the statistics anchored on one filter configuration; dropped in its
/// destroy hook, after which nothing touches it.
pub struct Anchored(usize);

/// In `network_filter_config_new` only.
pub fn anchor(envoy: *mut std::ffi::c_void) -> Anchored {
    let config = FilterConfig::new(envoy);
    let counters = counter_names()
        .iter()
        .map(|name| config.define_counter(name))
        .collect();
    let gauges = GAUGES.map(|name| config.define_gauge(name)).to_vec();
    let key = envoy as usize;
    let mut anchors = ANCHORS.write().unwrap_or_else(PoisonError::into_inner);
    anchors.push(Anchor {
        config,
        key,
        counters,
        gauges,
    });
    publish(&anchors);
    Anchored(key)
}

impl Drop for Anchored {
    fn drop(&mut self) {
        let mut anchors = ANCHORS.write().unwrap_or_else(PoisonError::into_inner);
        anchors.retain(|anchor| anchor.key != self.0);
        publish(&anchors);
    }
}

/// Under the exclusive lock: brings the anchor in use up to date.
fn publish(anchors: &[Anchor]) {
    let Some(anchor) = anchors.first() else {
        return;
    };
    for (pending, id) in UNPUBLISHED.iter().zip(&anchor.counters) {
        match pending.swap(0, Ordering::Relaxed) {
            0 => {}
            count => anchor.config.add_to_counter(*id, count),
        }
    }
    for (level, id) in LEVELS.iter().zip(&anchor.gauges) {
        anchor.config.set_gauge(*id, level.load(Ordering::Relaxed));
    }
}

/// Any thread.
pub fn count(counter: Counter) {
    let anchors = ANCHORS.read().unwrap_or_else(PoisonError::into_inner);
    let index = counter.index();
    match anchors.first() {
        Some(anchor) => anchor.config.add_to_counter(anchor.counters[index], 1),
        None => {
            UNPUBLISHED[index].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Any thread.
pub fn raise(gauge: Gauge) {
    let anchors = ANCHORS.read().unwrap_or_else(PoisonError::into_inner);
    let level = LEVELS[gauge as usize].fetch_add(1, Ordering::Relaxed) + 1;
    if let Some(anchor) = anchors.first() {
        anchor.config.add_to_gauge(anchor.gauges[gauge as usize], 1);
    }
    drop(anchors);
    if matches!(gauge, Gauge::InFlight) {
        raise_maximum(level);
    }
}

/// Any thread.
pub fn lower(gauge: Gauge) {
    let anchors = ANCHORS.read().unwrap_or_else(PoisonError::into_inner);
    LEVELS[gauge as usize].fetch_sub(1, Ordering::Relaxed);
    if let Some(anchor) = anchors.first() {
        anchor
            .config
            .take_from_gauge(anchor.gauges[gauge as usize], 1);
    }
}

/// Any thread.
pub fn set(gauge: Gauge, value: u64) {
    // Exclusively: two values set at once must not arrive in the wrong order.
    let anchors = ANCHORS.write().unwrap_or_else(PoisonError::into_inner);
    LEVELS[gauge as usize].store(value, Ordering::Relaxed);
    if let Some(anchor) = anchors.first() {
        anchor
            .config
            .set_gauge(anchor.gauges[gauge as usize], value);
    }
}

fn raise_maximum(level: u64) {
    let maximum = &LEVELS[Gauge::InFlightMax as usize];
    if level <= maximum.load(Ordering::Relaxed) {
        return;
    }
    let anchors = ANCHORS.write().unwrap_or_else(PoisonError::into_inner);
    if maximum.fetch_max(level, Ordering::Relaxed) < level
        && let Some(anchor) = anchors.first()
    {
        let id = anchor.gauges[Gauge::InFlightMax as usize];
        anchor.config.set_gauge(id, level);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_own_name_and_the_page_tells_every_reason() {
        let names = counter_names();
        assert_eq!(names.len(), COUNTERS);
        let failed = Counter::HandshakeFailed(Role::Client, Reason::PeerExpired);
        assert_eq!(
            names[failed.index()],
            "meshkey.handshakes.client.failed.peer_expired"
        );
        let closed = Counter::Closed(Role::Server, Ending::PeerDenied);
        assert_eq!(
            names[closed.index()],
            "meshkey.connections.server.closed.peer_denied"
        );
        assert_eq!(
            names[Counter::SnapshotRefused.index()],
            "meshkey.snapshots.refused"
        );
        assert_eq!(names[Counter::PeerDenied.index()], "meshkey.peers.denied");
        let page = include_str!("../../docs/envoy-module.md");
        for reason in Reason::ALL.map(Reason::as_str) {
            assert!(page.contains(&format!("`{reason}`")), "{reason}");
        }
        let unique: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
    }
}
