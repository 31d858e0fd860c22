//! What programs that ask a signer have in common.

use std::error::Error;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Connected;

use hyper_util::rt::TokioIo;
use proto::signer_client::SignerClient;
use proto::{IdentityUpdate, Purpose, SignRequest, WatchRequest};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

#[allow(clippy::all, clippy::pedantic, dead_code)]
pub mod proto {
    include!("../../src/proto/meshkey.signer.v1.rs");
}

const CONTEXT: &[u8] = b"TLS 1.3, server CertificateVerify\0";
const ECDSA_SECP256R1_SHA256: u32 = 0x0403;

/// A connection of this process to the signer at `socket`.
pub async fn connect(socket: String) -> Result<SignerClient<Channel>, tonic::transport::Error> {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { named(&socket).map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://signer.meshkey")
        .connect_with_connector(connector)
        .await?;
    Ok(SignerClient::new(channel))
}

/// Connects as the module does, from a socket with an abstract name of its own (unix(7)),
/// `meshkey-` and 32 random hexadecimal digits: by it the signer finds the connection, and asks
/// the kernel whose it is.
fn named(signer: &str) -> io::Result<UnixStream> {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("no random bytes"))?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(format!("\0meshkey-{digits}"))?)?;
    socket.connect(&SockAddr::unix(signer)?)?;
    socket.set_nonblocking(true)?;
    UnixStream::from_std(Connected::from(OwnedFd::from(socket)))
}

/// The identity "default" as it is now.
pub async fn current_key(
    signer: &mut SignerClient<Channel>,
) -> Result<IdentityUpdate, Box<dyn Error>> {
    let (requests, stream) = mpsc::channel(1);
    requests.send(WatchRequest::default()).await?;
    let mut updates = signer
        .watch_identity(ReceiverStream::new(stream))
        .await?
        .into_inner();
    updates
        .message()
        .await?
        .ok_or_else(|| "the signer has no identity".into())
}

/// For a TLS 1.3 server's CertificateVerify (RFC 8446 section 4.4.3) with a transcript hash
/// of its own.
pub fn request(key: &IdentityUpdate, request_id: u64) -> SignRequest {
    let mut message = vec![b' '; 64];
    message.extend_from_slice(CONTEXT);
    message.extend_from_slice(&request_id.to_be_bytes().repeat(4));
    SignRequest {
        request_id,
        key_id: key.key_id.clone(),
        scheme: ECDSA_SECP256R1_SHA256,
        purpose: Purpose::Tls13ServerCertificateVerify.into(),
        message,
    }
}
