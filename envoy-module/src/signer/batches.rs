//! Sign requests on their way out: all that are there travel in one message,
//! because a message costs more than a signature. Nobody waits for a batch to
//! fill.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_stream::Stream;

use crate::proto::{SignRequest, SignRequests};

/// Far below gRPC's limit for a message: a request has at most a few hundred
/// bytes.
const LARGEST: usize = 256;

/// What has been asked for since the last message, as a stream of messages.
pub struct Batches(pub UnboundedReceiver<SignRequest>);

impl Stream for Batches {
    type Item = SignRequests;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<SignRequests>> {
        let mut requests = Vec::new();
        self.0
            .poll_recv_many(context, &mut requests, LARGEST)
            .map(|count| (count > 0).then_some(SignRequests { requests }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::unbounded_channel;
    use tokio_stream::StreamExt;

    fn request(request_id: u64) -> SignRequest {
        SignRequest {
            request_id,
            ..SignRequest::default()
        }
    }

    #[tokio::test]
    async fn what_is_there_travels_together_and_nothing_waits() {
        let (sender, receiver) = unbounded_channel();
        let mut batches = Batches(receiver);
        for id in 0..LARGEST as u64 + 1 {
            sender.send(request(id)).unwrap();
        }
        assert_eq!(batches.next().await.unwrap().requests.len(), LARGEST);
        assert_eq!(
            batches.next().await.unwrap().requests,
            [request(LARGEST as u64)]
        );
        drop(sender);
        assert!(batches.next().await.is_none());
    }
}
