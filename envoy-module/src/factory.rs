//! One configured listener or cluster: what its sockets share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwapOption;

use crate::abi::{self, Alive, Level};
use crate::config::Config;
use crate::failure::{Failure, Reason};
use crate::handshake::deadlines::Deadlines;
use crate::identity::snapshot::Snapshot;
use crate::signer::link::{self, LinkHandle};
use crate::stats::{self, Gauge};
use crate::tls::configs::TlsConfig;
use crate::tls::session::Session;

/// Made in `transport_socket_factory_config_new`; lives as long as Envoy's
/// configuration and every handshake that began under it.
pub struct Factory {
    pub config: Config,
    pub link: Arc<LinkHandle>,
    current: ArcSwapOption<Current>,
    in_flight: AtomicUsize,
    pub deadlines: Arc<Deadlines>,
}

/// The rustls configuration made from one snapshot.
struct Current {
    snapshot: Arc<Snapshot>,
    tls: TlsConfig,
}

impl Factory {
    pub fn new(config: Config) -> Result<Arc<Self>, String> {
        let link = link::open(&config.signer, &config.identity)?;
        let deadlines = Deadlines::start()?;
        Ok(Arc::new(Self {
            config,
            link,
            current: ArcSwapOption::empty(),
            in_flight: AtomicUsize::new(0),
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
        let tls = TlsConfig::new(&self.config, link, &snapshot)?;
        let session = tls.session()?;
        self.current.store(Some(Arc::new(Current {
            snapshot: snapshot.clone(),
            tls,
        })));
        Ok((session, snapshot))
    }

    /// A place among the handshakes in flight.
    pub fn admit(self: &Arc<Self>) -> Result<Arc<InFlight>, Failure> {
        let most = self.config.max_handshakes;
        if self.in_flight.fetch_add(1, Ordering::Relaxed) < most {
            stats::raise(Gauge::InFlight);
            return Ok(Arc::new(InFlight(self.clone())));
        }
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let detail = format!("too many handshakes in flight (max_handshakes: {most})");
        Err(Failure::new(Reason::TooMany, detail))
    }
}

/// A handshake in flight; over when dropped. Its connection and its step share
/// it: a step whose connection has gone still has a thread, or waits for one.
pub struct InFlight(Arc<Factory>);

impl InFlight {
    pub fn factory(&self) -> &Factory {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
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
