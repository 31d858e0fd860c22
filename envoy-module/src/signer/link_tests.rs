//! The link against a signer that misbehaves on demand.

use super::*;
use crate::abi::TransportSocket;
use crate::proto::{IdentityUpdate, Refusal, Retry, SignResponse};
use crate::testing::certificates::{Authority, CLIENT, SERVER};
use crate::testing::signer::{FakeSigner, signs_with, update};
use crate::testing::{address, socket_path, until};
use crate::wake::target::Target;
use std::path::Path;
use tokio::sync::mpsc::unbounded_channel;

fn open(signer: &Path, identity: &str) -> Result<Arc<LinkHandle>, String> {
    super::open(&Address {
        identity: identity.to_owned(),
        ..address(signer)
    })
}

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
fn the_wait_ends_half_a_second_after_the_loss_and_at_the_deadline() {
    let (lost, deadline) = (Instant::now(), Instant::now() + LONG);
    let after = |millis| lost + Duration::from_millis(millis);
    assert_eq!(patience(lost, deadline, lost), Duration::from_millis(500));
    assert_eq!(
        patience(lost, deadline, after(499)),
        Duration::from_millis(1)
    );
    assert_eq!(patience(lost, deadline, after(500)), Duration::ZERO);
    assert_eq!(patience(lost, deadline, after(60_000)), Duration::ZERO);
    assert_eq!(
        patience(lost, after(200), after(150)),
        Duration::from_millis(50)
    );
}

#[test]
fn a_handshake_waits_for_a_signer_that_was_lost_for_the_grace_and_no_longer() {
    let (path, ca) = (socket_path(), Authority::new());
    let first = update(1, SERVER, &ca, &ca.workload(SERVER));
    let signer = FakeSigner::start(&path, first, Box::new(echo));
    let handle = open(&path, "default").unwrap();
    await_generation(&handle.link, 1);
    drop(signer);
    let lost = Instant::now();
    until("the loss is noticed", || {
        matches!(handle.link.state().presence, Presence::Away { .. })
    });
    for failure in [
        handle.link.snapshot(soon()).unwrap_err(),
        sign(&handle.link, b"m").unwrap_err(),
    ] {
        assert_eq!(failure.reason, Reason::NoSigner);
        // Not before, or a restart of the signer would be noticed; and long before `LONG`.
        assert!(lost.elapsed() >= GRACE && lost.elapsed() < LONG / 2);
    }
}

#[test]
fn a_signer_that_freezes_is_lost_and_found_again() {
    let (path, ca) = (socket_path(), Authority::new());
    let first = update(1, SERVER, &ca, &ca.workload(SERVER));
    let signer = FakeSigner::start(&path, first, Box::new(echo));
    let handle = open(&path, "default").unwrap();
    await_generation(&handle.link, 1);
    let frozen = signer.freeze();
    let failure = sign(&handle.link, b"m").unwrap_err();
    assert_eq!(failure.reason, Reason::NoSigner);
    let at = path.display();
    let expected = format!("no signer at {at}: the signer has ended or does not answer (");
    assert!(failure.detail.starts_with(&expected), "{failure}");
    drop(frozen);
    await_generation(&handle.link, 1);
    assert_eq!(sign(&handle.link, b"m").unwrap(), b"m");
}

#[test]
fn a_request_made_while_its_connection_goes_is_not_forgotten() {
    let (ca, link) = (Authority::new(), Link::new(&address(&socket_path())));
    let first = update(1, SERVER, &ca, &ca.workload(SERVER));
    let snapshot = Arc::new(Snapshot::parse(first).unwrap());
    for round in 0..300 {
        // tonic holds on to the receiver for a while: sending works, and nobody answers.
        let (requests, _deaf) = unbounded_channel();
        link.ready(snapshot.clone(), requests);
        let together = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                together.wait();
                sign(&link, b"m").unwrap()
            });
            together.wait();
            // Sooner or later, so that every moment has its turn.
            (0..round % 50 * 20).for_each(|_| std::hint::spin_loop());
            link.lost("gone");
            let (requests, mut asked) = unbounded_channel();
            link.ready(snapshot.clone(), requests);
            until("the signature", || {
                while let Ok(request) = asked.try_recv() {
                    link.pending.answer(SignResponse {
                        request_id: request.request_id,
                        result: echo(&request),
                    });
                }
                asking.is_finished()
            });
        });
        link.lost("gone");
    }
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
        let _signer = FakeSigner::start(&path, first, Box::new(echo));
        silent.give_way();
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

/// What the signer says of an identity that was deprovisioned.
fn withdrawal(generation: u64) -> IdentityUpdate {
    IdentityUpdate {
        generation,
        withdrawn: true,
        ..IdentityUpdate::default()
    }
}

fn denying(sequence: u64, peer: &str) -> Option<DeniedPeers> {
    Some(DeniedPeers {
        sequence,
        spiffe_ids: vec![peer.to_owned()],
    })
}

/// A handshake with this peer is done that `key_id` has signed.
fn establish(link: &Arc<Link>, peer: &str, key_id: &[u8]) -> Result<Entered, Failure> {
    let target = Target::new(TransportSocket(std::ptr::null_mut()));
    let peer = peer.parse().unwrap();
    link.enter(Connection::new(peer, key_id.to_vec(), None, None, target))
}

fn ended(entered: &Entered) -> Option<Reason> {
    entered.ended().map(|ended| ended.ending.reason())
}

#[test]
fn a_withdrawn_identity_makes_no_handshakes_until_it_is_reinstated() {
    let (path, ca) = (socket_path(), Authority::new());
    let certified = ca.workload(SERVER);
    let first = update(1, SERVER, &ca, &certified);
    let signer = FakeSigner::start(&path, first, Box::new(|_| None));
    let handle = open(&path, "default").unwrap();
    await_generation(&handle.link, 1);
    let connection = establish(&handle.link, CLIENT, b"key").unwrap();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| sign(&handle.link, b"m"));
        until("it waits for its signature", || {
            handle.link.pending.count() == 1
        });
        signer.publish(withdrawal(2));
        let failure = asking.join().unwrap().unwrap_err();
        assert_eq!(failure.reason, Reason::IdentityWithdrawn);
    });
    until("the connection is closed", || ended(&connection).is_some());
    for failure in [
        handle.link.snapshot(soon()).unwrap_err(),
        sign(&handle.link, b"m").unwrap_err(),
        establish(&handle.link, CLIENT, b"key").err().unwrap(),
    ] {
        assert_eq!(failure.reason, Reason::IdentityWithdrawn);
    }
    signer.publish(update(3, SERVER, &ca, &certified));
    until("it is back", || handle.link.snapshot(soon()).is_ok());
    assert!(establish(&handle.link, CLIENT, b"key").is_ok());
}

#[test]
fn a_withdrawal_is_taken_as_a_generation() {
    let path = socket_path();
    let signer = FakeSigner::start(&path, withdrawal(4), Box::new(echo));
    let _handle = open(&path, "default").unwrap();
    until("the answer", || signer.heard.lock().unwrap().len() == 2);
    let heard = signer.heard.lock().unwrap();
    assert_eq!((heard[1].acked_generation, &*heard[1].error), (4, ""));
}

#[test]
fn a_signer_that_goes_away_does_not_bring_a_withdrawn_identity_back() {
    let (path, ca) = (socket_path(), Authority::new());
    let certified = ca.workload(SERVER);
    let first = update(1, SERVER, &ca, &certified);
    let signer = FakeSigner::start(&path, first, Box::new(echo));
    let handle = open(&path, "default").unwrap();
    await_generation(&handle.link, 1);
    signer.publish(withdrawal(2));
    until("the withdrawal", || handle.link.snapshot(soon()).is_err());
    drop(signer);
    until("the loss is noticed", || {
        matches!(handle.link.state().presence, Presence::Away { .. })
    });
    let failure = handle.link.snapshot(soon()).unwrap_err();
    assert_eq!(failure.reason, Reason::IdentityWithdrawn);
    // A signer that knows the identity is the one to say that it is served.
    let again = update(1, SERVER, &ca, &certified);
    let _signer = FakeSigner::start(&path, again, Box::new(echo));
    until("it is back", || handle.link.snapshot(soon()).is_ok());
}

#[test]
fn a_handshake_that_waits_for_a_signer_is_told_at_once_that_the_identity_is_withdrawn() {
    let link = Link::new(&address(&socket_path()));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| link.snapshot(soon()).unwrap_err());
        link.withdraw();
        // And not that there is no signer, which it would be after the grace.
        let failure = waiting.join().unwrap();
        assert_eq!(failure.reason, Reason::IdentityWithdrawn);
    });
}

#[test]
fn a_revoked_key_neither_begins_nor_signs_nor_finishes_a_handshake() {
    let (path, ca) = (socket_path(), Authority::new());
    let certified = ca.workload(SERVER);
    let first = update(1, SERVER, &ca, &certified);
    let signer = FakeSigner::start(&path, first, Box::new(echo));
    let handle = open(&path, "default").unwrap();
    await_generation(&handle.link, 1);
    let connection = establish(&handle.link, CLIENT, b"key").unwrap();
    signer.publish(IdentityUpdate {
        revoked_key_ids: vec![b"key".to_vec()],
        ..update(2, SERVER, &ca, &certified)
    });
    until("the connection is closed", || ended(&connection).is_some());
    assert_eq!(ended(&connection), Some(Reason::KeyRevoked));
    for failure in [
        handle.link.snapshot(soon()).unwrap_err(),
        sign(&handle.link, b"m").unwrap_err(),
        establish(&handle.link, CLIENT, b"key").err().unwrap(),
    ] {
        assert_eq!(failure.reason, Reason::KeyRevoked);
    }
    signer.publish(IdentityUpdate {
        key_id: b"next".to_vec(),
        revoked_key_ids: vec![b"key".to_vec()],
        ..update(3, SERVER, &ca, &certified)
    });
    until("the next key", || handle.link.snapshot(soon()).is_ok());
    let connection = establish(&handle.link, CLIENT, b"next").unwrap();
    assert!(ended(&connection).is_none());
}

#[test]
fn what_a_refused_generation_takes_back_is_taken_back() {
    let (path, ca) = (socket_path(), Authority::new());
    let certified = ca.workload(SERVER);
    let first = update(1, SERVER, &ca, &certified);
    let signer = FakeSigner::start(&path, first, Box::new(echo));
    let handle = open(&path, "default").unwrap();
    await_generation(&handle.link, 1);
    let connection = establish(&handle.link, CLIENT, b"key").unwrap();
    signer.publish(IdentityUpdate {
        denied_peers: denying(1, CLIENT),
        certificate_chain: Vec::new(),
        ..update(2, SERVER, &ca, &certified)
    });
    until("the connection is closed", || ended(&connection).is_some());
    assert_eq!(ended(&connection), Some(Reason::PeerDenied));
    assert_eq!(handle.link.snapshot(soon()).unwrap().generation, 1);
}

#[test]
fn a_denied_peer_stays_denied_whoever_answers_on_the_socket_afterwards() {
    let (path, ca) = (socket_path(), Authority::new());
    let certified = ca.workload(SERVER);
    let denied = CLIENT.parse().unwrap();
    let first = IdentityUpdate {
        denied_peers: denying(7, CLIENT),
        ..update(1, SERVER, &ca, &certified)
    };
    let signer = FakeSigner::start(&path, first, Box::new(echo));
    let handle = open(&path, "default").unwrap();
    await_generation(&handle.link, 1);
    until("the list", || handle.link.check_peer(&denied).is_err());
    drop(signer);
    // A restored backup, say.
    let older = IdentityUpdate {
        denied_peers: denying(6, SERVER),
        ..update(2, SERVER, &ca, &certified)
    };
    let signer = FakeSigner::start(&path, older, Box::new(echo));
    await_generation(&handle.link, 2);
    assert!(handle.link.check_peer(&denied).is_err());
    drop(handle);
    let handle = open(&path, "default").unwrap();
    assert!(handle.link.check_peer(&denied).is_err());
    await_generation(&handle.link, 2);
    signer.publish(IdentityUpdate {
        denied_peers: denying(8, SERVER),
        ..update(3, SERVER, &ca, &certified)
    });
    until("the next list", || handle.link.check_peer(&denied).is_ok());
}

#[test]
fn no_connection_slips_through_while_it_is_taken_back() {
    for round in 0..300 {
        let link = Arc::new(Link::new(&address(&socket_path())));
        let together = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let entering = scope.spawn(|| {
                together.wait();
                establish(&link, CLIENT, b"key")
            });
            together.wait();
            // Sooner or later, so that every moment has its turn.
            (0..round % 50 * 20).for_each(|_| std::hint::spin_loop());
            link.withdraw();
            if let Ok(entered) = entering.join().unwrap() {
                assert_eq!(ended(&entered), Some(Reason::IdentityWithdrawn));
            }
        });
    }
}

#[test]
fn a_connection_that_is_over_leaves_nothing_behind() {
    let link = Arc::new(Link::new(&address(&socket_path())));
    let entered = establish(&link, CLIENT, b"key").unwrap();
    let target = Arc::downgrade(&entered.connection.target);
    entered.detach();
    assert!(target.upgrade().unwrap().is_closed());
    drop(entered);
    assert!(target.upgrade().is_none());
}

/// A signer that wants a token, and the file that callers read theirs from.
fn guarded(
    behaviour: impl Fn(&SignRequest) -> Option<Answer> + Send + Sync + 'static,
) -> (FakeSigner, Address) {
    let (path, ca) = (socket_path(), Authority::new());
    let first = update(1, SERVER, &ca, &ca.workload(SERVER));
    let signer = FakeSigner::start(&path, first, Box::new(behaviour));
    signer.demand("one");
    let token_file = path.with_extension("token");
    std::fs::write(&token_file, "one\n").unwrap();
    let address = Address {
        token_file: Some(token_file),
        ..address(&path)
    };
    (signer, address)
}

#[test]
fn a_token_that_has_expired_is_read_again_and_what_was_asked_meanwhile_is_signed() {
    let answers = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = answers.clone();
    let (signer, address) = guarded(move |request| {
        let answers = answers.load(std::sync::atomic::Ordering::Relaxed);
        answers.then(|| echo(request)).flatten()
    });
    let handle = super::open(&address).unwrap();
    await_generation(&handle.link, 1);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| sign(&handle.link, b"m"));
        until("it waits for its signature", || {
            handle.link.pending.count() == 1
        });
        told.store(true, std::sync::atomic::Ordering::Relaxed);
        std::fs::write(address.token_file.as_ref().unwrap(), "two").unwrap();
        signer.demand("two");
        assert_eq!(asking.join().unwrap().unwrap(), b"m");
    });
}

#[test]
fn a_caller_without_a_valid_token_is_told_so_and_tries_again() {
    let (_signer, mut address) = guarded(echo);
    let token_file = address.token_file.take().unwrap();
    let at = address.signer.display().to_string();
    let refused = format!("no signer at {at}: the signer refuses this process: no valid token");
    let anonymous = super::open(&address).unwrap();
    let missing = super::open(&Address {
        token_file: Some(token_file.with_extension("late")),
        ..address.clone()
    });
    let missing = missing.unwrap();
    until("the refusal", || {
        let failure = anonymous.link.snapshot(Instant::now()).unwrap_err();
        assert_eq!(failure.reason, Reason::NoSigner);
        failure.detail == refused
    });
    until("the missing file", || {
        let failure = missing.link.snapshot(Instant::now()).unwrap_err();
        failure.detail.contains(".late: No such file or directory")
    });
    std::fs::rename(&token_file, token_file.with_extension("late")).unwrap();
    await_generation(&missing.link, 1);
}

#[test]
fn links_with_different_tokens_are_not_shared() {
    let address = address(&socket_path());
    let other = Address {
        token_file: Some("/token".into()),
        ..address.clone()
    };
    let (one, other) = (super::open(&address).unwrap(), super::open(&other).unwrap());
    assert!(!Arc::ptr_eq(&one, &other));
}
