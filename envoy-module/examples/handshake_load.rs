//! Full mutual TLS 1.3 handshakes as fast as they go, for the benchmark.
//!
//! ```sh
//! handshake_load --address 127.0.0.1:8443 --ca ca.pem --cert chain.pem --key key.pem \
//!     --connections 16 --seconds 5 [--request] [--hybrid]
//! ```
//!
//! Nothing is resumed. The server's chain is verified against the CA file; its
//! name is not looked at. In TLS 1.3 a client is done before the server has seen
//! its certificate: a handshake counts once the server has sent a byte of
//! application data. It is asked for with a minimal HTTP/1.1 request, and with
//! `--request` the whole answer is read. `--hybrid` offers X25519MLKEM768 first.
//!
//! Prints one JSON object: handshakes, failures, seconds, per_second, p50_us,
//! p99_us, first_failure.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
    Stream,
};

type Failure = Box<dyn Error + Send + Sync>;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: load\r\nconnection: close\r\n\r\n";
const STUCK: Duration = Duration::from_secs(15);

fn main() -> Result<(), Failure> {
    let options = Options::from_arguments()?;
    let config = Arc::new(options.tls()?);
    let begin = Instant::now();
    let end = begin + options.duration;
    let threads: Vec<_> = (0..options.connections)
        .map(|_| {
            let (config, options) = (config.clone(), options.clone());
            std::thread::spawn(move || Tally::of(&config, &options, end))
        })
        .collect();
    let mut total = Tally::default();
    for thread in threads {
        total.add(
            thread
                .join()
                .map_err(|_| "a connection's thread panicked")?,
        );
    }
    total.report(begin.elapsed());
    Ok(())
}

#[derive(Clone)]
struct Options {
    address: SocketAddr,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    connections: usize,
    duration: Duration,
    whole_answer: bool,
    hybrid: bool,
}

impl Options {
    fn from_arguments() -> Result<Self, Failure> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let flag = |name: &str| arguments.iter().any(|argument| argument == name);
        let value = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name);
            at.and_then(|at| arguments.get(at + 1))
                .ok_or_else(|| format!("{name} is missing"))
        };
        Ok(Self {
            address: value("--address")?.parse()?,
            ca: value("--ca")?.into(),
            cert: value("--cert")?.into(),
            key: value("--key")?.into(),
            connections: value("--connections")?.parse()?,
            duration: Duration::from_secs_f64(value("--seconds")?.parse()?),
            whole_answer: flag("--request"),
            hybrid: flag("--hybrid"),
        })
    }

    fn tls(&self) -> Result<ClientConfig, Failure> {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![kx_group::X25519, kx_group::SECP256R1];
        if self.hybrid {
            provider.kx_groups.insert(0, kx_group::X25519MLKEM768);
        }
        let verifier = ChainVerifier::new(&self.ca, &provider)?;
        let chain = CertificateDer::pem_file_iter(&self.cert)?.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&self.key)?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

#[derive(Default)]
struct Tally {
    latencies: Vec<Duration>,
    failures: u64,
    first_failure: Option<String>,
}

impl Tally {
    fn of(config: &Arc<ClientConfig>, options: &Options, end: Instant) -> Self {
        let mut tally = Self::default();
        while Instant::now() < end {
            let begin = Instant::now();
            match handshake(config, options) {
                Ok(accepted) => tally.latencies.push(accepted - begin),
                Err(error) => {
                    tally.failures += 1;
                    tally.first_failure.get_or_insert(error.to_string());
                }
            }
        }
        tally
    }

    fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.failures += other.failures;
        if self.first_failure.is_none() {
            self.first_failure = other.first_failure;
        }
    }

    fn report(&mut self, elapsed: Duration) {
        self.latencies.sort_unstable();
        let count = self.latencies.len();
        let percentile = |percent: usize| {
            let rank = (count * percent / 100).min(count.saturating_sub(1));
            self.latencies
                .get(rank)
                .map(|latency| latency.as_micros() as u64)
        };
        let report = serde_json::json!({
            "handshakes": count,
            "failures": self.failures,
            "seconds": elapsed.as_secs_f64(),
            "per_second": count as f64 / elapsed.as_secs_f64(),
            "p50_us": percentile(50),
            "p99_us": percentile(99),
            "first_failure": self.first_failure,
        });
        println!("{report}");
    }
}

/// One connection; returns when the server had accepted it.
fn handshake(config: &Arc<ClientConfig>, options: &Options) -> Result<Instant, Failure> {
    let name = ServerName::try_from("load.invalid")?;
    let mut session = ClientConnection::new(config.clone(), name)?;
    let mut socket = TcpStream::connect(options.address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(STUCK))?;
    let mut stream = Stream::new(&mut session, &mut socket);
    stream.write_all(REQUEST)?;
    let mut answer = [0; 4096];
    if stream.read(&mut answer)? == 0 {
        return Err("the server closed the connection without an answer".into());
    }
    let accepted = Instant::now();
    if options.whole_answer {
        while stream.read(&mut answer)? > 0 {}
    }
    session.send_close_notify();
    let _ = session.write_tls(&mut socket);
    Ok(accepted)
}

/// SPIFFE leaves have no DNS name.
#[derive(Debug)]
struct ChainVerifier {
    roots: Vec<TrustAnchor<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ChainVerifier {
    fn new(ca: &PathBuf, provider: &CryptoProvider) -> Result<Self, Failure> {
        let mut roots = Vec::new();
        for root in CertificateDer::pem_file_iter(ca)? {
            roots.push(webpki::anchor_from_trusted_cert(&root?)?.to_owned());
        }
        Ok(Self {
            roots,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let usage = webpki::KeyUsage::server_auth();
        let (algorithms, roots) = (self.algorithms.all, &self.roots);
        webpki::EndEntityCert::try_from(leaf)
            .and_then(|leaf| {
                leaf.verify_for_usage(algorithms, roots, intermediates, now, usage, None, None)
                    .map(|_| ServerCertVerified::assertion())
            })
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
