//! One configured listener or cluster: what its sockets share.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwapOption;

use crate::abi::{self, Alive, Level, TransportSocket};
use crate::admission::source::Source;
use crate::admission::{Admission, Place};
use crate::config::Config;
use crate::failure::Failure;
use crate::handshake::deadlines::Deadlines;
use crate::identity::snapshot::Snapshot;
use crate::peers::Expected;
use crate::signer::link::{self, LinkHandle};
use crate::stats::{self, Gauge};
use crate::tls::configs::TlsConfig;
use crate::tls::session::Session;

/// Made in `transport_socket_factory_config_new`; lives as long as Envoy's
/// configuration and every handshake that began under it.
pub struct Factory {
    pub config: Config,
    /// Who may be on the other end.
    pub expected: Expected,
    pub link: Arc<LinkHandle>,
    current: ArcSwapOption<Current>,
    admission: Admission,
    pub deadlines: Arc<Deadlines>,
}

/// The rustls configuration made from one snapshot.
struct Current {
    snapshot: Arc<Snapshot>,
    tls: TlsConfig,
}

impl Factory {
    pub fn new(config: Config) -> Result<Arc<Self>, String> {
        let expected = Expected::open(&config.peers)?;
        let link = link::open(&config.address)?;
        let deadlines = Deadlines::start()?;
        let admission = Admission::new(config.limits.clone(), Instant::now());
        Ok(Arc::new(Self {
            config,
            expected,
            link,
            current: ArcSwapOption::empty(),
            admission,
            deadlines,
        }))
    }

    /// A new connection under the newest identity, chain and key from the same
    /// snapshot. Blocks a little while the signer is away.
    pub fn session(&self, deadline: Instant) -> Result<(Session, Arc<Snapshot>), Failure> {
        let link = &self.link.link;
        let snapshot = link.snapshot(deadline)?;
        snapshot.check_not_expired(SystemTime::now())?;
        if let Some(current) = &*self.current.load()
            && Arc::ptr_eq(&current.snapshot, &snapshot)
        {
            return Ok((current.tls.session()?, snapshot));
        }
        let tls = TlsConfig::new(&self.config, &self.expected, link, &snapshot)?;
        let session = tls.session()?;
        self.current.store(Some(Arc::new(Current {
            snapshot: snapshot.clone(),
            tls,
        })));
        Ok((session, snapshot))
    }

    /// A place among the handshakes in flight, for a connection on its thread.
    pub fn admit(self: &Arc<Self>, envoy: TransportSocket) -> Result<Arc<InFlight>, Failure> {
        let source = if self.admission.asks_for_source() {
            Source::of(envoy.fd())?
        } else {
            None
        };
        let place = self.admission.admit(source, Instant::now())?;
        stats::raise(Gauge::InFlight);
        Ok(Arc::new(InFlight {
            factory: self.clone(),
            place,
        }))
    }
}

/// A handshake in flight; over when dropped. Its connection and its step share
/// it: a step whose connection has gone still has a thread, or waits for one.
pub struct InFlight {
    factory: Arc<Factory>,
    place: Place,
}

impl InFlight {
    pub fn factory(&self) -> &Factory {
        &self.factory
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.factory.admission.give_back(&self.place);
        stats::lower(Gauge::InFlight);
    }
}

/// What Envoy holds between `config_new` and `config_destroy`.
pub struct Configured {
    pub factory: Arc<Factory>,
    _alive: Alive,
}

impl Configured {
    pub fn new(config: Config) -> Result<Self, String> {
        let factory = Factory::new(config)?;
        if factory.config.any_workload {
            stats::raise(Gauge::AnyWorkload);
            let warning = "allow_any_workload: any workload of the trust domain can impersonate \
                           the service behind this cluster";
            abi::log_unguarded(Level::Warn, warning);
        }
        Ok(Self {
            factory,
            _alive: Alive::new(),
        })
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        if self.factory.config.any_workload {
            stats::lower(Gauge::AnyWorkload);
        }
    }
}
