//! The host side of the `demo` program: a TCP service that talks the demo's line
//! protocol (guest/src/bin/demo/main.rs says it), and a file served over HTTP.

use anyhow::{Context, Result, anyhow};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// Size of the file, in bytes.
const FILE_SIZE: usize = 8 << 20;
/// Name of the file.
const FILE_NAME: &str = "arca.bin";

/// The running host side; its threads end with the process.
pub struct Host {
    service: SocketAddr,
    web: SocketAddr,
    digest: String,
}

impl Host {
    /// Starts the service and the file server on free ports of loopback.
    ///
    /// # Errors
    ///
    /// If there is no port to listen on.
    pub fn start() -> Result<Self> {
        let file: Arc<[u8]> = noise(FILE_SIZE).into();
        let mut digest = String::new();
        for byte in Sha256::digest(&file) {
            write!(digest, "{byte:02x}").context("a string takes all")?;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("demo service")?;
        let service = listener.local_addr().context("demo service")?;
        let expected = format!("{digest} {FILE_SIZE}");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A guest that goes away is the guest's to report.
                if let Err(error) = serve(stream, &expected) {
                    log::debug!("demo service: {error:#}");
                }
            }
        });
        let server = tiny_http::Server::http((Ipv4Addr::LOCALHOST, 0))
            .map_err(|error| anyhow!("demo file server: {error}"))?;
        let web = server
            .server_addr()
            .to_ip()
            .context("a server on loopback")?;
        thread::spawn(move || {
            for request in server.incoming_requests() {
                let result = if request.url() == format!("/{FILE_NAME}") {
                    request.respond(tiny_http::Response::from_data(file.to_vec()))
                } else {
                    request.respond(tiny_http::Response::empty(404))
                };
                if let Err(error) = result {
                    log::debug!("demo file server: {error}");
                }
            }
        });
        Ok(Self {
            service,
            web,
            digest,
        })
    }

    /// The arguments that tell the guest all that.
    #[must_use]
    pub fn guest_args(&self) -> Vec<String> {
        vec![
            "--service".into(),
            self.service.to_string(),
            "--file".into(),
            format!("http://{}/{FILE_NAME}", self.web),
            "--sha256".into(),
            self.digest.clone(),
            "--size".into(),
            FILE_SIZE.to_string(),
            "--serve-back".into(),
        ]
    }
}

/// Sends a line in one piece: a second small segment would wait for the first
/// to be acknowledged.
fn say(mut stream: &TcpStream, line: &str) -> std::io::Result<()> {
    stream.write_all(format!("{line}\n").as_bytes())
}

/// One guest's conversation with the service.
fn serve(stream: TcpStream, expected: &str) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut next = || {
        lines
            .next()
            .context("the guest went away")?
            .context("reading")
    };
    let greeting = next()?;
    say(&stream, &format!("WELCOME {greeting} from the host"))?;
    let Ok(line) = next() else {
        return Ok(());
    };
    let port: u16 = line
        .strip_prefix("PORT ")
        .and_then(|port| port.parse().ok())
        .with_context(|| format!("expected PORT N, got {line:?}"))?;
    let verdict = match ask(port) {
        Ok(answer) if answer == expected => "OK".into(),
        Ok(answer) => format!("BAD expected {expected}, got {answer}"),
        Err(error) => format!("BAD {error:#}"),
    };
    say(&stream, &verdict)?;
    // To the end of the guest's side.
    std::io::copy(&mut (&stream).take(1 << 20), &mut std::io::sink())?;
    Ok(())
}

/// Asks the guest, which listens at `port`, for the digest of what it fetched.
fn ask(port: u16) -> Result<String> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    say(&stream, "DIGEST")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    (&stream).take(1024).read_to_string(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}

/// `len` bytes that no compression or coincidence makes right by luck, the same
/// each time: xorshift64*.
#[must_use]
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(len.next_multiple_of(8));
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
