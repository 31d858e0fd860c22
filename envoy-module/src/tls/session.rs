//! One TLS connection, without any I/O: bytes in, bytes out.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::CertificateDer;
use rustls::server::ServerConnectionData;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedConnectionCommon, UnbufferedStatus,
};
use rustls::{CommonState, Error};

use super::server::Server;
use crate::failure::{Failure, Reason};

/// RFC 8446 5.1: the most plaintext in one record.
pub const MAX_FRAGMENT: usize = 16 * 1024;
/// What a record adds at most to its plaintext (RFC 8446 5.2).
const RECORD_OVERHEAD: usize = 5 + 256;

/// A client's or a server's connection.
pub enum Session {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<Server>),
}

/// What a call to [`Session::process`] came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Processed {
    /// How many bytes of the input are done with; the rest is to be passed in
    /// again, with more behind it.
    pub consumed: usize,
    /// The peer has said that it sends no more.
    pub closed: bool,
}

impl Session {
    /// Processes records: plaintext goes to `plaintext`, what the peer must be
    /// sent is appended to `output`. After an error `output` ends with the alert.
    ///
    /// In a handshake this verifies and signs: it can block until the deadline
    /// of the signature.
    pub fn process(
        &mut self,
        input: &mut [u8],
        output: &mut Vec<u8>,
        plaintext: &mut dyn FnMut(&[u8]),
    ) -> Result<Processed, Error> {
        match self {
            Self::Client(connection) => process(&mut ***connection, input, output, plaintext),
            Self::Server(server) => {
                if !server.decide(input)? {
                    return Ok(Processed::default());
                }
                process(&mut **server.connection_mut(), input, output, plaintext)
            }
        }
    }

    pub fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    /// Appends the records of `plaintext` to `output`.
    pub fn encrypt(&mut self, plaintext: &[u8], output: &mut Vec<u8>) -> Result<(), Failure> {
        let records = plaintext.len().div_ceil(MAX_FRAGMENT);
        let room = plaintext.len() + records * RECORD_OVERHEAD;
        self.write(output, room, |writer, into| writer.encrypt(plaintext, into))
    }

    /// Appends the close_notify alert (RFC 8446 6.1) to `output`.
    pub fn close_notify(&mut self, output: &mut Vec<u8>) -> Result<(), Failure> {
        self.write(output, RECORD_OVERHEAD, |writer, into| {
            writer.queue_close_notify(into)
        })
    }

    pub fn common(&self) -> &CommonState {
        match self {
            Self::Client(connection) => connection,
            Self::Server(server) => server.connection(),
        }
    }

    /// The peer's chain, leaf first, once the handshake is done.
    pub fn peer_chain(&self) -> &[CertificateDer<'static>] {
        self.common().peer_certificates().unwrap_or_default()
    }

    fn write(
        &mut self,
        output: &mut Vec<u8>,
        room: usize,
        encrypt: impl FnOnce(&mut dyn Writer, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Failure> {
        match self {
            Self::Client(connection) => write(&mut ***connection, output, room, encrypt),
            Self::Server(server) => write(&mut **server.connection_mut(), output, room, encrypt),
        }
    }
}

/// What rustls offers both kinds of connection, but not through one trait.
trait Records<Data> {
    fn next<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Data>;
    fn common(&self) -> &CommonState;
}

impl Records<ClientConnectionData> for UnbufferedConnectionCommon<ClientConnectionData> {
    fn next<'c, 'i>(
        &'c mut self,
        input: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(input)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

impl Records<ServerConnectionData> for UnbufferedConnectionCommon<ServerConnectionData> {
    fn next<'c, 'i>(
        &'c mut self,
        input: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(input)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

trait Writer {
    fn encrypt(&mut self, plaintext: &[u8], into: &mut [u8]) -> Result<usize, EncryptError>;
    fn queue_close_notify(&mut self, into: &mut [u8]) -> Result<usize, EncryptError>;
}

impl<Data> Writer for rustls::unbuffered::WriteTraffic<'_, Data> {
    fn encrypt(&mut self, plaintext: &[u8], into: &mut [u8]) -> Result<usize, EncryptError> {
        Self::encrypt(self, plaintext, into)
    }

    fn queue_close_notify(&mut self, into: &mut [u8]) -> Result<usize, EncryptError> {
        Self::queue_close_notify(self, into)
    }
}

fn process<Data>(
    connection: &mut impl Records<Data>,
    input: &mut [u8],
    output: &mut Vec<u8>,
    plaintext: &mut dyn FnMut(&[u8]),
) -> Result<Processed, Error> {
    let mut processed = Processed::default();
    loop {
        let status = connection.next(&mut input[processed.consumed..]);
        let mut blocked = false;
        match status.state {
            Ok(ConnectionState::ReadTraffic(mut records)) => {
                while let Some(record) = records.next_record() {
                    plaintext(record?.payload);
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, output)?,
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => processed.closed = true,
            Ok(_) => blocked = true,
            Err(error) => {
                collect_alert(connection, output);
                return Err(error);
            }
        }
        processed.consumed += status.discard;
        if blocked {
            if processed.closed {
                // RFC 8446 6.1: what follows close_notify is ignored.
                processed.consumed = input.len();
            }
            let rest = &input[processed.consumed..];
            if !connection.common().is_handshaking() && begins_with_a_record(rest) {
                // `write` below relies on rustls having nothing half done in `rest`.
                let detail = "the peer fragmented a post-handshake message";
                return Err(Error::General(detail.to_owned()));
            }
            return Ok(processed);
        }
    }
}

/// RFC 8446 5.1: type, version, and the length of what follows.
fn begins_with_a_record(bytes: &[u8]) -> bool {
    match bytes {
        [_, _, _, high, low, fragment @ ..] => {
            fragment.len() >= usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => false,
    }
}

fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, output: &mut Vec<u8>) -> Result<(), Error> {
    let begin = output.len();
    let mut room = 2048;
    loop {
        output.resize(begin + room, 0);
        match data.encode(&mut output[begin..]) {
            Ok(written) => {
                output.truncate(begin + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                room = required_size;
            }
            Err(error) => {
                output.truncate(begin);
                return Err(Error::General(error.to_string()));
            }
        }
    }
}

/// After an error rustls still hands out the alert that it has queued.
fn collect_alert<Data>(connection: &mut impl Records<Data>, output: &mut Vec<u8>) {
    while connection.common().wants_write() {
        let Ok(ConnectionState::EncodeTlsData(mut data)) = connection.next(&mut []).state else {
            return;
        };
        if encode(&mut data, output).is_err() {
            return;
        }
    }
}

fn write<Data>(
    connection: &mut impl Records<Data>,
    output: &mut Vec<u8>,
    room: usize,
    encrypt: impl FnOnce(&mut dyn Writer, &mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), Failure> {
    loop {
        match connection.next(&mut []).state {
            Ok(ConnectionState::WriteTraffic(mut writer)) => {
                let begin = output.len();
                output.resize(begin + room, 0);
                let written = encrypt(&mut writer, &mut output[begin..]);
                output.truncate(begin + *written.as_ref().unwrap_or(&0));
                return written
                    .map(|_| ())
                    .map_err(|error| Failure::new(Reason::Internal, error.to_string()));
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, output)?,
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => {}
            Ok(_) => {
                let detail = "the connection takes no more data";
                return Err(Failure::new(Reason::Protocol, detail));
            }
            Err(error) => return Err(error.into()),
        }
    }
}
