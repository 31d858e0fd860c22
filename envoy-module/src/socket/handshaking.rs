//! A connection whose handshake is under way: bytes between the kernel and the
//! pool's steps.

use std::sync::Arc;
use std::time::Instant;

use super::scratch;
use crate::abi::{Io, TransportSocket};
use crate::factory::{Factory, InFlight};
use crate::failure::{Failure, Reason};
use crate::handshake::mailbox::Mailbox;
use crate::handshake::step::{Established, Finished, Handshake, Outcome, Step};
use crate::stats::Role;
use crate::wake::target::Target;

/// internal_error, unprotected, as a server may answer a ClientHello
/// (RFC 8446 6.2).
const INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];
/// The most that is read ahead of a step. A flight is a few kilobytes.
const MAX_INPUT: usize = 64 * 1024;

pub struct Handshaking {
    mailbox: Arc<Mailbox>,
    turn: Turn,
    /// What the kernel has not taken yet.
    output: Vec<u8>,
    /// The peer has heard from us: alerts are rustls' business.
    spoken: bool,
    /// `None` while a client's connection is not there yet.
    deadline: Option<Instant>,
    in_flight: Option<Arc<InFlight>>,
}

/// Who has the connection.
enum Turn {
    /// Us: a step starts when there is input (a client's first one without).
    Ours {
        handshake: Option<Handshake>,
        input: Vec<u8>,
    },
    /// The pool.
    Away,
}

pub enum Progress {
    Waiting,
    Established(Box<Established>),
    Failed(Failure),
}

impl Handshaking {
    pub fn new(envoy: TransportSocket) -> Self {
        Self {
            mailbox: Arc::new(Mailbox::new(Target::new(envoy))),
            turn: Turn::Ours {
                handshake: None,
                input: Vec::new(),
            },
            output: Vec::new(),
            spoken: false,
            deadline: None,
            in_flight: None,
        }
    }

    /// The connection is there: the handshake's time runs.
    pub fn start(&mut self, factory: &Factory) {
        let deadline = Instant::now() + factory.config.handshake_timeout;
        factory.deadlines.add(deadline, &self.mailbox);
        self.deadline = Some(deadline);
    }

    /// Goes on from where the last call stopped, until the peer or the pool has
    /// the next word.
    pub fn advance(&mut self, envoy: TransportSocket, factory: &Arc<Factory>) -> Progress {
        if let Some(Finished { output, outcome }) = self.mailbox.take() {
            self.output.extend_from_slice(&output);
            match outcome {
                Outcome::Blocked { handshake, rest } => {
                    let (handshake, input) = (Some(handshake), rest);
                    self.turn = Turn::Ours { handshake, input };
                }
                Outcome::Established(established) => {
                    let _ = self.flush(envoy);
                    return Progress::Established(established);
                }
                Outcome::Failed(failure) => {
                    return self.fail(envoy, factory.config.role, failure);
                }
            }
        }
        match self.exchange(envoy, factory) {
            Ok(()) => Progress::Waiting,
            Err(failure) => self.fail(envoy, factory.config.role, failure),
        }
    }

    pub fn has_fd(&self, fd: std::os::fd::RawFd) {
        self.mailbox.target().has_fd(fd);
    }

    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    fn exchange(&mut self, envoy: TransportSocket, factory: &Arc<Factory>) -> Result<(), Failure> {
        let Some(deadline) = self.deadline else {
            return Ok(());
        };
        if Instant::now() >= deadline {
            let limit = factory.config.handshake_timeout.as_millis();
            let detail = format!("the handshake was not done in {limit} ms");
            return Err(Failure::new(Reason::Timeout, detail));
        }
        self.flush(envoy)?;
        let Turn::Ours { handshake, input } = &mut self.turn else {
            return Ok(());
        };
        let client_begins = handshake.is_none() && factory.config.role == Role::Client;
        let arrived = receive(envoy, input)?;
        if !arrived && !client_begins {
            return Ok(());
        }
        let (handshake, input) = (handshake.take(), std::mem::take(input));
        self.hand_over(envoy, factory, handshake, input, deadline)
    }

    /// From here to the step's result the connection is the pool's.
    fn hand_over(
        &mut self,
        envoy: TransportSocket,
        factory: &Arc<Factory>,
        handshake: Option<Handshake>,
        input: Vec<u8>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let in_flight = match &self.in_flight {
            Some(in_flight) => in_flight.clone(),
            None => {
                self.has_fd(envoy.fd());
                self.in_flight.insert(factory.admit(envoy)?).clone()
            }
        };
        self.turn = Turn::Away;
        factory.link.pool(factory.config.role).submit(Step {
            in_flight,
            mailbox: self.mailbox.clone(),
            handshake,
            input,
            deadline,
        });
        Ok(())
    }

    fn flush(&mut self, envoy: TransportSocket) -> Result<(), Failure> {
        while !self.output.is_empty() {
            match envoy.io_write(&self.output) {
                Io::Done(count) => {
                    self.output.drain(..count);
                    self.spoken = true;
                }
                Io::Again => break,
                Io::Failed => return Err(peer_closed()),
            }
        }
        Ok(())
    }

    /// Tells the peer, as far as that is possible without waiting.
    fn fail(&mut self, envoy: TransportSocket, role: Role, failure: Failure) -> Progress {
        if role == Role::Server && failure.reason.is_ours() && !self.spoken {
            // Instead of a flight that ends before its CertificateVerify.
            self.output = INTERNAL_ERROR.to_vec();
        }
        if self.flush(envoy).is_ok() {
            // What is unread in the kernel's buffer would turn the close into a
            // reset, which discards the alert at the peer.
            let _ = receive(envoy, &mut Vec::new());
        }
        Progress::Failed(failure)
    }
}

impl Drop for Handshaking {
    fn drop(&mut self) {
        self.mailbox.close();
        self.mailbox.target().detach();
    }
}

/// Reads what there is, as edge-triggered events demand; whether that was
/// anything.
fn receive(envoy: TransportSocket, input: &mut Vec<u8>) -> Result<bool, Failure> {
    let before = input.len();
    let mut buffer = scratch::take();
    let end = loop {
        if input.len() >= MAX_INPUT {
            break Ok(());
        }
        match envoy.io_read(&mut buffer) {
            Io::Done(0) => break Err(peer_closed()),
            Io::Done(count) => input.extend_from_slice(&buffer[..count]),
            Io::Again => break Ok(()),
            Io::Failed => break Err(peer_closed()),
        }
    };
    scratch::give_back(buffer);
    // The end of the stream counts once what came before it has been looked at:
    // an alert, for example.
    match end {
        Err(failure) if input.len() == before => Err(failure),
        _ => Ok(input.len() > before),
    }
}

fn peer_closed() -> Failure {
    let detail = "the peer closed the connection during the handshake";
    Failure::new(Reason::PeerClosed, detail)
}
