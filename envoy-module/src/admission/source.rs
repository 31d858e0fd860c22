//! Where a connection comes from, as coarsely as addresses are handed out.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, RawFd};

use socket2::SockRef;

use crate::failure::{Failure, Reason};

/// The network that a peer's address belongs to: an IPv4 /24 or an IPv6 /64.
///
/// A host on IPv6 has a whole /64 to choose from, so a single address says
/// nothing. Neighbours share what is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    V4([u8; 3]),
    V6([u8; 8]),
}

impl Source {
    /// Of an accepted connection, by its descriptor. `None`: it comes over a Unix
    /// socket, where file permissions say who may connect.
    ///
    /// A TCP connection that has been reset has no peer any more. It is refused:
    /// else a signature could be asked for by whoever resets at once, and counted
    /// for nobody.
    pub fn of(fd: RawFd) -> Result<Option<Self>, Failure> {
        if fd < 0 {
            return Err(gone());
        }
        // SAFETY: Envoy keeps the descriptor open during the hook that asks.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let address = SockRef::from(&fd).peer_addr().map_err(|_| gone())?;
        match address.as_socket() {
            Some(address) => Ok(Some(Self::from(address))),
            None if address.is_unix() => Ok(None),
            None => Err(gone()),
        }
    }
}

fn gone() -> Failure {
    let detail = "the peer closed the connection during the handshake";
    Failure::new(Reason::PeerClosed, detail)
}

impl From<SocketAddr> for Source {
    fn from(address: SocketAddr) -> Self {
        // ::ffff:a.b.c.d, on a listener for both: all of IPv4 would be one /64.
        match address.ip().to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::*;

    fn of(address: impl Into<IpAddr>) -> Source {
        SocketAddr::new(address.into(), 4433).into()
    }

    #[test]
    fn an_accepted_connection_says_where_it_comes_from() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let source = Source::of(accepted.as_raw_fd()).unwrap();
        assert_eq!(source, Some(Source::V4([127, 0, 0])));
    }

    #[test]
    fn a_unix_socket_has_no_source() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(Source::of(one.as_raw_fd()).unwrap(), None);
    }

    #[test]
    fn a_connection_without_a_peer_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for fd in [listener.as_raw_fd(), -1] {
            let failure = Source::of(fd).unwrap_err();
            assert_eq!(failure.reason, Reason::PeerClosed);
        }
    }

    proptest! {
        #[test]
        fn ipv4_neighbours_share_a_source_and_nobody_else_does(one: u32, other: u32) {
            let same = one >> 8 == other >> 8;
            let (one, other) = (Ipv4Addr::from(one), Ipv4Addr::from(other));
            prop_assert_eq!(of(one) == of(other), same);
            prop_assert_eq!(of(one.to_ipv6_mapped()), of(one));
        }

        #[test]
        fn ipv6_neighbours_share_a_source_and_nobody_else_does(
            prefix: u64, low: u64, other_low: u64, bit in 0..64u32,
        ) {
            let address = |prefix: u64, low: u64| {
                Ipv6Addr::from(u128::from(prefix) << 64 | u128::from(low))
            };
            // ::/64 is where IPv4 lives inside of IPv6.
            prop_assume!(prefix >> 1 != 0 && prefix ^ (1 << bit) != 0);
            prop_assert_eq!(of(address(prefix, low)), of(address(prefix, other_low)));
            prop_assert_ne!(of(address(prefix, low)), of(address(prefix ^ (1 << bit), low)));
        }
    }
}
