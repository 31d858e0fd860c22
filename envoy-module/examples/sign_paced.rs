//! Asks a signer for signatures down one `SignStream` at a rate, whether answers come or not,
//! and prints how many came in time, as JSON.
//!
//! ```sh
//! cargo run --release --example sign_paced -- SIGNER_SOCKET PER_SECOND SECONDS DEADLINE_MS
//! ```
//!
//! Each request has until the deadline, counted from when it was due. One that was answered
//! with no signature ("busy"), or not at all, took as long as the whole run.

use std::error::Error;
use std::time::Duration;

use signer::proto::sign_response::Result as Answer;
use signer::proto::signer_client::SignerClient;
use signer::proto::{IdentityUpdate, SignRequests, SignResponses};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

mod signer;

struct Pace {
    per_second: f64,
    duration: Duration,
    deadline: Duration,
}

impl Pace {
    /// At least one.
    fn requests(&self) -> u64 {
        ((self.per_second * self.duration.as_secs_f64()) as u64).max(1)
    }

    fn due(&self, started: Instant, request_id: u64) -> Instant {
        started + Duration::from_secs_f64(request_id as f64 / self.per_second)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, per_second, seconds, deadline_ms] = arguments.as_slice() else {
        return Err("usage: sign_paced SIGNER_SOCKET PER_SECOND SECONDS DEADLINE_MS".into());
    };
    let mut client = signer::connect(socket.clone()).await?;
    let key = signer::current_key(&mut client).await?;
    let pace = Pace {
        per_second: per_second.parse()?,
        duration: Duration::from_secs_f64(seconds.parse()?),
        deadline: Duration::from_millis(deadline_ms.parse()?),
    };
    let mut latencies = ask(&mut client, key, &pace).await?;
    let in_time = latencies
        .iter()
        .filter(|taken| **taken <= pace.deadline)
        .count();
    latencies.resize(pace.requests() as usize, pace.duration + pace.deadline);
    latencies.sort_unstable();
    let last = latencies.len() - 1;
    println!(
        r#"{{"asked": {}, "in_time": {in_time}, "per_second": {:.1}, "p50_us": {}, "p99_us": {}}}"#,
        latencies.len(),
        in_time as f64 / pace.duration.as_secs_f64(),
        latencies[last / 2].as_micros(),
        latencies[last * 99 / 100].as_micros(),
    );
    Ok(())
}

/// How long each signature took that came before the end.
async fn ask(
    client: &mut SignerClient<Channel>,
    key: IdentityUpdate,
    pace: &Pace,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let (messages, stream) = mpsc::channel(pace.requests() as usize + 1);
    let mut answers = client
        .sign_stream(ReceiverStream::new(stream))
        .await?
        .into_inner();
    let started = Instant::now();
    let until = started + pace.duration + pace.deadline;
    let mut latencies = Vec::new();
    let (mut asked, mut answered) = (0, 0);
    while answered < pace.requests() {
        tokio::select! {
            () = sleep_until(pace.due(started, asked)), if asked < pace.requests() => {
                let requests = vec![signer::request(&key, asked)];
                messages.send(SignRequests { requests }).await?;
                asked += 1;
            }
            message = timeout_at(until, answers.message()) => {
                // Whoever has not answered by now is late.
                let Ok(message) = message else { break };
                let message = message?.ok_or("the signer ended the stream")?;
                answered += message.responses.len() as u64;
                take(&message, started, pace, &mut latencies);
            }
        }
    }
    Ok(latencies)
}

fn take(message: &SignResponses, started: Instant, pace: &Pace, latencies: &mut Vec<Duration>) {
    for answer in &message.responses {
        if matches!(answer.result, Some(Answer::Signature(_))) {
            latencies.push(pace.due(started, answer.request_id).elapsed());
        }
    }
}
