//! The fallback: waking through the connection's own file descriptor.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use socket2::SockRef;

/// Provokes a write event on a TCP connection: setting `TCP_NOTSENT_LOWAT`, even
/// to what it already is, makes Linux call `sk_write_space`.
///
/// The caller guarantees that `fd` is open, which it does by holding the lock
/// that closing the connection takes.
pub fn provoke_write_event(fd: RawFd) -> io::Result<()> {
    // SAFETY: open for the duration of the call, see above.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let socket = SockRef::from(&fd);
    socket.set_tcp_notsent_lowat(socket.tcp_notsent_lowat()?)
}
