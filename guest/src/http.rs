//! A small HTTP/1.1 client: one GET, its response head, and a body read in
//! pieces as large as the caller's buffer.
//!
//! It works over anything that can be read ([`Source`]), sends one request for
//! each connection, and understands the three ways in which a body ends: at its
//! stated length, with its last chunk, or with the connection.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use httparse::Status;

/// Where a response is read from.
pub trait Source {
    /// Why a read fails.
    type Error;

    /// Reads what is there, up to the size of `buffer`; 0 is the end.
    ///
    /// # Errors
    ///
    /// As the source has it.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error>;
}

/// Why a text is no URL of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is not of the form `http://HOST[:PORT][/PATH]`.
    #[error("not a URL of the form http://HOST[:PORT]/PATH")]
    Form,
    /// It asks for HTTPS.
    #[error("https is not supported, only http")]
    Https,
    /// What follows the colon is not a port.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

/// A plain `http` URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// Host name or address, without the brackets of an IPv6 literal.
    pub host: &'a str,
    /// Host and port as they were written: what the Host header says.
    pub authority: &'a str,
    /// Port, 80 if none was written.
    pub port: u16,
    /// Path and query, `/` if none was written.
    pub path: &'a str,
}

impl<'a> Url<'a> {
    /// Takes `text` apart.
    ///
    /// # Errors
    ///
    /// [`UrlError`].
    pub fn parse(text: &'a str) -> Result<Url<'a>, UrlError> {
        if text.starts_with("https://") {
            return Err(UrlError::Https);
        }
        let rest = text.strip_prefix("http://").ok_or(UrlError::Form)?;
        // A fragment is the client's own and never sent.
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if !path.starts_with('/') || rest.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(UrlError::Form);
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(literal) => {
                let (host, after) = literal.split_once(']').ok_or(UrlError::Form)?;
                match after {
                    "" => (host, None),
                    _ => (host, Some(after.strip_prefix(':').ok_or(UrlError::Form)?)),
                }
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() || authority.contains('@') {
            return Err(UrlError::Form);
        }
        let port = match port {
            None | Some("") => 80,
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(UrlError::Port),
                Ok(port) => port,
            },
        };
        Ok(Url {
            host,
            authority,
            port,
            path,
        })
    }

    /// Host and port, also where the URL leaves the port out.
    #[must_use]
    pub fn host_and_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The request that asks for this URL.
    #[must_use]
    pub fn request(&self) -> String {
        format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: arca/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            self.path,
            self.authority,
            env!("CARGO_PKG_VERSION")
        )
    }
}

/// Why a response cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError<E> {
    /// The connection failed.
    #[error("{0}")]
    Read(E),
    /// What came is not HTTP.
    #[error("not an HTTP response: {0}")]
    Malformed(String),
    /// The head is longer than is believable.
    #[error("the response's head is longer than {MAX_HEAD} bytes")]
    HeadTooLong,
    /// The connection ended before the head was complete.
    #[error("the connection ended within the response's head, after {0} bytes")]
    HeadCut(usize),
    /// The connection ended before the body was complete.
    #[error("the connection ended within the body, {0} bytes short")]
    BodyCut(u64),
    /// The connection ended before the last chunk.
    #[error("the connection ended before the body's last chunk")]
    ChunksCut,
}

/// Most bytes of a response's head.
pub const MAX_HEAD: usize = 64 << 10;
/// Most header lines.
const MAX_HEADERS: usize = 128;
/// Bytes asked for at a time while reading a head.
const HEAD_STEP: usize = 4096;

/// How far a body still goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
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

/// A response whose head was read; its body is read with [`Response::read`].
#[derive(Debug)]
pub struct Response<S> {
    /// Status code, 200 if all went well.
    pub status: u16,
    /// The server's words for it.
    pub reason: String,
    source: S,
    /// What was read beyond the head, or beyond a chunk's size.
    ahead: Vec<u8>,
    /// Bytes at the start of `ahead` that are used up.
    used: usize,
    rest: Rest,
}

impl<S: Source> Response<S> {
    /// Reads a response's head from `source`, to which the request was sent.
    ///
    /// # Errors
    ///
    /// [`HttpError`].
    pub fn receive(source: S) -> Result<Response<S>, HttpError<S::Error>> {
        let mut response = Response {
            status: 0,
            reason: String::new(),
            source,
            ahead: Vec::new(),
            used: 0,
            rest: Rest::Nothing,
        };
        loop {
            let head = Head::parse(&response.ahead).map_err(HttpError::Malformed)?;
            if let Some(head) = head {
                response.used += head.len;
                // Interim responses (100 to 199) announce another one.
                if !(100..200).contains(&head.status) || head.status == 101 {
                    response.status = head.status;
                    response.reason = head.reason;
                    response.rest = head.rest;
                    return Ok(response);
                }
                response.ahead.drain(..head.len);
                response.used = 0;
                continue;
            }
            if response.ahead.len() > MAX_HEAD {
                return Err(HttpError::HeadTooLong);
            }
            if response.read_ahead()? == 0 {
                return Err(HttpError::HeadCut(response.ahead.len()));
            }
        }
    }

    /// Bytes of the body that are still to come, where the head has said so.
    #[must_use]
    pub fn length_left(&self) -> Option<u64> {
        match self.rest {
            Rest::Bytes(left) => Some(left),
            Rest::Nothing => Some(0),
            _ => None,
        }
    }

    /// Reads the next bytes of the body, up to the size of `buffer`; 0 is its
    /// end.
    ///
    /// # Errors
    ///
    /// [`HttpError`]; a body that ends early is one.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, HttpError<S::Error>> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.rest {
                Rest::Nothing => return Ok(0),
                Rest::ToEnd => return self.read_some(buffer, u64::MAX),
                Rest::Bytes(0) => self.rest = Rest::Nothing,
                Rest::Bytes(left) => {
                    let count = self.read_some(buffer, left)?;
                    if count == 0 {
                        return Err(HttpError::BodyCut(left));
                    }
                    self.rest = Rest::Bytes(left - count as u64);
                    return Ok(count);
                }
                Rest::Chunk(0) => {
                    let end = self.read_line()?;
                    if !end.is_empty() {
                        return Err(HttpError::Malformed(
                            "a chunk is longer than its size".to_string(),
                        ));
                    }
                    self.rest = Rest::ChunkSize;
                }
                Rest::Chunk(left) => {
                    let count = self.read_some(buffer, left)?;
                    if count == 0 {
                        return Err(HttpError::ChunksCut);
                    }
                    self.rest = Rest::Chunk(left - count as u64);
                    return Ok(count);
                }
                Rest::ChunkSize => {
                    let mut line = self.read_line()?;
                    line.extend(b"\r\n");
                    let size = match httparse::parse_chunk_size(&line) {
                        Ok(Status::Complete((_, size))) => size,
                        _ => return Err(HttpError::Malformed("a chunk's size".to_string())),
                    };
                    self.rest = Rest::Chunk(size);
                    if size == 0 {
                        // Trailers, up to an empty line.
                        while !self.read_line()?.is_empty() {}
                        self.rest = Rest::Nothing;
                    }
                }
            }
        }
    }

    /// Reads up to `limit` bytes: what was read ahead, else from the source.
    fn read_some(&mut self, buffer: &mut [u8], limit: u64) -> Result<usize, HttpError<S::Error>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let room = limit.min(buffer.len());
        let ahead = &self.ahead[self.used..];
        if ahead.is_empty() {
            return self
                .source
                .read(&mut buffer[..room])
                .map_err(HttpError::Read);
        }
        let count = ahead.len().min(room);
        buffer[..count].copy_from_slice(&ahead[..count]);
        self.used += count;
        Ok(count)
    }

    /// Appends what the source has to `ahead`.
    fn read_ahead(&mut self) -> Result<usize, HttpError<S::Error>> {
        let before = self.ahead.len();
        self.ahead.resize(before + HEAD_STEP, 0);
        let count = self.source.read(&mut self.ahead[before..]);
        self.ahead
            .truncate(before + count.as_ref().map_or(0, |&count| count));
        count.map_err(HttpError::Read)
    }

    /// Takes the next line of a chunked body, without its line end.
    fn read_line(&mut self) -> Result<Vec<u8>, HttpError<S::Error>> {
        loop {
            let ahead = &self.ahead[self.used..];
            if let Some(at) = ahead.iter().position(|&byte| byte == b'\n') {
                let line = &ahead[..at];
                let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
                self.used += at + 1;
                return Ok(line);
            }
            if ahead.len() > MAX_HEAD {
                return Err(HttpError::Malformed(
                    "a chunk's line is too long".to_string(),
                ));
            }
            self.ahead.drain(..self.used);
            self.used = 0;
            if self.read_ahead()? == 0 {
                return Err(HttpError::ChunksCut);
            }
        }
    }
}

/// What a response's head says.
struct Head {
    len: usize,
    status: u16,
    reason: String,
    rest: Rest,
}

impl Head {
    /// The head at the start of `bytes`; `None` if it is not complete yet.
    fn parse(bytes: &[u8]) -> Result<Option<Head>, String> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let len = match response.parse(bytes) {
            Ok(Status::Complete(len)) => len,
            Ok(Status::Partial) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let status = response.code.unwrap_or(0);
        let mut rest = Rest::ToEnd;
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
            }
        }
        if matches!(status, 204 | 304) {
            rest = Rest::Nothing;
        }
        Ok(Some(Head {
            len,
            status,
            reason: response.reason.unwrap_or("").to_string(),
            rest,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::convert::Infallible;

    /// Gives its bytes out a few at a time.
    struct Pieces<'a>(&'a [u8], usize);

    impl Source for Pieces<'_> {
        type Error = Infallible;

        fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
            let count = self.0.len().min(buffer.len()).min(self.1);
            let (now, later) = self.0.split_at(count);
            buffer[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn body_of(text: &str) -> Result<(u16, String), HttpError<Infallible>> {
        let mut results = Vec::new();
        for step in [1, 2, 3, 7, 1000] {
            results.push(body_in_steps(text, step));
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        results.remove(0)
    }

    fn body_in_steps(text: &str, step: usize) -> Result<(u16, String), HttpError<Infallible>> {
        let mut response = Response::receive(Pieces(text.as_bytes(), step))?;
        let mut body = Vec::new();
        let mut buffer = [0; 5];
        loop {
            match response.read(&mut buffer)? {
                0 => break,
                count => body.extend_from_slice(&buffer[..count]),
            }
        }
        Ok((response.status, String::from_utf8_lossy(&body).into_owned()))
    }

    #[test]
    fn urls() {
        let url = Url::parse("http://127.0.0.1:8000/a/b?c#d").expect("valid");
        assert_eq!(
            (url.host, url.port, url.path),
            ("127.0.0.1", 8000, "/a/b?c")
        );
        assert_eq!(url.authority, "127.0.0.1:8000");
        let url = Url::parse("http://localhost").expect("valid");
        assert_eq!((url.host, url.port, url.path), ("localhost", 80, "/"));
        assert_eq!(url.host_and_port(), "localhost:80");
        let url = Url::parse("http://[::1]:81/x").expect("valid");
        assert_eq!((url.host, url.port, url.path), ("::1", 81, "/x"));
        assert_eq!(url.host_and_port(), "[::1]:81");
        for (bad, error) in [
            ("127.0.0.1:8000/", UrlError::Form),
            ("http:///x", UrlError::Form),
            ("http://[::1/x", UrlError::Form),
            ("http://a/b c", UrlError::Form),
            ("http://a?b", UrlError::Form),
            ("http://a:70000/", UrlError::Port),
            ("http://a:0/", UrlError::Port),
            ("https://a/", UrlError::Https),
        ] {
            assert_eq!(Url::parse(bad), Err(error), "{bad}");
        }
    }

    #[test]
    fn a_body_of_stated_length() {
        let ok = (200, "hello".to_string());
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more";
        assert_eq!(body_of(text), Ok(ok));
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello";
        assert_eq!(body_of(text), Err(HttpError::BodyCut(4)));
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(body_of(text), Ok((200, String::new())));
        let text = "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n";
        assert!(matches!(body_of(text), Err(HttpError::Malformed(_))));
    }

    #[test]
    fn a_body_to_the_end_of_the_connection() {
        let text = "HTTP/1.0 404 File not found\r\n\r\nnothing here";
        assert_eq!(body_of(text), Ok((404, "nothing here".to_string())));
    }

    #[test]
    fn a_body_in_chunks() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunks = "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n";
        let whole = [head, chunks].concat();
        assert_eq!(body_of(&whole), Ok((200, "abc0123456789".to_string())));
        let cut = [head, "3\r\nab"].concat();
        assert_eq!(body_of(&cut), Err(HttpError::ChunksCut));
        let cut = [head, "3\r\nabc\r\n"].concat();
        assert_eq!(body_of(&cut), Err(HttpError::ChunksCut));
        for bad in ["x\r\n", "3\r\nabcd\r\n", "ffffffffffffffffff\r\n"] {
            let whole = [head, bad].concat();
            assert!(matches!(body_of(&whole), Err(HttpError::Malformed(_))));
        }
    }

    #[test]
    fn heads_that_are_cut_or_no_heads() {
        assert_eq!(
            body_of("HTTP/1.1 200 OK\r\nA:"),
            Err(HttpError::HeadCut(19))
        );
        assert_eq!(body_of(""), Err(HttpError::HeadCut(0)));
        assert!(matches!(
            body_of("SSH-2.0-x\r\n"),
            Err(HttpError::Malformed(_))
        ));
        let endless = ["HTTP/1.1 200 OK\r\nA: ", &"a".repeat(MAX_HEAD + 9)].concat();
        assert_eq!(body_in_steps(&endless, 5000), Err(HttpError::HeadTooLong));
    }

    #[test]
    fn interim_responses_are_passed_over() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(body_of(text), Ok((200, "hi".to_string())));
    }
}
