//! A signer over a Unix socket, with the key in memory and faults on demand.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::certificates::{Authority, Certified, DOMAIN};
use crate::proto::sign_response::Result as Answer;
use crate::proto::signer_server::{Signer, SignerServer};
use crate::proto::{
    IdentityUpdate, SignRequest, SignRequests, SignResponse, SignResponses, TrustBundle,
    WatchRequest,
};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
/// May block. `None`: the request is never answered.
type Behaviour = dyn Fn(&SignRequest) -> Option<Answer> + Send + Sync;

/// Serves until dropped, and then takes its connections down with it.
pub struct FakeSigner {
    runtime: Option<Runtime>,
    path: PathBuf,
    updates: watch::Sender<IdentityUpdate>,
    demanded: watch::Sender<Option<String>>,
    pub heard: Arc<Mutex<Vec<WatchRequest>>>,
}

/// What a token with keys of every kind can make.
const SCHEMES: [SignatureScheme; 7] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::ED25519,
];

/// What the sidecar would say about `certified`.
pub fn update(generation: u64, id: &str, ca: &Authority, certified: &Certified) -> IdentityUpdate {
    IdentityUpdate {
        generation,
        key_id: b"key".to_vec(),
        spiffe_id: id.to_owned(),
        certificate_chain: certified.chain.iter().map(|der| der.to_vec()).collect(),
        trust_bundles: vec![TrustBundle {
            trust_domain: DOMAIN.to_owned(),
            roots: vec![ca.root.to_vec()],
        }],
        schemes: SCHEMES.map(|scheme| u16::from(scheme).into()).to_vec(),
        not_before: 0,
        not_after: i64::MAX,
        ..IdentityUpdate::default()
    }
}

/// Signs whatever it is asked to.
pub fn signs_with(certified: &Certified) -> Box<Behaviour> {
    let key = any_supported_type(&certified.key).unwrap();
    Box::new(move |request| {
        let scheme = u16::try_from(request.scheme).unwrap().into();
        let signer = key.choose_scheme(&[scheme]);
        let signature = signer.unwrap().sign(&request.message).unwrap();
        Some(Answer::Signature(signature))
    })
}

impl FakeSigner {
    pub fn start(path: &Path, update: IdentityUpdate, behaviour: Box<Behaviour>) -> Self {
        let _ = std::fs::remove_file(path);
        let (updates, current) = watch::channel(update);
        let (demanded, demand) = watch::channel(None);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let service = Service {
            current,
            demand,
            heard: heard.clone(),
            behaviour: behaviour.into(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = {
            let _entered = runtime.enter();
            UnixListenerStream::new(UnixListener::bind(path).unwrap())
        };
        let server = tonic::transport::Server::builder().add_service(SignerServer::new(service));
        runtime.spawn(server.serve_with_incoming(listener));
        Self {
            runtime: Some(runtime),
            path: path.to_owned(),
            updates,
            demanded,
            heard,
        }
    }

    /// From now on callers present this token; streams with another one end.
    pub fn demand(&self, token: &str) {
        self.demanded.send(Some(token.to_owned())).unwrap();
    }

    /// Ends, but leaves the socket's path to whoever has bound it since.
    pub fn give_way(mut self) {
        self.path = PathBuf::new();
    }

    /// Holds its only thread, as SIGSTOP would, until what is returned is dropped.
    pub fn freeze(&self) -> std::sync::mpsc::Sender<()> {
        let (thaw, thawed) = std::sync::mpsc::channel();
        let runtime = self.runtime.as_ref().unwrap();
        runtime.spawn(async move { thawed.recv().is_err() });
        thaw
    }

    pub fn publish(&self, update: IdentityUpdate) {
        self.updates.send(update).unwrap();
    }
}

impl Drop for FakeSigner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Waits until what was presented is not, or no longer, what is demanded.
async fn refused(mut demand: watch::Receiver<Option<String>>, presented: Option<String>) -> Status {
    let other = |token: &Option<String>| {
        let wanted = token.as_ref().map(|token| format!("Bearer {token}"));
        wanted.is_some() && wanted != presented
    };
    match demand.wait_for(other).await {
        Ok(_) => Status::permission_denied("no valid token"),
        Err(_) => Status::unavailable("the test is over"),
    }
}

fn presented<T>(request: &Request<T>) -> Option<String> {
    let value = request.metadata().get("authorization")?;
    Some(value.to_str().unwrap().to_owned())
}

/// The answers until `refused`.
fn admitted<T: Send + 'static>(
    mut answers: mpsc::UnboundedReceiver<Result<T, Status>>,
    refused: impl Future<Output = Status> + Send + 'static,
) -> Answers<T> {
    let (sender, admitted) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        tokio::pin!(refused);
        loop {
            let answer = tokio::select! {
                biased;
                status = &mut refused => Err(status),
                answer = answers.recv() => match answer {
                    Some(answer) => answer,
                    None => return,
                },
            };
            let over = answer.is_err();
            if sender.send(answer).is_err() || over {
                return;
            }
        }
    });
    Box::pin(UnboundedReceiverStream::new(admitted))
}

struct Service {
    demand: watch::Receiver<Option<String>>,
    current: watch::Receiver<IdentityUpdate>,
    heard: Arc<Mutex<Vec<WatchRequest>>>,
    behaviour: Arc<Behaviour>,
}

#[tonic::async_trait]
impl Signer for Service {
    type WatchIdentityStream = Answers<IdentityUpdate>;
    type SignStreamStream = Answers<SignResponses>;

    async fn watch_identity(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchIdentityStream>, Status> {
        let refused = refused(self.demand.clone(), presented(&request));
        let (heard, mut said) = (self.heard.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Some(Ok(request)) = said.next().await {
                heard.lock().unwrap().push(request);
            }
        });
        let (sender, updates) = mpsc::unbounded_channel();
        let mut current = self.current.clone();
        tokio::spawn(async move {
            loop {
                let update = current.borrow_and_update().clone();
                if sender.send(Ok(update)).is_err() || current.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(admitted(updates, refused)))
    }

    async fn sign_stream(
        &self,
        request: Request<Streaming<SignRequests>>,
    ) -> Result<Response<Self::SignStreamStream>, Status> {
        let behaviour = self.behaviour.clone();
        let refused = refused(self.demand.clone(), presented(&request));
        let (sender, answers) = mpsc::unbounded_channel();
        let mut messages = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                for request in message.requests {
                    let (behaviour, sender) = (behaviour.clone(), sender.clone());
                    tokio::task::spawn_blocking(move || {
                        let request_id = request.request_id;
                        let result = behaviour(&request);
                        if result.is_some() {
                            let responses = vec![SignResponse { request_id, result }];
                            let _ = sender.send(Ok(SignResponses { responses }));
                        }
                    });
                }
            }
        });
        Ok(Response::new(admitted(answers, refused)))
    }

    async fn sign(&self, _: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        Err(Status::unimplemented("not asked for by the module"))
    }
}
