//! Asks a signer for signatures down one `SignStream` and prints what it took, as JSON.
//!
//! ```sh
//! cargo run --release --example sign_load -- SIGNER_SOCKET IN_FLIGHT SECONDS
//! ```
//!
//! It asks again as soon as it is answered; `sign_paced` asks at a rate.

use std::error::Error;
use std::time::{Duration, Instant};

use signer::proto::sign_response::Result as Answer;
use signer::proto::signer_client::SignerClient;
use signer::proto::{IdentityUpdate, SignRequests};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

mod signer;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, in_flight, seconds] = arguments.as_slice() else {
        return Err("usage: sign_load SIGNER_SOCKET IN_FLIGHT SECONDS".into());
    };
    let mut client = signer::connect(socket.clone()).await?;
    let key = signer::current_key(&mut client).await?;
    let duration = Duration::from_secs_f64(seconds.parse()?);
    let (mut latencies, elapsed) = load(&mut client, &key, in_flight.parse()?, duration).await?;
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

/// Keeps `in_flight` requests unanswered for `duration`; returns each one's latency in µs.
async fn load(
    client: &mut SignerClient<Channel>,
    key: &IdentityUpdate,
    in_flight: usize,
    duration: Duration,
) -> Result<(Vec<u64>, Duration), Box<dyn Error>> {
    let (messages, stream) = mpsc::channel(in_flight);
    let mut answers = client
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
                .map(|id| signer::request(key, id as u64))
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
