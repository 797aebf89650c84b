//! `http-get [--head] URL...`: fetches what is at the URLs and writes the bodies to
//! standard output, byte for byte; with `--head`, only the heads, which are asked for alone.
//!
//! Redirections are followed. A connection is used again where the server keeps it. A
//! status other than 2xx goes to standard error and ends the program with exit code 1,
//! and so does a body that ends before its stated length.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use arca_guest::http::{HttpError, Method, Response, Url};
use arca_guest::net::{self, TcpStream};
use arca_guest::process::{ExitCode, exit};
use arca_guest::stdio::stdout;
use arca_guest::{args, eprintln};

arca_guest::entry!(main);

/// Bytes moved at a time.
const PIECE: usize = 256 << 10;
/// Redirections that are followed for a URL, at most.
const REDIRECTIONS: usize = 10;

fn main() -> Result<(), String> {
    let mut urls: Vec<_> = args().skip(1).collect();
    let method = match urls.first() {
        Some(&"--head") => {
            urls.remove(0);
            Method::Head
        }
        _ => Method::Get,
    };
    if urls.is_empty() {
        eprintln!("usage: http-get [--head] URL...");
        exit(ExitCode(2));
    }
    let mut client = Client {
        method,
        kept: None,
        buffer: alloc::vec![0; PIECE],
    };
    for url in urls {
        let fetched = client.fetch(url);
        fetched.map_err(|error| format!("{url}: {error}"))?;
    }
    stdout().flush().map_err(|error| error.to_string())
}

/// Who asks.
struct Client {
    method: Method,
    /// The last connection, if it was kept, and whom it is to.
    kept: Option<(String, TcpStream)>,
    buffer: Vec<u8>,
}

impl Client {
    /// Fetches what is at a URL, or where that leads to, and prints it.
    fn fetch(&mut self, url: &str) -> Result<(), String> {
        let mut url = url.to_string();
        for _ in 0..=REDIRECTIONS {
            let parsed = Url::parse(&url).map_err(|error| error.to_string())?;
            let mut response = self.ask(&parsed)?;
            let location = response.location.take();
            match (response.status, location) {
                (200..=299, _) => {
                    return self.print(&parsed, response);
                }
                (301 | 302 | 303 | 307 | 308, Some(location)) => {
                    let next = parsed.resolve(&location);
                    let next = next.map_err(|error| format!("{location}: {error}"))?;
                    self.keep(&parsed, response);
                    url = next;
                }
                (status, _) => return Err(format!("{status} {}", response.reason)),
            }
        }
        Err(format!("more than {REDIRECTIONS} redirections"))
    }

    /// Asks for a URL, over the connection that was kept if that is to the same server.
    fn ask(&mut self, url: &Url<'_>) -> Result<Response<TcpStream>, String> {
        let server = url.host_and_port();
        let kept = self.kept.take().filter(|(other, _)| *other == server);
        if let Some((_, stream)) = kept {
            let sent = stream.write_all(url.request(self.method).as_bytes());
            match sent.map(|()| Response::receive(stream, self.method)) {
                // The server has closed it meanwhile, which it may.
                Err(_) | Ok(Err(HttpError::Read(_) | HttpError::HeadCut(0))) => {}
                Ok(response) => return response.map_err(|error| error.to_string()),
            }
        }
        let stream = net::connect_host(url.host, url.port)
            .map_err(|error| format!("connect {server}: {error}"))?;
        stream
            .write_all(url.request(self.method).as_bytes())
            .map_err(|error| format!("send the request: {error}"))?;
        Response::receive(stream, self.method).map_err(|error| error.to_string())
    }

    /// Prints a response's body; its head, where that was asked for alone.
    fn print(&mut self, url: &Url<'_>, mut response: Response<TcpStream>) -> Result<(), String> {
        let output = |error| format!("standard output: {error}");
        if self.method == Method::Head {
            let head = response.head.as_bytes();
            stdout().write_all(head).map_err(output)?;
        }
        loop {
            let count = response.read(&mut self.buffer);
            match count.map_err(|error| error.to_string())? {
                0 => break,
                count => stdout().write_all(&self.buffer[..count]).map_err(output)?,
            }
        }
        self.keep(url, response);
        Ok(())
    }

    /// Keeps the connection of a response that nobody wants more of, if it can be used
    /// again.
    fn keep(&mut self, url: &Url<'_>, mut response: Response<TcpStream>) {
        // What a redirection says to people is short, or not worth the wait.
        let _ = response.read(&mut self.buffer);
        let stream = response.into_source();
        self.kept = stream.map(|stream| (url.host_and_port(), stream));
    }
}
