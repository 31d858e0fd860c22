//! Asks a signer for signatures down one `SignStream` and prints what it took, as JSON.
//!
//! ```sh
//! cargo run --release --example sign_load -- SIGNER_SOCKET IN_FLIGHT SECONDS
//! ```
//!
//! Each request is a TLS 1.3 server CertificateVerify (RFC 8446 section 4.4.3) with a
//! transcript hash of its own.

use std::error::Error;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use proto::sign_response::Result as Answer;
use proto::signer_client::SignerClient;
use proto::{IdentityUpdate, Purpose, SignRequest, SignRequests, WatchRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

mod named;

#[allow(clippy::all, clippy::pedantic, dead_code)]
mod proto {
    include!("../src/proto/meshkey.signer.v1.rs");
}

const CONTEXT: &[u8] = b"TLS 1.3, server CertificateVerify\0";
const ECDSA_SECP256R1_SHA256: u32 = 0x0403;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, in_flight, seconds] = arguments.as_slice() else {
        return Err("usage: sign_load SIGNER_SOCKET IN_FLIGHT SECONDS".into());
    };
    let mut signer = SignerClient::new(connect(socket.clone()).await?);
    let key = current_key(&mut signer).await?;
    let duration = Duration::from_secs_f64(seconds.parse()?);
    let (mut latencies, elapsed) = load(&mut signer, &key, in_flight.parse()?, duration).await?;
    latencies.sort_unstable();
    println!(
        r#"{{"signatures": {}, "seconds": {:.3}, "per_second": {:.1}, "p50_us": {}, "p99_us": {}}}"#,
        latencies.len(),
        elapsed.as_secs_f64(),
        latencies.len() as f64 / elapsed.as_secs_f64(),
        latencies[latencies.len() / 2],
        latencies[latencies.len() * 99 / 100],
    );
    Ok(())
}

async fn connect(socket: String) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { named::connect(&socket).map(TokioIo::new) }
    });
    Endpoint::from_static("http://signer.meshkey")
        .connect_with_connector(connector)
        .await
}

async fn current_key(signer: &mut SignerClient<Channel>) -> Result<IdentityUpdate, Box<dyn Error>> {
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

/// Keeps `in_flight` requests unanswered for `duration`; returns each one's latency in µs.
async fn load(
    signer: &mut SignerClient<Channel>,
    key: &IdentityUpdate,
    in_flight: usize,
    duration: Duration,
) -> Result<(Vec<u64>, Duration), Box<dyn Error>> {
    let (messages, stream) = mpsc::channel(in_flight);
    let mut answers = signer
        .sign_stream(ReceiverStream::new(stream))
        .await?
        .into_inner();
    let started = Instant::now();
    let mut sent: Vec<Instant> = Vec::new();
    let mut latencies = Vec::new();
    let ask = |count: usize, sent: &mut Vec<Instant>| {
        let first = sent.len();
        sent.resize(first + count, Instant::now());
        SignRequests {
            requests: (first..first + count)
                .map(|id| request(key, id as u64))
                .collect(),
        }
    };
    messages.send(ask(in_flight, &mut sent)).await?;
    while started.elapsed() < duration {
        let answered = answers
            .message()
            .await?
            .ok_or("the signer ended the stream")?;
        for answer in &answered.responses {
            let Some(Answer::Signature(_)) = answer.result else {
                return Err(format!("no signature: {:?}", answer.result).into());
            };
            latencies.push(sent[answer.request_id as usize].elapsed().as_micros() as u64);
        }
        messages
            .send(ask(answered.responses.len(), &mut sent))
            .await?;
    }
    Ok((latencies, started.elapsed()))
}

fn request(key: &IdentityUpdate, request_id: u64) -> SignRequest {
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
