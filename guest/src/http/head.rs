//! The head of a response, and what it says of the body.

use super::Method;
use alloc::format;
use alloc::string::{String, ToString};
use httparse::Status;

/// Most bytes of a response's head.
pub const MAX_HEAD: usize = 64 << 10;
/// Most header lines.
const MAX_HEADERS: usize = 128;

/// How far a body still goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// That many bytes.
    Bytes(u64),
    /// To the end of the connection.
    ToEnd,
    /// That many bytes of the current chunk; then its line end, then chunks.
    Chunk(u64),
    /// A chunk's size line comes next.
    ChunkSize,
    /// Nothing is left.
    Nothing,
}

/// What a response's head says.
pub(super) struct Head {
    pub(super) len: usize,
    pub(super) status: u16,
    pub(super) reason: String,
    /// Where else to look, in a redirection.
    pub(super) location: Option<String>,
    pub(super) rest: Rest,
    /// Whether the server keeps the connection.
    pub(super) kept: bool,
}

impl Head {
    /// The head at the start of `bytes`, of what answers that method; `None` if it is
    /// not complete yet.
    pub(super) fn parse(bytes: &[u8], method: Method) -> Result<Option<Head>, String> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let len = match response.parse(bytes) {
            Ok(Status::Complete(len)) => len,
            Ok(Status::Partial) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let status = response.code.unwrap_or(0);
        let mut rest = Rest::ToEnd;
        let mut location = None;
        let mut kept = response.version == Some(1);
        for header in response.headers.iter() {
            let value = str::from_utf8(header.value).unwrap_or("").trim();
            if header.name.eq_ignore_ascii_case("transfer-encoding") {
                if !value.eq_ignore_ascii_case("chunked") {
                    return Err(format!("a transfer encoding of {value:?}"));
                }
                rest = Rest::ChunkSize;
            } else if header.name.eq_ignore_ascii_case("content-length") && rest != Rest::ChunkSize
            {
                let length = value
                    .parse()
                    .map_err(|_| format!("a content length of {value:?}"))?;
                if matches!(rest, Rest::Bytes(other) if other != length) {
                    return Err("two different content lengths".to_string());
                }
                rest = Rest::Bytes(length);
            } else if header.name.eq_ignore_ascii_case("connection") {
                for option in value.split(',').map(str::trim) {
                    if option.eq_ignore_ascii_case("close") {
                        kept = false;
                    } else if option.eq_ignore_ascii_case("keep-alive") {
                        kept = true;
                    }
                }
            } else if header.name.eq_ignore_ascii_case("location") {
                location = Some(value.to_string());
            }
        }
        if matches!(status, 204 | 304) || method == Method::Head {
            rest = Rest::Nothing;
        }
        Ok(Some(Head {
            len,
            status,
            reason: response.reason.unwrap_or("").to_string(),
            location,
            kept: kept && rest != Rest::ToEnd,
            rest,
        }))
    }
}
