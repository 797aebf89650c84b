//! A response, read in pieces.

use super::Method;
use super::head::{Head, MAX_HEAD, Rest};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use embedded_io::Read;
use httparse::Status;

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

/// Bytes asked for at a time while reading a head.
const HEAD_STEP: usize = 4096;

/// A response whose head was read; its body is read with [`Response::read`].
#[derive(Debug)]
pub struct Response<S> {
    /// Status code, 200 if all went well.
    pub status: u16,
    /// The server's words for it.
    pub reason: String,
    /// Where else to look, in a redirection.
    pub location: Option<String>,
    /// The head as it came, up to the empty line.
    pub head: String,
    source: S,
    /// Whether the server keeps the connection.
    kept: bool,
    /// What was read beyond the head, or beyond a chunk's size.
    ahead: Vec<u8>,
    /// Bytes at the start of `ahead` that are used up.
    used: usize,
    rest: Rest,
}

impl<S: Read> Response<S> {
    /// Reads a response's head from `source`, to which a request of that method was sent.
    ///
    /// # Errors
    ///
    /// [`HttpError`].
    pub fn receive(source: S, method: Method) -> Result<Response<S>, HttpError<S::Error>> {
        let mut response = Response {
            status: 0,
            reason: String::new(),
            location: None,
            head: String::new(),
            source,
            kept: false,
            ahead: Vec::new(),
            used: 0,
            rest: Rest::Nothing,
        };
        loop {
            let head = Head::parse(&response.ahead, method).map_err(HttpError::Malformed)?;
            if let Some(head) = head {
                response.used += head.len;
                // Interim responses (100 to 199) announce another one.
                if !(100..200).contains(&head.status) || head.status == 101 {
                    let text = &response.ahead[..head.len];
                    response.head = String::from_utf8_lossy(text).into_owned();
                    response.status = head.status;
                    response.reason = head.reason;
                    response.location = head.location;
                    response.kept = head.kept;
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

    /// The connection, for another request: if the server keeps it, and the body was
    /// read to its end.
    #[must_use]
    pub fn into_source(self) -> Option<S> {
        let read = matches!(self.rest, Rest::Nothing | Rest::Bytes(0));
        // More than was asked for is no answer to what comes next.
        let more = self.used < self.ahead.len();
        (self.kept && read && !more).then_some(self.source)
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

#[cfg(test)]
mod tests {
    use super::*;
    use core::convert::Infallible;
    use embedded_io::ErrorType;

    /// Gives its bytes out a few at a time.
    struct Pieces<'a>(&'a [u8], usize);

    impl ErrorType for Pieces<'_> {
        type Error = Infallible;
    }

    impl Read for Pieces<'_> {
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
        let mut response = Response::receive(Pieces(text.as_bytes(), step), Method::Get)?;
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
    fn a_connection_is_given_back_when_another_request_may_follow() {
        const KEPT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        const CHUNKS: &str =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        for (text, kept) in [
            (KEPT, true),
            (CHUNKS, true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", false),
            (
                "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nConnection: x, close\r\nContent-Length: 2\r\n\r\nhi",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi, and more",
                false,
            ),
            ("HTTP/1.1 200 OK\r\n\r\nhi", false),
        ] {
            let pieces = Pieces(text.as_bytes(), 1000);
            let mut response = Response::receive(pieces, Method::Get).expect("a head");
            let mut body = [0; 9];
            assert_eq!(response.read(&mut body), Ok(2), "{text}");
            assert_eq!(response.read(&mut body), Ok(0), "{text}");
            assert_eq!(response.into_source().is_some(), kept, "{text}");
        }
        // Of what is not read to its end, the rest would be taken for an answer.
        let response = Response::receive(Pieces(KEPT.as_bytes(), 1000), Method::Get);
        assert!(response.expect("a head").into_source().is_none());
    }

    #[test]
    fn a_head_alone_has_no_body_whatever_its_length_says() {
        let text = "HTTP/1.1 302 Found\r\nContent-Length: 5\r\nLocation: /x\r\n\r\n";
        let pieces = Pieces(text.as_bytes(), 7);
        let mut response = Response::receive(pieces, Method::Head).expect("a head");
        assert_eq!(response.read(&mut [0; 9]), Ok(0));
        assert_eq!(response.location.as_deref(), Some("/x"));
        assert_eq!(response.head, text);
        assert!(response.into_source().is_some());
    }

    #[test]
    fn interim_responses_are_passed_over() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(body_of(text), Ok((200, "hi".to_string())));
    }
}
