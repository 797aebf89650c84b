//! `{name} [PORT]`: an HTTP server that says hello, at port 8080 unless another is
//! given; 0 takes a free one.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::vec::Vec;
use arca_guest::net::{self, AsyncTcpStream, Error};
use arca_guest::{args, block_on, log, println, spawn};
use core::convert::Infallible;

arca_guest::entry!(main);

/// What every request is answered with.
const HELLO: &str = "hello from {name}\n";
/// Longest request that is read, in bytes.
const LONGEST: usize = 16 << 10;

fn main() -> Result<Infallible, Error> {
    let port = args().nth(1).and_then(|port| port.parse().ok());
    let listener = net::bind(([127, 0, 0, 1], port.unwrap_or(8080)).into())?;
    println!("listening on http://{}", listener.local_addr());
    block_on(async {
        loop {
            let (stream, peer) = listener.accept_async().await?;
            // A task for each client; with --vcpus they are spread over several.
            spawn(async move {
                if let Err(error) = serve(stream.into_async()).await {
                    log::warn!("{peer}: {error}");
                }
            });
        }
    })
}

/// Reads a request's head and answers it.
async fn serve(stream: AsyncTcpStream) -> Result<(), Error> {
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < LONGEST {
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            len => request.extend_from_slice(&piece[..len]),
        }
    }
    let length = HELLO.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(HELLO.as_bytes()).await
}
