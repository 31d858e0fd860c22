//! The link to a signer as the handshakes see it: is it there, what is our
//! identity, sign this.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustls::SignatureScheme;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use super::pending::{Outcome, Pending};
use super::{runtime, session};
use crate::failure::{Failure, Reason};
use crate::identity::snapshot::Snapshot;
use crate::proto::sign_response::Result as Answer;
use crate::proto::{Purpose, SignRequest};
use crate::stats::{self, Counter, Gauge};

/// For how long, counted from the loss, handshakes wait for a signer to come
/// back. Once it has been away for longer they fail at once.
const GRACE: Duration = Duration::from_millis(500);
/// Pauses before a request that the signer put off is repeated.
const FIRST_RETRY: Duration = Duration::from_millis(5);
const LAST_RETRY: Duration = Duration::from_millis(100);

/// One signer and one of its identities. Shared by every listener and cluster
/// that names the same two.
#[derive(Debug)]
pub struct Link {
    pub signer: PathBuf,
    pub identity: String,
    pub pending: Pending,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
enum State {
    /// Not there, or there without having said who we are.
    Away {
        since: Instant,
        why: String,
    },
    Ready(Ready),
}

#[derive(Clone, Debug)]
struct Ready {
    snapshot: Arc<Snapshot>,
    requests: UnboundedSender<SignRequest>,
}

/// Keeps a link connecting; the last one dropped ends it.
#[derive(Debug)]
pub struct LinkHandle {
    pub link: Arc<Link>,
    task: AbortHandle,
}

impl Drop for LinkHandle {
    fn drop(&mut self) {
        self.task.abort();
        self.link.lost("no longer configured");
    }
}

type Links = HashMap<(PathBuf, String), Weak<LinkHandle>>;
static LINKS: Mutex<Option<Links>> = Mutex::new(None);

/// The link to `identity` at `signer`, begun if nobody has it yet. Does not
/// wait for the signer.
pub fn open(signer: &Path, identity: &str) -> Result<Arc<LinkHandle>, String> {
    let mut links = LINKS.lock().unwrap_or_else(PoisonError::into_inner);
    let links = links.get_or_insert_default();
    let key = (signer.to_owned(), identity.to_owned());
    if let Some(handle) = links.get(&key).and_then(Weak::upgrade) {
        return Ok(handle);
    }
    let link = Arc::new(Link::new(signer, identity));
    let task = runtime::handle()?.spawn(session::keep_connected(link.clone()));
    let handle = Arc::new(LinkHandle {
        link,
        task: task.abort_handle(),
    });
    links.insert(key, Arc::downgrade(&handle));
    Ok(handle)
}

impl Link {
    pub fn new(signer: &Path, identity: &str) -> Self {
        Self {
            signer: signer.to_owned(),
            identity: identity.to_owned(),
            pending: Pending::default(),
            state: Mutex::new(State::Away {
                since: Instant::now(),
                why: "not connected yet".to_owned(),
            }),
            changed: Condvar::new(),
        }
    }

    /// A new generation, over a connection that takes sign requests.
    pub fn ready(&self, snapshot: Arc<Snapshot>, requests: UnboundedSender<SignRequest>) {
        stats::set(Gauge::Generation, snapshot.generation);
        let before = std::mem::replace(
            &mut *self.state(),
            State::Ready(Ready { snapshot, requests }),
        );
        if matches!(before, State::Away { .. }) {
            stats::raise(Gauge::SignersConnected);
        }
        self.changed.notify_all();
    }

    /// The connection failed or ended. Whether that is news: it was there
    /// before, or fails in another way now.
    pub fn lost(&self, reason: &str) -> bool {
        let news = match &mut *self.state() {
            State::Away { why, .. } if why == reason => false,
            State::Away { why, .. } => {
                reason.clone_into(why);
                true
            }
            ready => {
                let (since, why) = (Instant::now(), reason.to_owned());
                *ready = State::Away { since, why };
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
        self.wait_ready(deadline).map(|ready| ready.snapshot)
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
            let ready = self.wait_ready(deadline)?;
            let (request_id, outcome) = self.pending.register();
            stats::count(Counter::SignatureAsked);
            let request = SignRequest {
                request_id,
                key_id: key_id.to_owned(),
                scheme: u16::from(scheme).into(),
                purpose: purpose.into(),
                message: message.to_owned(),
            };
            if ready.requests.send(request).is_err() {
                // The connection ended a moment ago; `wait_ready` will know.
                self.pending.forget(request_id);
                std::thread::sleep(FIRST_RETRY);
                continue;
            }
            match outcome.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Outcome::Answered(Answer::Signature(signature))) => {
                    stats::count(Counter::SignatureMade);
                    return Ok(signature);
                }
                Ok(Outcome::Answered(Answer::Refusal(refusal))) => {
                    stats::count(Counter::SignatureRefused);
                    let detail = format!("the signer refused: {}", refusal.detail);
                    return Err(Failure::new(Reason::SignerRefused, detail));
                }
                Ok(Outcome::Answered(Answer::Retry(retry))) => {
                    stats::count(Counter::SignatureRetried);
                    if Instant::now() + pause >= deadline {
                        let detail = format!("the signer put us off: {}", retry.detail);
                        return Err(Failure::new(Reason::SignerTimeout, detail));
                    }
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LAST_RETRY);
                }
                Ok(Outcome::Lost) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    self.pending.forget(request_id);
                    let detail = format!("no answer from the signer at {}", self.signer.display());
                    return Err(Failure::new(Reason::SignerTimeout, detail));
                }
            }
        }
    }

    fn wait_ready(&self, deadline: Instant) -> Result<Ready, Failure> {
        let mut state = self.state();
        loop {
            let (since, why) = match &*state {
                State::Ready(ready) => return Ok(ready.clone()),
                State::Away { since, why } => (*since, why),
            };
            let patience = (since + GRACE).min(deadline);
            let left = patience.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let detail = format!("no signer at {}: {why}", self.signer.display());
                return Err(Failure::new(Reason::NoSigner, detail));
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Refusal, Retry};
    use crate::testing::certificates::{Authority, CLIENT, SERVER};
    use crate::testing::signer::{FakeSigner, signs_with, update};
    use crate::testing::socket_path;

    const LONG: Duration = Duration::from_secs(20);

    fn soon() -> Instant {
        Instant::now() + LONG
    }

    fn sign(link: &Link, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let scheme = SignatureScheme::ECDSA_NISTP256_SHA256;
        let purpose = Purpose::Tls13ServerCertificateVerify;
        link.sign(b"key", scheme, purpose, message, soon())
    }

    fn echo(request: &SignRequest) -> Option<Answer> {
        Some(Answer::Signature(request.message.clone()))
    }

    /// Waits for a generation, which handshakes themselves never do for longer
    /// than the grace.
    fn await_generation(link: &Link, generation: u64) {
        let until = soon();
        while !link
            .snapshot(until)
            .is_ok_and(|snapshot| snapshot.generation == generation)
        {
            assert!(Instant::now() < until, "generation {generation} never came");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn many_signatures_are_under_way_at_once() {
        const COUNT: usize = 16;
        let (path, ca) = (socket_path(), Authority::new());
        let everybody = std::sync::Barrier::new(COUNT);
        let behaviour = move |request: &SignRequest| {
            // Nobody is answered before everybody has asked.
            everybody.wait();
            echo(request)
        };
        let first = update(1, SERVER, &ca, &ca.workload(SERVER));
        let _signer = FakeSigner::start(&path, first, Box::new(behaviour));
        let handle = open(&path, "default").unwrap();
        await_generation(&handle.link, 1);
        std::thread::scope(|scope| {
            for number in 0..COUNT {
                let link = &handle.link;
                scope.spawn(move || {
                    let message = vec![number as u8; 130];
                    assert_eq!(sign(link, &message).unwrap(), message);
                });
            }
        });
    }

    #[test]
    fn a_refusal_is_final_and_says_why() {
        let (path, ca) = (socket_path(), Authority::new());
        let first = update(1, SERVER, &ca, &ca.workload(SERVER));
        let refuse = |_: &SignRequest| {
            let detail = "no key 6b6579".to_owned();
            Some(Answer::Refusal(Refusal { reason: 1, detail }))
        };
        let _signer = FakeSigner::start(&path, first, Box::new(refuse));
        let handle = open(&path, "default").unwrap();
        await_generation(&handle.link, 1);
        let failure = sign(&handle.link, b"m").unwrap_err();
        assert_eq!(failure.reason, Reason::SignerRefused);
        assert_eq!(failure.detail, "the signer refused: no key 6b6579");
    }

    #[test]
    fn a_busy_signer_is_asked_again() {
        let (path, ca) = (socket_path(), Authority::new());
        let first = update(1, SERVER, &ca, &ca.workload(SERVER));
        let left = Mutex::new(3);
        let busy = move |request: &SignRequest| {
            let mut left = left.lock().unwrap();
            if *left == 0 {
                return echo(request);
            }
            *left -= 1;
            let detail = "busy".to_owned();
            Some(Answer::Retry(Retry { reason: 2, detail }))
        };
        let _signer = FakeSigner::start(&path, first, Box::new(busy));
        let handle = open(&path, "default").unwrap();
        await_generation(&handle.link, 1);
        assert_eq!(sign(&handle.link, b"m").unwrap(), b"m");
    }

    #[test]
    fn a_silent_signer_costs_no_more_than_the_deadline() {
        let (path, ca) = (socket_path(), Authority::new());
        let first = update(1, SERVER, &ca, &ca.workload(SERVER));
        let _signer = FakeSigner::start(&path, first, Box::new(|_| None));
        let handle = open(&path, "default").unwrap();
        await_generation(&handle.link, 1);
        let scheme = SignatureScheme::ECDSA_NISTP256_SHA256;
        let purpose = Purpose::Tls13ServerCertificateVerify;
        let until = Instant::now() + Duration::from_millis(50);
        let failure = handle.link.sign(b"key", scheme, purpose, b"m", until);
        assert_eq!(failure.unwrap_err().reason, Reason::SignerTimeout);
    }

    #[test]
    fn without_a_signer_handshakes_fail_once_the_grace_is_over() {
        let path = socket_path();
        let handle = open(&path, "default").unwrap();
        let failure = handle.link.snapshot(soon()).unwrap_err();
        assert_eq!(failure.reason, Reason::NoSigner);
        let expected = format!("no signer at {}: ", path.display());
        assert!(failure.detail.starts_with(&expected), "{failure}");
    }

    #[test]
    fn a_restarted_signers_generation_counts_even_if_it_is_smaller() {
        let (path, ca) = (socket_path(), Authority::new());
        let certified = ca.workload(SERVER);
        let old = update(7, SERVER, &ca, &certified);
        let signer = FakeSigner::start(&path, old, signs_with(&certified));
        let handle = open(&path, "default").unwrap();
        await_generation(&handle.link, 7);
        drop(signer);
        let new = update(1, SERVER, &ca, &certified);
        let _signer = FakeSigner::start(&path, new, Box::new(echo));
        await_generation(&handle.link, 1);
        assert_eq!(sign(&handle.link, b"m").unwrap(), b"m");
    }

    #[test]
    fn a_request_that_its_connection_lost_is_repeated_on_the_next() {
        let (path, ca) = (socket_path(), Authority::new());
        let first = update(1, SERVER, &ca, &ca.workload(SERVER));
        let silent = FakeSigner::start(&path, first.clone(), Box::new(|_| None));
        let handle = open(&path, "default").unwrap();
        await_generation(&handle.link, 1);
        std::thread::scope(|scope| {
            let signature = scope.spawn(|| sign(&handle.link, b"m"));
            while handle.link.pending.count() == 0 {
                std::thread::yield_now();
            }
            drop(silent);
            let _signer = FakeSigner::start(&path, first, Box::new(echo));
            assert_eq!(signature.join().unwrap().unwrap(), b"m");
        });
    }

    #[test]
    fn a_bad_generation_is_refused_and_the_old_one_stays() {
        let (path, ca) = (socket_path(), Authority::new());
        let certified = ca.workload(SERVER);
        let good = update(1, SERVER, &ca, &certified);
        let signer = FakeSigner::start(&path, good, Box::new(echo));
        let handle = open(&path, "default").unwrap();
        await_generation(&handle.link, 1);
        // The leaf is for another workload.
        signer.publish(update(2, CLIENT, &ca, &certified));
        let until = soon();
        while signer.heard.lock().unwrap().len() < 3 {
            assert!(Instant::now() < until, "no answer to generation 2");
            std::thread::sleep(Duration::from_millis(5));
        }
        let heard = signer.heard.lock().unwrap();
        let [first, taken, refused] = heard.as_slice() else {
            panic!("{heard:?}");
        };
        assert_eq!(
            (first.identity.as_str(), first.acked_generation),
            ("default", 0)
        );
        assert_eq!((taken.acked_generation, taken.error.as_str()), (1, ""));
        assert_eq!(refused.acked_generation, 2);
        assert!(refused.error.contains(SERVER), "{}", refused.error);
        assert_eq!(handle.link.snapshot(soon()).unwrap().generation, 1);
    }

    #[test]
    fn links_are_shared_by_whoever_names_the_same_identity() {
        let path = socket_path();
        let (one, same) = (open(&path, "a").unwrap(), open(&path, "a").unwrap());
        let other = open(&path, "b").unwrap();
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
    }
}
