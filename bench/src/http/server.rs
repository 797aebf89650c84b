//! Answers the requests of a connection, in the guest and natively alike.

use super::GREETING;
use super::socket::{NoTimer, Socket};
use crate::connection::Connection;
use crate::failure::Failure;
use alloc::format;
use alloc::vec;
use picoserve::routing::get;
use picoserve::time::Duration;
use picoserve::{Config, Router, Server, Timeouts};

/// Largest head of a request, in bytes.
const HEAD: usize = 8 << 10;
/// Never comes: see [`NoTimer`].
const NEVER: Duration = Duration::from_secs(60);

const CONFIG: Config = Config::new(Timeouts {
    start_read_request: NEVER,
    persistent_start_read_request: NEVER,
    read_request: NEVER,
    write: NEVER,
})
.keep_connection_alive();

/// Answers `GET /` until the client closes, or has asked for the last.
///
/// # Errors
///
/// If the connection fails, or what comes is not HTTP.
pub async fn answer<C: Connection>(connection: C) -> Result<(), Failure> {
    let router = Router::new().route("/", get(async || GREETING));
    let mut head = vec![0; HEAD];
    let server = Server::custom(&router, NoTimer, &CONFIG, &mut head);
    let served = server.serve(Socket(connection)).await;
    served
        .map(drop)
        .map_err(|error| Failure::new(format!("HTTP: {error:?}")))
}
