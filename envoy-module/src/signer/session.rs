//! One connection to the signer, and the loop that replaces it for ever.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::batches::Batches;
use super::connector;
use super::link::Link;
use super::token::Token;
use crate::abi::{Level, log};
use crate::identity::snapshot::Snapshot;
use crate::proto::signer_client::SignerClient;
use crate::proto::{IdentityUpdate, SignRequest, WatchRequest};
use crate::stats::{self, Counter};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Why a connection is no more.
#[derive(PartialEq)]
struct Ended {
    reason: String,
    /// The signer is there, and has a rule for who may call it.
    refused: bool,
}

impl Ended {
    fn without_refusal(reason: String) -> Self {
        let refused = false;
        Self { reason, refused }
    }
}

/// Connects, serves the link until the connection ends, and again; a connection
/// that delivered an identity resets the pause between attempts. One that was
/// refused right after that does not: the next will be too.
pub async fn keep_connected(link: Arc<Link>) {
    let (mut pause, mut said) = (FIRST_PAUSE, None);
    loop {
        let (mut served, begun) = (false, Instant::now());
        let ended = serve(&link, &mut served).await;
        if served && !(ended.refused && begun.elapsed() < LAST_PAUSE) {
            (pause, said) = (FIRST_PAUSE, None);
        }
        let reason = &ended.reason;
        if link.lost(reason) && said.as_ref() != Some(&ended) {
            let (path, identity) = (link.address.signer.display(), &link.address.identity);
            log(
                Level::Warn,
                &format!("no signer at {path} (identity {identity}): {reason}; reconnecting"),
            );
            said = Some(ended);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

async fn serve(link: &Link, served: &mut bool) -> Ended {
    // Each time anew: whoever renews it replaces the file.
    let token = match Token::read(link.address.token_file.as_deref()).await {
        Ok(token) => token,
        Err(reason) => return Ended::without_refusal(reason),
    };
    let channel = match connector::connect(&link.address.signer).await {
        Ok(channel) => channel,
        Err(reason) => return Ended::without_refusal(reason),
    };
    let (requests, outgoing) = unbounded_channel();
    let ended = tokio::select! {
        ended = collect_signatures(link, client(&channel), token.present(Batches(outgoing))) => ended,
        ended = follow_identity(link, client(&channel), &token, requests, served) => ended,
    };
    match ended {
        Ok(never) => match never {},
        Err(status) => explained(&status),
    }
}

fn client(channel: &Channel) -> SignerClient<Channel> {
    SignerClient::new(channel.clone())
}

fn explained(status: &tonic::Status) -> Ended {
    if is_a_refusal(status) {
        return Ended {
            reason: format!("the signer refuses this process: {}", status.message()),
            refused: true,
        };
    }
    Ended::without_refusal(match status.source() {
        // What the connection came to; hyper does not tell an unanswered ping from
        // a connection that the other side has closed.
        Some(cause) => {
            let detail = connector::innermost(cause);
            format!("the signer has ended or does not answer ({detail})")
        }
        None => status.message().to_owned(),
    })
}

fn is_a_refusal(status: &tonic::Status) -> bool {
    matches!(
        status.code(),
        Code::PermissionDenied | Code::Unauthenticated
    )
}

fn ended() -> tonic::Status {
    tonic::Status::unavailable("the signer closed the connection")
}

/// RPC `SignStream`: hands every answer to whoever waits for it.
async fn collect_signatures(
    link: &Link,
    mut client: SignerClient<Channel>,
    outgoing: Request<Batches>,
) -> Result<Infallible, tonic::Status> {
    // Resolves with the first answer at the latest: a server may hold its
    // headers back until then.
    let mut answers = client.sign_stream(outgoing).await?.into_inner();
    while let Some(answered) = answers.message().await? {
        for response in answered.responses {
            link.pending.answer(response);
        }
    }
    Err(ended())
}

/// RPC `WatchIdentity`: takes or refuses every generation, and says so. The
/// first update of a stream is never compared with what another process sent.
async fn follow_identity(
    link: &Link,
    mut client: SignerClient<Channel>,
    token: &Token,
    requests: UnboundedSender<SignRequest>,
    served: &mut bool,
) -> Result<Infallible, tonic::Status> {
    let (acks, outgoing) = unbounded_channel();
    let first = WatchRequest {
        identity: link.address.identity.clone(),
        ..WatchRequest::default()
    };
    acks.send(first).map_err(|_| ended())?;
    let outgoing = UnboundedReceiverStream::new(outgoing);
    let outgoing = token.present(outgoing);
    let mut updates = client.watch_identity(outgoing).await?.into_inner();
    while let Some(update) = updates.message().await? {
        let acked_generation = update.generation;
        let error = match take(link, update, &requests) {
            Ok(()) => {
                *served = true;
                String::new()
            }
            Err(error) => error,
        };
        let ack = WatchRequest {
            acked_generation,
            error,
            ..WatchRequest::default()
        };
        acks.send(ack).map_err(|_| ended())?;
    }
    Err(ended())
}

fn take(
    link: &Link,
    mut update: IdentityUpdate,
    requests: &UnboundedSender<SignRequest>,
) -> Result<(), String> {
    let generation = update.generation;
    if update.withdrawn {
        let identity = &link.address.identity;
        log(
            Level::Warn,
            &format!("identity {identity}, generation {generation}: withdrawn at the signer"),
        );
        link.withdraw();
        return Ok(());
    }
    let revoked_keys = std::mem::take(&mut update.revoked_key_ids);
    let denied = update.denied_peers.take();
    let taken = take_snapshot(link, update, requests);
    // After the new key is there, so that no handshake meets the revoked one alone;
    // and whatever became of the rest.
    link.exclude(revoked_keys, denied.as_ref());
    taken
}

fn take_snapshot(
    link: &Link,
    update: IdentityUpdate,
    requests: &UnboundedSender<SignRequest>,
) -> Result<(), String> {
    let generation = update.generation;
    let snapshot = Snapshot::parse(update).inspect_err(|error| {
        stats::count(Counter::SnapshotRefused);
        log(
            Level::Error,
            &format!(
                "identity {}, generation {generation} refused: {error}",
                link.address.identity
            ),
        );
    })?;
    log(
        Level::Info,
        &format!(
            "identity {}, generation {generation}: {}",
            link.address.identity, snapshot.spiffe_id
        ),
    );
    link.ready(Arc::new(snapshot), requests.clone());
    stats::count(Counter::SnapshotTaken);
    Ok(())
}
