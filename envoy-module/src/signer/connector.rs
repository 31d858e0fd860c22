//! How the Unix socket to the signer is opened.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a signer is asked whether it is still there, and how soon it must
/// answer. One that is stopped or frozen keeps its socket open. The signer has
/// to allow so many pings: sidecar/rpc/sockets.py.
const PING_INTERVAL: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// A fresh gRPC connection; it is never re-established behind the caller's back.
pub async fn connect(signer: &Path) -> Result<Channel, String> {
    let signer = signer.to_owned();
    let connector = tower::service_fn(move |_: http::Uri| open(signer.clone()));
    // The URI only fills the :authority pseudo-header.
    Endpoint::from_static("http://signer.meshkey")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(|error| innermost(&error))
}

async fn open(signer: PathBuf) -> io::Result<TokioIo<UnixStream>> {
    // The socket gets a name of its own, abstract and unguessable, so that the
    // signer can tell callers apart. SOCK_CLOEXEC is set by `Socket::new`.
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(abstract_name()?)?)?;
    // A Unix socket connects or fails at once unless the backlog is full.
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(&signer)?)?;
    let stream = UnixStream::from_std(std::os::unix::net::UnixStream::from(
        std::os::fd::OwnedFd::from(socket),
    ))?;
    Ok(TokioIo::new(stream))
}

/// `\0meshkey-<32 hex digits>`: unix(7), abstract socket addresses.
fn abstract_name() -> io::Result<String> {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("no random bytes"))?;
    Ok(random.iter().fold("\0meshkey-".to_owned(), |name, byte| {
        name + &format!("{byte:02x}")
    }))
}

/// tonic's own text is "transport error"; what happened is at the end of the
/// chain.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_abstract_and_never_repeat() {
        let (one, two) = (abstract_name().unwrap(), abstract_name().unwrap());
        assert_ne!(one, two);
        let digits = one.strip_prefix("\0meshkey-").unwrap();
        assert_eq!(digits.len(), 32);
        assert!(digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    }
}
