//! Pools whose signers hang, outside of Envoy.

use std::time::Instant;

use super::*;
use crate::abi::TransportSocket;
use crate::config::Config;
use crate::factory::Factory;
use crate::failure::Reason;
use crate::handshake::mailbox::Mailbox;
use crate::handshake::step::Outcome;
use crate::stats::Role;
use crate::testing::certificates::{Authority, CLIENT, SERVER};
use crate::testing::signer::{FakeSigner, signs_with, update};
use crate::testing::{socket_path, until};
use crate::wake::target::Target;

/// Longer than any test waits.
const LONG: Duration = Duration::from_secs(120);

/// A signer, whose answers may never come, and who uses it.
struct Side {
    path: std::path::PathBuf,
    _signer: FakeSigner,
}

impl Side {
    fn new(answers: bool) -> Self {
        let (path, ca) = (socket_path(), Authority::new());
        let certified = ca.workload(SERVER);
        let signs = signs_with(&certified);
        let signer = FakeSigner::start(
            &path,
            update(1, SERVER, &ca, &certified),
            Box::new(move |request| answers.then(|| signs(request)).flatten()),
        );
        Self {
            path,
            _signer: signer,
        }
    }

    /// A listener or a cluster with this signer, once it has an identity.
    fn factory(&self, role: Role) -> Arc<Factory> {
        self.factory_for(role, 1024)
    }

    fn factory_for(&self, role: Role, max_handshakes: usize) -> Arc<Factory> {
        let json = format!(
            r#"{{"signer":"{}","peers":{{"spiffe_ids":["{CLIENT}"]}},"max_handshakes":{max_handshakes}}}"#,
            self.path.display()
        );
        let config = Config::parse(role, json.as_bytes()).unwrap();
        let factory = Factory::new(config).unwrap();
        until("an identity", || {
            factory.link.link.snapshot(Instant::now()).is_ok()
        });
        factory
    }
}

/// Begins a handshake: where its result will be.
fn begin(factory: &Arc<Factory>, input: Vec<u8>) -> Arc<Mailbox> {
    let nobody = TransportSocket(std::ptr::null_mut());
    let mailbox = Arc::new(Mailbox::new(Target::new(nobody)));
    factory.link.pool(factory.config.role).submit(Step {
        in_flight: factory.admit(nobody).unwrap(),
        mailbox: mailbox.clone(),
        handshake: None,
        input,
        deadline: Instant::now() + LONG,
    });
    mailbox
}

/// What comes out of a handshake's first step.
fn first_flight(factory: &Arc<Factory>, input: Vec<u8>) -> Vec<u8> {
    let (mailbox, mut output) = (begin(factory, input), Vec::new());
    until("the step's result", || {
        mailbox.take().is_some_and(|finished| {
            assert!(matches!(finished.outcome, Outcome::Blocked { .. }));
            output = finished.output;
            true
        })
    });
    output
}

#[test]
fn a_signer_that_hangs_holds_up_neither_another_ones_handshakes_nor_the_other_roles() {
    let (hanging, healthy) = (Side::new(false), Side::new(true));
    let (server, client) = (hanging.factory(Role::Server), hanging.factory(Role::Client));
    let elsewhere = healthy.factory(Role::Server);
    let hello = first_flight(&client, Vec::new());
    let _held: Vec<_> = (0..=MAX_THREADS)
        .map(|_| begin(&server, hello.clone()))
        .collect();
    until("every thread waits for its signature", || {
        server.link.link.pending.count() == MAX_THREADS
    });
    assert!(!first_flight(&elsewhere, hello).is_empty());
    assert!(!first_flight(&client, Vec::new()).is_empty());
}

#[test]
fn a_step_whose_connection_has_gone_still_counts_as_a_handshake() {
    let hanging = Side::new(false);
    let (server, client) = (
        hanging.factory_for(Role::Server, 2),
        hanging.factory(Role::Client),
    );
    let hello = first_flight(&client, Vec::new());
    let connections = [(); 2].map(|()| begin(&server, hello.clone()));
    until("both wait for their signatures", || {
        server.link.link.pending.count() == 2
    });
    for mailbox in connections {
        mailbox.close();
    }
    let nobody = TransportSocket(std::ptr::null_mut());
    assert_eq!(server.admit(nobody).err().unwrap().reason, Reason::TooMany);
}
