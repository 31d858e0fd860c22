//! One step of a handshake: as far as the input goes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::mailbox::Mailbox;
use crate::factory::{Factory, InFlight};
use crate::failure::{Failure, Reason};
use crate::identity::snapshot::Snapshot;
use crate::peer::Peer;
use crate::tls::remote_key::with_deadline;
use crate::tls::session::Session;

/// Owns the connection while a thread of the pool works on it.
pub struct Step {
    pub in_flight: Arc<InFlight>,
    pub mailbox: Arc<Mailbox>,
    /// `None` in the first step.
    pub handshake: Option<Handshake>,
    /// What has come from the peer, from where the step before stopped.
    pub input: Vec<u8>,
    pub deadline: Instant,
}

/// A connection and the identity that it was begun under.
pub struct Handshake {
    pub session: Session,
    pub snapshot: Arc<Snapshot>,
}

/// What goes back to the worker.
pub struct Finished {
    /// For the peer: a flight, or an alert.
    pub output: Vec<u8>,
    pub outcome: Outcome,
}

pub enum Outcome {
    /// The peer's turn; `rest` is input that is not a whole record yet.
    Blocked {
        handshake: Handshake,
        rest: Vec<u8>,
    },
    Established(Box<Established>),
    Failed(Failure),
}

/// A connection whose handshake is done and whose peer is the expected one.
pub struct Established {
    pub session: Session,
    pub peer: Peer,
    /// Of our own, which signed.
    pub key_id: Vec<u8>,
    /// Application data that came along with the peer's last flight.
    pub early: Vec<u8>,
    pub rest: Vec<u8>,
    pub closed: bool,
}

impl Step {
    /// On a thread of the pool; blocks while the signer works.
    pub fn run(self) {
        self.run_as(Self::advance);
    }

    /// A panic fails the handshake.
    fn run_as(self, advance: impl FnOnce(Self) -> Finished) {
        let mailbox = self.mailbox.clone();
        if mailbox.is_closed() {
            return;
        }
        let finished = catch_unwind(AssertUnwindSafe(|| advance(self))).unwrap_or_else(|_| {
            let failure = Failure::new(Reason::Internal, "the handshake panicked; please report");
            Finished::failed(failure)
        });
        mailbox.deliver(finished);
    }

    /// When there is no thread to run it.
    pub fn fail_internally(self, detail: &str) {
        let failure = Failure::new(Reason::Internal, detail);
        self.mailbox.deliver(Finished::failed(failure));
    }

    fn advance(self) -> Finished {
        let Self {
            in_flight,
            handshake,
            mut input,
            deadline,
            ..
        } = self;
        let mut output = Vec::new();
        let outcome = match handshake.map_or_else(|| begin(in_flight.factory(), deadline), Ok) {
            Ok(handshake) => {
                with_deadline(deadline, || process(handshake, &mut input, &mut output))
            }
            Err(failure) => Err(failure),
        };
        Finished {
            output,
            outcome: outcome.unwrap_or_else(Outcome::Failed),
        }
    }
}

impl Finished {
    fn failed(failure: Failure) -> Self {
        Self {
            output: Vec::new(),
            outcome: Outcome::Failed(failure),
        }
    }
}

fn begin(factory: &Factory, deadline: Instant) -> Result<Handshake, Failure> {
    let (session, snapshot) = factory.session(deadline)?;
    Ok(Handshake { session, snapshot })
}

fn process(
    mut handshake: Handshake,
    input: &mut Vec<u8>,
    output: &mut Vec<u8>,
) -> Result<Outcome, Failure> {
    let mut early = Vec::new();
    let session = &mut handshake.session;
    let processed = session.process(input, output, &mut |data| early.extend_from_slice(data))?;
    let rest = input.split_off(processed.consumed);
    if session.is_handshaking() {
        if processed.closed {
            let detail = "the peer ended the handshake";
            return Err(Failure::new(Reason::PeerClosed, detail));
        }
        return Ok(Outcome::Blocked { handshake, rest });
    }
    Ok(Outcome::Established(Box::new(Established {
        peer: Peer::of(&handshake.session, &handshake.snapshot)?,
        key_id: handshake.snapshot.key_id.clone(),
        session: handshake.session,
        early,
        rest,
        closed: processed.closed,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::TransportSocket;
    use crate::config::Config;
    use crate::stats::Role;
    use crate::testing::socket_path;
    use crate::wake::target::Target;

    #[test]
    fn a_step_that_panics_fails_its_handshake_and_gives_its_place_back() {
        let json = format!(
            r#"{{"signer":"{}","peers":{{"trust_domain":"demo.mesh"}},"max_handshakes":1}}"#,
            socket_path().display()
        );
        let config = Config::parse(Role::Server, json.as_bytes()).unwrap();
        let factory = Factory::new(config).unwrap();
        let nobody = TransportSocket(std::ptr::null_mut());
        let mailbox = Arc::new(Mailbox::new(Target::new(nobody)));
        let step = Step {
            in_flight: factory.admit(nobody).unwrap(),
            mailbox: mailbox.clone(),
            handshake: None,
            input: Vec::new(),
            deadline: Instant::now(),
        };
        step.run_as(|_step| panic!("in a test"));
        let Some(Outcome::Failed(failure)) = mailbox.take().map(|finished| finished.outcome) else {
            panic!("no failure");
        };
        assert_eq!(failure.reason, Reason::Internal);
        assert!(failure.detail.contains("panicked"), "{failure}");
        assert!(factory.admit(nobody).is_ok());
    }
}
