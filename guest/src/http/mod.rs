//! A small HTTP/1.1 client: a request, its response's head, and a body read in
//! pieces as large as the caller's buffer.
//!
//! It works over anything that can be read ([`embedded_io::Read`]), gives the connection
//! back for another request, and understands the three ways in which a body ends: at its
//! stated length, with its last chunk, or with the connection.

mod head;
mod response;
mod url;

pub use head::MAX_HEAD;
pub use response::{HttpError, Response};
pub use url::{Method, Url, UrlError};
