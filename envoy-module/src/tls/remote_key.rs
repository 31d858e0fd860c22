//! The private key that rustls believes in: a name, and somebody to ask.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use rustls::sign::{Signer, SigningKey};
use rustls::{Error, OtherError, SignatureAlgorithm, SignatureScheme};

use crate::failure::{Failure, Reason};
use crate::identity::snapshot::Snapshot;
use crate::proto::Purpose;
use crate::signer::link::Link;

/// What signatures of one side are for. rustls does not tell a key which side
/// it signs for, so each side has a key type of its own.
pub trait Side: std::fmt::Debug + Send + Sync + 'static {
    const PURPOSE: Purpose;
}

/// Signs the server's CertificateVerify (RFC 8446 4.4.3).
#[derive(Debug)]
pub struct ServerSide;

/// Signs the client's CertificateVerify (RFC 8446 4.4.3).
#[derive(Debug)]
pub struct ClientSide;

impl Side for ServerSide {
    const PURPOSE: Purpose = Purpose::Tls13ServerCertificateVerify;
}

impl Side for ClientSide {
    const PURPOSE: Purpose = Purpose::Tls13ClientCertificateVerify;
}

/// The key of one snapshot, for one side.
#[derive(Debug)]
pub struct RemoteKey<S: Side> {
    link: Arc<Link>,
    snapshot: Arc<Snapshot>,
    side: PhantomData<S>,
}

impl<S: Side> RemoteKey<S> {
    pub fn new(link: Arc<Link>, snapshot: Arc<Snapshot>) -> Self {
        Self {
            link,
            snapshot,
            side: PhantomData,
        }
    }
}

impl<S: Side> SigningKey for RemoteKey<S> {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let mut ours = self.snapshot.schemes.iter().copied();
        let scheme = ours.find(|scheme| offered.contains(scheme))?;
        Some(Box::new(RemoteSigner {
            link: self.link.clone(),
            snapshot: self.snapshot.clone(),
            scheme,
            purpose: S::PURPOSE,
        }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.snapshot.schemes.first() {
            Some(SignatureScheme::ED25519) => SignatureAlgorithm::ED25519,
            Some(
                SignatureScheme::RSA_PSS_SHA256
                | SignatureScheme::RSA_PSS_SHA384
                | SignatureScheme::RSA_PSS_SHA512,
            ) => SignatureAlgorithm::RSA,
            _ => SignatureAlgorithm::ECDSA,
        }
    }
}

#[derive(Debug)]
struct RemoteSigner {
    link: Arc<Link>,
    snapshot: Arc<Snapshot>,
    scheme: SignatureScheme,
    purpose: Purpose,
}

impl Signer for RemoteSigner {
    /// Blocks; runs on a handshake thread, never on a worker.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signed = DEADLINE.get().ok_or_else(outside_a_step).and_then(|until| {
            let (key, scheme, purpose) = (&self.snapshot.key_id, self.scheme, self.purpose);
            self.link.sign(key, scheme, purpose, message, until)
        });
        signed.map_err(|failure| Error::Other(OtherError(Arc::new(failure))))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

fn outside_a_step() -> Failure {
    Failure::new(Reason::Internal, "a signature was asked for outside a step")
}

thread_local! {
    // rustls calls `sign` from within a step and passes nothing of ours along.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs one step of a handshake; signatures that it asks for are waited for
/// until `deadline`.
pub fn with_deadline<T>(deadline: Instant, step: impl FnOnce() -> T) -> T {
    struct Cleared;
    impl Drop for Cleared {
        fn drop(&mut self) {
            DEADLINE.set(None);
        }
    }
    DEADLINE.set(Some(deadline));
    let _cleared = Cleared;
    step()
}
