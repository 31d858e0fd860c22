//! The link to a signer as the handshakes see it: is it there, what is our
//! identity, sign this.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use rustls::SignatureScheme;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use super::pending::{Outcome, Pending};
use super::standing::{Connection, Ended, Standing};
use super::{denied, runtime, session};
use crate::failure::{Failure, Reason};
use crate::handshake::pool::Pool;
use crate::identity::snapshot::Snapshot;
use crate::proto::sign_response::Result as Answer;
use crate::proto::{DeniedPeers, Purpose, SignRequest};
use crate::spiffe::SpiffeId;
use crate::stats::{self, Counter, Gauge, Role};

/// For how long, counted from the loss, handshakes wait for a signer to come
/// back. Once it has been away for longer they fail at once.
const GRACE: Duration = Duration::from_millis(500);
/// Pauses before a request that the signer put off is repeated.
const FIRST_RETRY: Duration = Duration::from_millis(5);
const LAST_RETRY: Duration = Duration::from_millis(100);
/// How often connections are looked through for those that may go on no longer.
const SWEEP: Duration = Duration::from_secs(1);

/// A signer, one of its identities, and what to show it. Every listener and
/// cluster that names the same shares a link.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    pub signer: PathBuf,
    pub identity: String,
    /// Holds the token that the signer asks of its callers.
    pub token_file: Option<PathBuf>,
}

/// The way to one address.
#[derive(Debug)]
pub struct Link {
    pub address: Address,
    pub pending: Pending,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    presence: Presence,
    standing: Standing,
}

#[derive(Debug)]
enum Presence {
    /// Not there, or there without having said who we are.
    Away {
        since: Instant,
        why: String,
    },
    Ready(Ready),
}

#[derive(Debug)]
struct Ready {
    snapshot: Arc<Snapshot>,
    requests: UnboundedSender<SignRequest>,
}

/// What came of one request, if it was not refused.
enum Reply {
    Signature(Vec<u8>),
    /// The signer cannot now, for this reason.
    NotNow(String),
    /// The connection went before the answer came.
    Lost,
}

fn reply(answer: Answer) -> Result<Reply, Failure> {
    match answer {
        Answer::Signature(signature) => {
            stats::count(Counter::SignatureMade);
            Ok(Reply::Signature(signature))
        }
        Answer::Retry(retry) => {
            stats::count(Counter::SignatureRetried);
            Ok(Reply::NotNow(retry.detail))
        }
        Answer::Refusal(refusal) => {
            stats::count(Counter::SignatureRefused);
            let detail = format!("the signer refused: {}", refusal.detail);
            Err(Failure::new(Reason::SignerRefused, detail))
        }
    }
}

/// Keeps a link connecting; the last one dropped ends it.
pub struct LinkHandle {
    pub link: Arc<Link>,
    tasks: [AbortHandle; 2],
    pools: [Arc<Pool>; Role::ALL.len()],
}

impl LinkHandle {
    /// Where the handshakes of one role wait for the link's signatures.
    pub fn pool(&self, role: Role) -> &Arc<Pool> {
        &self.pools[role as usize]
    }
}

impl Drop for LinkHandle {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.link.lost("no longer configured");
    }
}

type Links = HashMap<Address, Weak<LinkHandle>>;
static LINKS: Mutex<Option<Links>> = Mutex::new(None);

/// The link to `address`, begun if nobody has it yet. Does not wait for the
/// signer.
pub fn open(address: &Address) -> Result<Arc<LinkHandle>, String> {
    let mut links = LINKS.lock().unwrap_or_else(PoisonError::into_inner);
    let links = links.get_or_insert_default();
    if let Some(handle) = links.get(address).and_then(Weak::upgrade) {
        return Ok(handle);
    }
    let link = Arc::new(Link::new(address));
    let runtime = runtime::handle()?;
    let connecting = runtime.spawn(session::keep_connected(link.clone()));
    let sweeping = runtime.spawn(keep_sweeping(link.clone()));
    let handle = Arc::new(LinkHandle {
        link,
        tasks: [connecting.abort_handle(), sweeping.abort_handle()],
        pools: Default::default(),
    });
    links.insert(address.clone(), Arc::downgrade(&handle));
    Ok(handle)
}

impl Link {
    pub fn new(address: &Address) -> Self {
        let denied = denied::newest(&address.signer, None);
        Self {
            address: address.clone(),
            pending: Pending::default(),
            state: Mutex::new(State {
                presence: Presence::Away {
                    since: Instant::now(),
                    why: "not connected yet".to_owned(),
                },
                standing: Standing::new(&address.identity, denied),
            }),
            changed: Condvar::new(),
        }
    }

    /// A new generation, over a connection that takes sign requests. An identity
    /// that was withdrawn is back.
    pub fn ready(&self, snapshot: Arc<Snapshot>, requests: UnboundedSender<SignRequest>) {
        stats::set(Gauge::Generation, snapshot.generation);
        let mut state = self.state();
        state.standing.reinstate();
        let ready = Presence::Ready(Ready { snapshot, requests });
        let before = std::mem::replace(&mut state.presence, ready);
        drop(state);
        if matches!(before, Presence::Away { .. }) {
            stats::raise(Gauge::SignersConnected);
        }
        self.changed.notify_all();
    }

    /// The signer serves the identity no more: nobody gets it, whoever waits is
    /// told so, and its connections are closed.
    pub fn withdraw(&self) {
        let ended = self.state().standing.withdraw();
        self.changed.notify_all();
        // They ask again, and are told.
        self.pending.lose_all();
        close(&ended);
    }

    /// From now on these keys, no others, and the peers of the newest deny list
    /// are out; connections with them are closed.
    pub fn exclude(&self, revoked_keys: Vec<Vec<u8>>, list: Option<&DeniedPeers>) {
        let denied = denied::newest(&self.address.signer, list);
        let ended = self.state().standing.exclude(revoked_keys, denied);
        close(&ended);
    }

    /// Closes the connections that have outlived their peers' certificates, or whose
    /// peers are on their lists no more.
    pub fn sweep(&self, now: SystemTime) {
        let ended = self.state().standing.sweep(now);
        close(&ended);
    }

    /// Whether a handshake with this peer may go on.
    pub fn check_peer(&self, peer: &SpiffeId) -> Result<(), Failure> {
        Ok(self.state().standing.check_peer(peer)?)
    }

    /// Enters a connection whose handshake is done, if it still may be, for as
    /// long as what is returned lives.
    pub fn enter(self: &Arc<Self>, connection: Connection) -> Result<Entered, Failure> {
        let connection = Arc::new(connection);
        let entry = self.state().standing.enter(connection.clone())?;
        Ok(Entered {
            link: self.clone(),
            entry,
            connection,
        })
    }

    /// The connection failed or ended. Whether that is news: it was there
    /// before, or fails in another way now.
    pub fn lost(&self, reason: &str) -> bool {
        let news = match &mut self.state().presence {
            Presence::Away { why, .. } if why == reason => false,
            Presence::Away { why, .. } => {
                reason.clone_into(why);
                true
            }
            ready => {
                let (since, why) = (Instant::now(), reason.to_owned());
                *ready = Presence::Away { since, why };
                stats::lower(Gauge::SignersConnected);
                true
            }
        };
        self.pending.lose_all();
        self.changed.notify_all();
        news
    }

    /// The identity for a new handshake. Blocks while the signer has been away
    /// for less than [`GRACE`].
    pub fn snapshot(&self, deadline: Instant) -> Result<Arc<Snapshot>, Failure> {
        self.when_ready(deadline, |ready, standing| {
            standing.check_key(&ready.snapshot.key_id)?;
            Ok(ready.snapshot.clone())
        })
    }

    /// One signature over `message`, in TLS's encoding. Blocks until the signer
    /// has answered or `deadline`.
    pub fn sign(
        &self,
        key_id: &[u8],
        scheme: SignatureScheme,
        purpose: Purpose,
        message: &[u8],
        deadline: Instant,
    ) -> Result<Vec<u8>, Failure> {
        let mut pause = FIRST_RETRY;
        loop {
            let request = SignRequest {
                request_id: 0, // `ask` fills it in
                key_id: key_id.to_owned(),
                scheme: u16::from(scheme).into(),
                purpose: purpose.into(),
                message: message.to_owned(),
            };
            match self.ask(request, deadline)? {
                Reply::Signature(signature) => return Ok(signature),
                Reply::NotNow(detail) if Instant::now() + pause >= deadline => {
                    let detail = format!("the signer put us off: {detail}");
                    return Err(Failure::new(Reason::SignerTimeout, detail));
                }
                Reply::NotNow(_) | Reply::Lost => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(LAST_RETRY);
        }
    }

    /// One request over the connection that there is.
    fn ask(&self, mut request: SignRequest, deadline: Instant) -> Result<Reply, Failure> {
        // Under the lock that `lost` takes first: either we see that the connection is gone,
        // or `lost` sees that somebody waits.
        let (requests, request_id, outcome) = self.when_ready(deadline, |ready, standing| {
            standing.check_key(&request.key_id)?;
            let (request_id, outcome) = self.pending.register();
            Ok((ready.requests.clone(), request_id, outcome))
        })?;
        request.request_id = request_id;
        stats::count(Counter::SignatureAsked);
        if requests.send(request).is_err() {
            // It ended a moment ago; `when_ready` will know.
            self.pending.forget(request_id);
            return Ok(Reply::Lost);
        }
        match outcome.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Outcome::Answered(answer)) => reply(answer),
            Ok(Outcome::Lost) => Ok(Reply::Lost),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                self.pending.forget(request_id);
                let detail = format!("no answer from the signer at {}", self.signer());
                Err(Failure::new(Reason::SignerTimeout, detail))
            }
        }
    }

    /// Waits for the signer and takes something from its state, under its lock.
    /// For an identity that was withdrawn nobody waits.
    fn when_ready<T>(
        &self,
        deadline: Instant,
        take: impl FnOnce(&Ready, &Standing) -> Result<T, Ended>,
    ) -> Result<T, Failure> {
        let mut state = self.state();
        loop {
            state.standing.check_not_withdrawn()?;
            let (since, why) = match &state.presence {
                Presence::Ready(ready) => return Ok(take(ready, &state.standing)?),
                Presence::Away { since, why } => (*since, why),
            };
            let left = patience(since, deadline, Instant::now());
            if left.is_zero() {
                let detail = format!("no signer at {}: {why}", self.signer());
                return Err(Failure::new(Reason::NoSigner, detail));
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn signer(&self) -> std::path::Display<'_> {
        self.address.signer.display()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection has no timer of its own.
async fn keep_sweeping(link: Arc<Link>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        link.sweep(SystemTime::now());
    }
}

/// Has their workers look at connections that have ended.
fn close(ended: &[Arc<Connection>]) {
    for connection in ended {
        connection.target.wake();
    }
}

/// An established connection's entry at its link.
pub struct Entered {
    link: Arc<Link>,
    entry: u64,
    connection: Arc<Connection>,
}

impl Entered {
    /// Why the connection is to be closed, if it is.
    pub fn ended(&self) -> Option<&Ended> {
        self.connection.ended()
    }

    /// On the connection's thread, before its descriptor is closed: nobody wakes
    /// it from now on.
    pub fn detach(&self) {
        self.connection.target.detach();
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.detach();
        self.link.state().standing.strike_out(self.entry);
    }
}

/// For how much longer a handshake waits for a signer that has been away `since`.
fn patience(since: Instant, deadline: Instant, now: Instant) -> Duration {
    (since + GRACE).min(deadline).saturating_duration_since(now)
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
