//! The transport socket: what Envoy's connection calls, on its own thread.
//!
//! Envoy's callbacks can call back: `raise_event` runs filters that close the
//! connection or write to it before it returns. So no borrow of the state is
//! held across it, and hooks that find the state borrowed leave a note instead.

mod handshaking;
mod scratch;
mod traffic;

use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;

use crate::abi::{ConnectionEvent, IoResult, TransportSocket};
use crate::companion;
use crate::factory::Factory;
use crate::failure::{Failure, Reason};
use crate::handshake::step::Established;
use crate::peer::Peer;
use crate::report;
use crate::signer::link::Entered;
use crate::signer::standing::{Connection, Ended};
use crate::stats::{self, Counter, Role};
use crate::wake::target::Target;
use handshaking::{Handshaking, Progress};
use traffic::Traffic;

/// One connection.
pub struct Socket {
    envoy: TransportSocket,
    factory: Arc<Factory>,
    state: RefCell<State>,
    closed: Cell<bool>,
    /// Once established: where the signer's word reaches the connection. Not in
    /// the state, which may be borrowed when Envoy closes.
    entered: OnceCell<Entered>,
    failure: OnceCell<Failure>,
    /// The ALPN protocol, once known.
    protocol: OnceCell<Vec<u8>>,
}

enum State {
    Handshaking(Handshaking),
    Established(Traffic),
    /// Failed or closed: nothing is read or written any more.
    Over,
}

impl Socket {
    pub fn new(envoy: TransportSocket, factory: Arc<Factory>) -> Self {
        let mut handshaking = Handshaking::new(envoy);
        if factory.config.role == Role::Server {
            handshaking.start(&factory);
        }
        Self {
            envoy,
            factory,
            state: RefCell::new(State::Handshaking(handshaking)),
            closed: Cell::new(false),
            entered: OnceCell::new(),
            failure: OnceCell::new(),
            protocol: OnceCell::new(),
        }
    }

    /// From now on there is a descriptor to read, write and be woken by.
    pub fn has_callbacks(&self) {
        if let State::Handshaking(handshaking) = &*self.state.borrow() {
            handshaking.has_fd(self.envoy.fd());
        }
    }

    /// The transport connection is there: a client speaks first.
    pub fn connected(&self) {
        if self.factory.config.role == Role::Server {
            return;
        }
        if let State::Handshaking(handshaking) = &mut *self.state.borrow_mut() {
            handshaking.start(&self.factory);
        }
        if self.handshake() == Some(IoResult::close()) {
            // Envoy closes in `do_read` and `do_write` only.
            self.envoy.set_is_readable();
        }
    }

    pub fn read(&self) -> IoResult {
        if let Some(result) = self.handshake() {
            return result;
        }
        self.traffic(|traffic, envoy| traffic.read(envoy))
    }

    pub fn write(&self, end_stream: bool) -> IoResult {
        let handshaking = self.is_handshaking();
        if let Some(result) = self.handshake() {
            return result;
        }
        if handshaking {
            // Raising Connected has written already, and in doing so has ended
            // this call's access to the write buffer.
            self.envoy.set_is_writable();
            return IoResult::keep_open(0);
        }
        self.traffic(|traffic, envoy| traffic.write(envoy, end_stream))
    }

    pub fn close(&self, abort: bool) {
        self.closed.set(true);
        if let Some(entered) = self.entered.get() {
            entered.detach();
        }
        // Borrowed: a call further up the stack sees `closed` when it goes on.
        if let Ok(mut state) = self.state.try_borrow_mut() {
            if let State::Established(traffic) = &mut *state
                && !abort
            {
                traffic.say_goodbye(self.envoy);
            }
            *state = State::Over;
        }
    }

    pub fn protocol(&self) -> &[u8] {
        self.protocol.get().map_or(&[], Vec::as_slice)
    }

    pub fn failure_reason(&self) -> &str {
        self.failure.get().map_or("", |failure| &failure.detail)
    }

    pub fn can_flush_close(&self) -> bool {
        matches!(
            self.state.try_borrow().as_deref(),
            Ok(State::Established(_))
        )
    }

    /// A panic in a hook: the connection goes down, Envoy does not.
    pub fn panicked(&self) {
        let failure = Failure::new(Reason::Internal, "the module panicked; please report");
        let _ = self.failure.set(failure);
        if let Ok(mut state) = self.state.try_borrow_mut() {
            *state = State::Over;
        }
    }

    fn is_handshaking(&self) -> bool {
        matches!(
            self.state.try_borrow().as_deref(),
            Ok(State::Handshaking(_))
        )
    }

    /// Takes the handshake as far as it goes. `None`: it is done, there is
    /// traffic.
    fn handshake(&self) -> Option<IoResult> {
        let progress = {
            let Ok(mut state) = self.state.try_borrow_mut() else {
                return Some(IoResult::keep_open(0));
            };
            match &mut *state {
                State::Handshaking(handshaking) => handshaking.advance(self.envoy, &self.factory),
                State::Established(_) => return None,
                State::Over => return Some(IoResult::close()),
            }
        };
        match progress {
            Progress::Waiting => Some(IoResult::keep_open(0)),
            Progress::Established(established) => self.establish(*established),
            Progress::Failed(failure) => {
                self.fail(failure);
                Some(IoResult::close())
            }
        }
    }

    /// The peer is known: tells the companion, then everyone.
    fn establish(&self, established: Established) -> Option<IoResult> {
        let Established {
            session,
            peer,
            key_id,
            early,
            rest,
            closed,
        } = established;
        let role = self.factory.config.role;
        if let Err(failure) = self.enter(&peer, key_id) {
            self.fail(failure);
            return Some(IoResult::close());
        }
        let _ = self.protocol.set(peer.protocol.clone());
        let unaccompanied = role == Role::Server
            && !self
                .envoy
                .connection_id()
                .is_some_and(|connection| companion::announce(connection, peer));
        if unaccompanied {
            let detail = "the listener lacks the meshkey_peer network filter, which must be its \
                          first";
            self.fail(Failure::new(Reason::NoCompanion, detail));
            return Some(IoResult::close());
        }
        let output = self.take_output();
        let traffic = Traffic::new(session, early, rest, closed, output);
        *self.state.borrow_mut() = State::Established(traffic);
        stats::count(Counter::HandshakeOk(role));
        // There may be plaintext already, for which no event will come.
        self.envoy.set_is_readable();
        self.envoy.raise_event(ConnectionEvent::Connected);
        self.closed.get().then(|| IoResult::keep_open(0))
    }

    /// From now on the connection is closed when the signer says so. What it has
    /// said while the handshake was under way counts here.
    fn enter(&self, peer: &Peer, key_id: Vec<u8>) -> Result<(), Failure> {
        let target = Target::new(self.envoy);
        target.has_fd(self.envoy.fd());
        let slack = self.factory.config.peer_expiry_slack;
        let expires = slack.map(|slack| peer.expires + slack);
        let listed = self.factory.expected.listed().cloned();
        let connection = Connection::new(peer.spiffe_id.clone(), key_id, expires, listed, target);
        let entered = self.factory.link.link.enter(connection)?;
        let _ = self.entered.set(entered);
        Ok(())
    }

    /// What of the last flight the kernel has not taken yet.
    fn take_output(&self) -> Vec<u8> {
        match &mut *self.state.borrow_mut() {
            State::Handshaking(handshaking) => handshaking.take_output(),
            _ => Vec::new(),
        }
    }

    fn traffic(&self, act: impl FnOnce(&mut Traffic, TransportSocket) -> IoResult) -> IoResult {
        let Ok(mut state) = self.state.try_borrow_mut() else {
            return IoResult::keep_open(0);
        };
        let ended = self.entered.get().and_then(Entered::ended);
        let result = match (&mut *state, ended) {
            (State::Established(traffic), Some(ended)) => {
                traffic.end(self.envoy);
                *state = State::Over;
                self.report_end(ended);
                IoResult::close()
            }
            (State::Established(traffic), None) => act(traffic, self.envoy),
            (State::Handshaking(_), _) => IoResult::keep_open(0),
            (State::Over, _) => IoResult::close(),
        };
        if self.closed.get() {
            // In a callback of `act`, which had the state.
            *state = State::Over;
        }
        result
    }

    fn report_end(&self, ended: &Ended) {
        let role = self.factory.config.role;
        stats::count(Counter::Closed(role, ended.ending));
        report::ended(role, &ended.detail);
        let _ = self.failure.set(ended.clone().into());
    }

    fn fail(&self, failure: Failure) {
        let role = self.factory.config.role;
        stats::count(Counter::HandshakeFailed(role, failure.reason));
        report::failed(role, &failure);
        let _ = self.failure.set(failure);
        *self.state.borrow_mut() = State::Over;
    }
}
