//! Operations that move bytes, each as a future: it may have to wait.

use crate::data::{Data, describe};
use crate::system::{Failure, Made, Outcome, Stream, System};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;

/// Bytes read at a time on the way to the end of a stream.
const PIECE: usize = 64 << 10;

/// What is said of an operation that gives nothing.
pub const OK: &str = "ok";

/// An operation that may wait.
pub type Task<S> = Pin<Box<dyn Future<Output = Outcome<S>> + Send>>;

/// The outcome of something that makes nothing.
fn plain<S: System>(result: Result<String, Failure>) -> Outcome<S> {
    let text = result.unwrap_or_else(|failure| failure.to_string());
    (text, Made::Nothing)
}

pub fn read<T: Stream>(stream: T, len: usize) -> Task<T::System> {
    Box::pin(async move {
        let mut buffer = vec![0; len];
        let result = stream.read(&mut buffer).await;
        plain(result.map(|len| describe(&buffer[..len])))
    })
}

pub fn peek<T: Stream>(stream: T, len: usize) -> Task<T::System> {
    Box::pin(async move {
        let mut buffer = vec![0; len];
        let result = stream.peek(&mut buffer).await;
        plain(result.map(|len| describe(&buffer[..len])))
    })
}

pub fn read_exact<T: Stream>(stream: T, len: usize) -> Task<T::System> {
    Box::pin(async move {
        let mut buffer = vec![0; len];
        let result = stream.read_exact(&mut buffer).await;
        plain(result.map(|()| describe(&buffer)))
    })
}

/// Reads to the end. Where there are `sent` bytes, the first of them must come,
/// and how many is not told.
pub fn read_end<T: Stream>(stream: T, sent: Option<Data>) -> Task<T::System> {
    Box::pin(async move {
        let mut got = Vec::new();
        let mut buffer = vec![0; PIECE];
        let end = loop {
            match stream.read(&mut buffer).await {
                Ok(0) => break "end".to_string(),
                Ok(len) => got.extend_from_slice(&buffer[..len]),
                Err(failure) => break failure.to_string(),
            }
        };
        let bytes = match sent.map(|data| data.bytes().starts_with(&got)) {
            None => describe(&got),
            Some(true) => "what was sent first".into(),
            Some(false) => format!("{}, which were not sent", describe(&got)),
        };
        (format!("{bytes}, {end}"), Made::Nothing)
    })
}

pub fn write<T: Stream>(stream: T, data: Data) -> Task<T::System> {
    Box::pin(async move {
        let result = stream.write(&data.bytes()).await;
        plain(result.map(|len| format!("wrote {len}")))
    })
}

pub fn send<T: Stream>(stream: T, data: Data) -> Task<T::System> {
    Box::pin(async move {
        let result = stream.send(&data.bytes()).await;
        plain(result.map(|()| OK.into()))
    })
}

pub fn recv<T: Stream>(stream: T, len: usize) -> Task<T::System> {
    Box::pin(async move {
        let mut buffer = vec![0; len];
        let result = stream.recv(&mut buffer).await;
        plain(result.map(|len| describe(&buffer[..len])))
    })
}

pub fn write_all<T: Stream>(stream: T, data: Data) -> Task<T::System> {
    Box::pin(async move {
        let result = stream.write_all(&data.bytes()).await;
        plain(result.map(|()| OK.into()))
    })
}
