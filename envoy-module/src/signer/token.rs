//! The token that a caller presents to the signer, where the signer asks for one.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};

/// Far above any JWT, and below what gRPC takes as metadata.
const MOST: u64 = 16 * 1024;

/// What goes along with each call. Neither logged nor kept longer than the
/// connection: whoever writes the file renews it.
#[derive(Clone)]
pub struct Token(Option<MetadataValue<Ascii>>);

impl Token {
    /// Reads the file, if there is to be one. The error never tells what is in it.
    pub async fn read(file: Option<&Path>) -> Result<Self, String> {
        let Some(file) = file.map(Path::to_owned) else {
            return Ok(Self(None));
        };
        // Not on the I/O thread, which serves every signer: a file can be slow.
        let read = tokio::task::spawn_blocking(move || {
            read(&file).map_err(|reason| format!("token_file {}: {reason}", file.display()))
        });
        let value = read.await.map_err(|error| error.to_string())??;
        Ok(Self(Some(value)))
    }

    pub fn present<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        request
    }
}

fn read(file: &PathBuf) -> Result<MetadataValue<Ascii>, String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK) // a FIFO must not keep us waiting
        .open(file)
        .map_err(|error| error.to_string())?;
    let kind = file.metadata().map_err(|error| error.to_string())?;
    if !kind.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut text = String::new();
    file.take(MOST + 1)
        .read_to_string(&mut text)
        .map_err(|_| "is not text".to_owned())?;
    if text.len() as u64 > MOST {
        return Err(format!("has more than {MOST} bytes"));
    }
    let token = text.trim_ascii();
    if token.is_empty() {
        return Err("is empty".to_owned());
    }
    // RFC 6750 2.1: b64token, of visible characters.
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("holds something else than one token".to_owned());
    }
    let mut value = MetadataValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "holds something else than one token".to_owned())?;
    // HTTP/2 then keeps it out of its tables, and `Debug` hides it.
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> PathBuf {
        let path = crate::testing::socket_path().with_extension("token");
        std::fs::write(&path, content).unwrap();
        path
    }

    async fn presented(content: &[u8]) -> Result<String, String> {
        let file = file(content);
        let read = Token::read(Some(&file)).await;
        std::fs::remove_file(&file).unwrap();
        let request = read?.present(());
        let value = request.metadata().get("authorization").unwrap();
        assert!(!format!("{:?}", request.metadata()).contains("Bearer"));
        Ok(value.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn the_trimmed_content_is_presented() {
        assert_eq!(
            presented(b" abc.DEF-1_~+/= \n").await.unwrap(),
            "Bearer abc.DEF-1_~+/="
        );
        let longest = vec![b'x'; MOST as usize];
        assert_eq!(presented(&longest).await.unwrap().len(), longest.len() + 7);
    }

    #[tokio::test]
    async fn without_a_file_nothing_is_presented() {
        let request = Token::read(None).await.unwrap().present(());
        assert!(request.metadata().is_empty());
    }

    #[tokio::test]
    async fn what_is_no_token_is_refused_and_never_repeated() {
        let too_long = vec![b'x'; MOST as usize + 1];
        for (content, reason) in [
            (&b" \n"[..], "is empty"),
            (b"secret\nsecret", "something else than one token"),
            ("secr\u{e9}t".as_bytes(), "something else than one token"),
            (b"secret\xff", "is not text"),
            (&too_long, "more than 16384 bytes"),
        ] {
            let error = presented(content).await.unwrap_err();
            assert!(error.contains(reason) && !error.contains("secr"), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_no_file_is_refused_without_waiting() {
        let fifo = crate::testing::socket_path().with_extension("fifo");
        let name = std::ffi::CString::new(fifo.to_str().unwrap()).unwrap();
        // SAFETY: a NUL-terminated string.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        for (path, reason) in [
            (fifo.as_path(), "is not a regular file"),
            (Path::new("/"), "is not a regular file"),
            (Path::new("/nowhere/token"), "No such file"),
        ] {
            let error = Token::read(Some(path)).await.err().unwrap();
            assert!(
                error.starts_with("token_file /") && error.contains(reason),
                "{error}"
            );
        }
        std::fs::remove_file(&fifo).unwrap();
    }
}
