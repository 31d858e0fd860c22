//! What programs that ask a signer have in common.

use std::error::Error;
use std::path::Path;

use proto::signer_client::SignerClient;
use proto::{IdentityUpdate, Purpose, SignRequest, WatchRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

// As the module connects: by its socket's name the signer knows which process this is.
#[allow(dead_code)]
#[path = "../../src/signer/connector.rs"]
mod connector;

#[allow(clippy::all, clippy::pedantic, dead_code)]
pub mod proto {
    include!("../../src/proto/meshkey.signer.v1.rs");
}

const CONTEXT: &[u8] = b"TLS 1.3, server CertificateVerify\0";
const ECDSA_SECP256R1_SHA256: u32 = 0x0403;

/// A connection of this process to the signer at `socket`.
pub async fn connect(socket: &str) -> Result<SignerClient<Channel>, String> {
    connector::connect(Path::new(socket))
        .await
        .map(SignerClient::new)
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
