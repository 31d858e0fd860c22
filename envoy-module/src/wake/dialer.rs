//! Opens the connections that the waker listener's filters live on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;

use crate::signer::runtime;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Keeps as many connections to a waker listener as there are workers.
///
/// The listener's exact balance gives each worker one. Where it did not, the
/// second filter of a worker closes its connection, and another is dialled.
pub struct Dialer(Vec<AbortHandle>);

impl Dialer {
    pub fn start(socket: &Path, workers: usize) -> Result<Self, String> {
        let runtime = runtime::handle()?;
        let dial = |_| runtime.spawn(keep(socket.to_owned())).abort_handle();
        Ok(Self((0..workers).map(dial).collect()))
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        for connection in &self.0 {
            connection.abort();
        }
    }
}

async fn keep(socket: PathBuf) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Ok(mut stream) = UnixStream::connect(&socket).await {
            let connected = tokio::time::Instant::now();
            // The listener never writes: this returns when the connection ends.
            let _ = stream.read(&mut [0]).await;
            if connected.elapsed() > LAST_PAUSE {
                pause = FIRST_PAUSE;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}
