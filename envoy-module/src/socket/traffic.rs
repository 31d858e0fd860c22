//! An established connection: records to plaintext and back, on the worker.
//!
//! Nothing is buffered without bound. Plaintext goes to Envoy's read buffer as
//! long as Envoy wants it; of Envoy's write buffer one batch of records is
//! encrypted at a time, and drained when the kernel has taken the batch.

use super::scratch;
use crate::abi::{Io, IoResult, TransportSocket};
use crate::failure::Failure;
use crate::tls::session::{MAX_FRAGMENT, Session};

/// Plaintext encrypted at a time.
const BATCH: usize = 4 * MAX_FRAGMENT;

/// The most that is read and dropped of a connection that is being closed.
const MOST_DISCARDED: usize = 1 << 20;

pub struct Traffic {
    session: Session,
    /// Plaintext that arrived with the handshake, for the first `read`.
    early: Vec<u8>,
    /// The beginning of a record, whose rest is still to come.
    partial: Vec<u8>,
    /// Records that the kernel has not taken yet, from `sent` on.
    output: Vec<u8>,
    sent: usize,
    /// How much of Envoy's write buffer `output` stands for.
    encrypted: usize,
    peer_closed: bool,
    said_goodbye: bool,
}

/// The kernel's answer to a write.
#[derive(PartialEq)]
enum Flushed {
    All,
    Partly,
    Failed,
}

impl Traffic {
    pub fn new(
        session: Session,
        early: Vec<u8>,
        partial: Vec<u8>,
        peer_closed: bool,
        output: Vec<u8>,
    ) -> Self {
        Self {
            session,
            early,
            partial,
            output,
            sent: 0,
            encrypted: 0,
            peer_closed,
            said_goodbye: false,
        }
    }

    /// `do_read`.
    pub fn read(&mut self, envoy: TransportSocket) -> IoResult {
        let mut buffer = scratch::take();
        let result = self.read_through(envoy, &mut buffer);
        scratch::give_back(buffer);
        result
    }

    fn read_through(&mut self, envoy: TransportSocket, buffer: &mut [u8]) -> IoResult {
        let mut delivered = self.deliver_early(envoy);
        let mut filled = self.partial.len();
        buffer[..filled].copy_from_slice(&self.partial);
        self.partial.clear();
        let result = loop {
            if filled > 0 {
                match self.decrypt(envoy, &mut buffer[..filled], &mut delivered) {
                    Ok(consumed) => {
                        buffer.copy_within(consumed..filled, 0);
                        filled -= consumed;
                    }
                    Err(_) => {
                        // With the alert that says why.
                        let _ = self.flush(envoy);
                        break IoResult::close();
                    }
                }
            }
            if self.peer_closed {
                break end_of_stream(delivered);
            }
            if delivered > 0 && envoy.should_drain_read_buffer() {
                // Envoy comes back when it has room; the event for what the
                // kernel still holds has been used up.
                envoy.set_is_readable();
                break IoResult::keep_open(delivered);
            }
            match envoy.io_read(&mut buffer[filled..]) {
                // Without close_notify: cut off, not ended (RFC 8446 6.1).
                Io::Done(0) | Io::Failed => break closed_with(delivered),
                Io::Done(count) => filled += count,
                Io::Again => break IoResult::keep_open(delivered),
            }
        };
        self.partial.extend_from_slice(&buffer[..filled]);
        // A key update asks for an answer.
        if !self.output.is_empty() && self.flush(envoy) == Flushed::Partly {
            envoy.set_is_writable();
        }
        result
    }

    fn deliver_early(&mut self, envoy: TransportSocket) -> u64 {
        let early = std::mem::take(&mut self.early);
        if !early.is_empty() {
            envoy.read_buffer_add(&early);
        }
        early.len() as u64
    }

    fn decrypt(
        &mut self,
        envoy: TransportSocket,
        records: &mut [u8],
        delivered: &mut u64,
    ) -> Result<usize, rustls::Error> {
        let processed = self
            .session
            .process(records, &mut self.output, &mut |plaintext| {
                envoy.read_buffer_add(plaintext);
                *delivered += plaintext.len() as u64;
            })?;
        self.peer_closed |= processed.closed;
        Ok(processed.consumed)
    }

    /// `do_write`.
    pub fn write(&mut self, envoy: TransportSocket, end_stream: bool) -> IoResult {
        let mut written = 0;
        loop {
            match self.flush(envoy) {
                Flushed::All => written += self.drain(envoy),
                Flushed::Partly => return IoResult::keep_open(written),
                Flushed::Failed => return IoResult::close(),
            }
            match envoy.with_write_buffer(|slices| self.encrypt(slices)) {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) => return IoResult::close(),
            }
        }
        if end_stream && !self.said_goodbye {
            self.said_goodbye = true;
            if self.session.close_notify(&mut self.output).is_err()
                || self.flush(envoy) == Flushed::Failed
            {
                return IoResult::close();
            }
        }
        self.release_output();
        IoResult::keep_open(written)
    }

    /// Before the connection is closed, once, as far as the kernel takes it.
    pub fn say_goodbye(&mut self, envoy: TransportSocket) {
        if !self.said_goodbye {
            self.said_goodbye = true;
            if self.session.close_notify(&mut self.output).is_ok() {
                let _ = self.flush(envoy);
            }
        }
    }

    /// Before the connection is closed although there may be more to come.
    pub fn end(&mut self, envoy: TransportSocket) {
        self.say_goodbye(envoy);
        // What is unread in the kernel's buffer would turn the close into a reset,
        // which discards the alert at the peer. A peer that goes on sending gets one.
        let mut buffer = scratch::take();
        for _ in 0..MOST_DISCARDED / scratch::SIZE {
            if !matches!(envoy.io_read(&mut buffer), Io::Done(1..)) {
                break;
            }
        }
        scratch::give_back(buffer);
    }

    /// The batch has gone: so may the plaintext that it was made from.
    fn drain(&mut self, envoy: TransportSocket) -> u64 {
        let encrypted = std::mem::take(&mut self.encrypted);
        if encrypted > 0 {
            envoy.write_buffer_drain(encrypted);
        }
        encrypted as u64
    }

    /// Encrypts the next batch and returns how much plaintext it holds. Small
    /// slices share a record.
    fn encrypt(&mut self, slices: &[&[u8]]) -> Result<usize, Failure> {
        if slices.iter().all(|slice| slice.is_empty()) {
            return Ok(0);
        }
        if self.output.capacity() == 0 {
            self.output = scratch::take_output();
        }
        let mut joined = scratch::take();
        let result = self.encrypt_through(slices, &mut joined);
        scratch::give_back(joined);
        self.encrypted = *result.as_ref().unwrap_or(&0);
        result
    }

    fn encrypt_through(&mut self, slices: &[&[u8]], joined: &mut [u8]) -> Result<usize, Failure> {
        let (mut taken, mut pending) = (0, 0);
        for slice in slices {
            let mut slice = &slice[..slice.len().min(BATCH - taken)];
            taken += slice.len();
            while !slice.is_empty() {
                if pending == 0 && slice.len() >= MAX_FRAGMENT {
                    let (record, rest) = slice.split_at(MAX_FRAGMENT);
                    self.session.encrypt(record, &mut self.output)?;
                    slice = rest;
                    continue;
                }
                let (part, rest) = slice.split_at(slice.len().min(MAX_FRAGMENT - pending));
                joined[pending..pending + part.len()].copy_from_slice(part);
                pending += part.len();
                slice = rest;
                if pending == MAX_FRAGMENT {
                    self.session.encrypt(&joined[..pending], &mut self.output)?;
                    pending = 0;
                }
            }
        }
        if pending > 0 {
            self.session.encrypt(&joined[..pending], &mut self.output)?;
        }
        Ok(taken)
    }

    fn flush(&mut self, envoy: TransportSocket) -> Flushed {
        while self.sent < self.output.len() {
            match envoy.io_write(&self.output[self.sent..]) {
                Io::Done(count) => self.sent += count,
                Io::Again => return Flushed::Partly,
                Io::Failed => return Flushed::Failed,
            }
        }
        self.output.clear();
        self.sent = 0;
        Flushed::All
    }

    fn release_output(&mut self) {
        if self.output.is_empty() && self.output.capacity() > 0 {
            scratch::give_back_output(std::mem::take(&mut self.output));
        }
    }
}

fn end_of_stream(delivered: u64) -> IoResult {
    IoResult {
        end_stream_read: true,
        ..IoResult::keep_open(delivered)
    }
}

fn closed_with(delivered: u64) -> IoResult {
    IoResult {
        bytes_processed: delivered,
        ..IoResult::close()
    }
}
