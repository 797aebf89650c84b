//! An HTTP server on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use tiny_http::{Response, Server};

/// Serves `content` at /file, and 404 elsewhere, until the process ends.
///
/// # Panics
///
/// If there is no port to listen on.
#[must_use]
pub fn serve(content: Vec<u8>) -> SocketAddr {
    let server = Server::http("127.0.0.1:0").expect("a free port");
    let address = server.server_addr().to_ip().expect("an IP address");
    let content: Arc<[u8]> = content.into();
    thread::spawn(move || {
        for request in server.incoming_requests() {
            // A client that goes away is not this server's to report.
            let _ = match request.url() {
                "/file" => {
                    let reader: &[u8] = &content;
                    let length = Some(content.len());
                    request.respond(Response::new(200.into(), vec![], reader, length, None))
                }
                _ => request.respond(Response::from_string("not here").with_status_code(404)),
            };
        }
    });
    address
}
