//! Connects to a signer as the module does: from a socket with a name of its own.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Connected;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixStream;

/// The name is abstract (unix(7)), `meshkey-` and 32 random hexadecimal digits: by it the signer
/// finds the connection, and asks the kernel whose it is.
pub fn connect(signer: &str) -> io::Result<UnixStream> {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("no random bytes"))?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(format!("\0meshkey-{digits}"))?)?;
    socket.connect(&SockAddr::unix(signer)?)?;
    socket.set_nonblocking(true)?;
    UnixStream::from_std(Connected::from(OwnedFd::from(socket)))
}
