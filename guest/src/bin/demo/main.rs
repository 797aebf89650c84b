//! `demo`: the whole way once, with a transcript.
//!
//! ```text
//! demo --service IP:PORT --file URL --sha256 HEX --size N [--serve-back [--port N]]
//! ```
//!
//! The guest connects to a service on the host and exchanges a greeting, fetches
//! a file over HTTP and checks its size and SHA-256 digest; with `--serve-back` it
//! then listens, tells the service where, accepts a connection from it and
//! serves it. `--port` is the port to listen at, 0 (the default) a free one.
//!
//! # What is said
//!
//! Text in lines, each ended by one `\n`, on two connections. `G` is the guest,
//! `H` the host.
//!
//! On the connection that the guest makes to the service:
//!
//! | | line | meaning |
//! |---|---|---|
//! | G | `HELLO arca` | the greeting |
//! | H | `WELCOME TEXT` | its answer; TEXT is printed |
//! | G | `PORT N` | the guest listens at 127.0.0.1:N. Without `--serve-back`, the guest ends its side of the stream instead, and the last three lines are left out |
//! | H | `OK` | after the second connection: the digest was right |
//! | H | `BAD TEXT` | or it was not, and why |
//! | G | | ends its side of the stream; the host, seeing that, closes |
//!
//! On the connection that the host makes to the guest, between `PORT` and `OK`:
//!
//! | | line | meaning |
//! |---|---|---|
//! | H | `DIGEST` | asks; the host may end its side of the stream after it |
//! | G | `HEX N` | SHA-256 digest in 64 lower-case digits, and size in bytes, of what the guest fetched |
//! | G | | ends its side of the stream, and reads to the end of the host's |

#![no_std]
#![no_main]

extern crate alloc;

mod lines;
mod options;
mod transcript;

use alloc::format;
use alloc::string::String;
use arca_guest::args;
use arca_guest::http::{Method, Response, Url};
use arca_guest::net::{self, Ipv4Addr, SocketAddr, TcpListener};
use core::fmt::{self, Write};
use lines::Lines;
use options::Options;
use sha2::{Digest, Sha256};
use transcript::Transcript;

arca_guest::entry!(main);

/// Bytes of the file moved at a time.
const PIECE: usize = 256 << 10;

fn main() -> Result<(), String> {
    let options = Options::parse(args().skip(1))?;
    let mut transcript = Transcript::start();

    let mut service = connect(&options, &mut transcript)?;
    greet(&mut service, &mut transcript)?;
    let file = fetch(&options, &mut transcript)?;
    check(&file, &options, &mut transcript)?;
    if options.serve_back {
        let listener = listen(&options, &mut service, &mut transcript)?;
        serve(&listener, &file, &mut transcript)?;
        confirm(&mut service, &mut transcript)?;
    }
    end(service, &mut transcript)?;

    transcript.finish();
    Ok(())
}

fn connect(options: &Options, transcript: &mut Transcript) -> Result<Lines, String> {
    let place = options.service;
    let stream = net::connect(place).map_err(|error| format!("connect {place}: {error}"))?;
    transcript.step(
        "connect",
        format_args!("{} to the service at {place}", stream.local_addr()),
    );
    Ok(Lines::new(stream))
}

fn greet(service: &mut Lines, transcript: &mut Transcript) -> Result<(), String> {
    let sent = service.say(format_args!("HELLO arca"))?;
    let answer = service.hear()?;
    let Some(text) = answer.strip_prefix("WELCOME ") else {
        return Err(format!("the service answered the greeting with {answer:?}"));
    };
    transcript.step(
        "greet",
        format_args!("{sent} B sent, {} B received: {text:?}", answer.len() + 1),
    );
    Ok(())
}

/// What was fetched.
struct File {
    size: u64,
    sha256: String,
}

fn fetch(options: &Options, transcript: &mut Transcript) -> Result<File, String> {
    let text = options.file;
    let failed = |error: &dyn fmt::Display| format!("{text}: {error}");
    let url = Url::parse(text).map_err(|error| failed(&error))?;
    let stream = net::connect_host(url.host, url.port).map_err(|error| failed(&error))?;
    stream
        .write_all(url.request(Method::Get).as_bytes())
        .map_err(|error| failed(&error))?;
    let mut response = Response::receive(stream, Method::Get).map_err(|error| failed(&error))?;
    if response.status != 200 {
        return Err(format!("{text}: {} {}", response.status, response.reason));
    }
    let mut buffer = alloc::vec![0; PIECE];
    let mut digest = Sha256::new();
    let mut size = 0;
    loop {
        let count = response.read(&mut buffer).map_err(|error| failed(&error))?;
        if count == 0 {
            break;
        }
        digest.update(&buffer[..count]);
        size += count as u64;
    }
    transcript.step("fetch", format_args!("{text}, {size} B"));
    let mut sha256 = String::with_capacity(64);
    for byte in digest.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(sha256, "{byte:02x}");
    }
    Ok(File { size, sha256 })
}

fn check(file: &File, options: &Options, transcript: &mut Transcript) -> Result<(), String> {
    if file.size != options.size {
        return Err(format!(
            "{} B were fetched of a file of {} B",
            file.size, options.size
        ));
    }
    if !file.sha256.eq_ignore_ascii_case(options.sha256) {
        return Err(format!(
            "the digest of what was fetched is {}, not {}",
            file.sha256, options.sha256
        ));
    }
    transcript.step(
        "check",
        format_args!("sha-256 {}, as it should be", file.sha256),
    );
    Ok(())
}

fn listen(
    options: &Options,
    service: &mut Lines,
    transcript: &mut Transcript,
) -> Result<TcpListener, String> {
    let place = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let listener = net::bind(place).map_err(|error| format!("listen on {place}: {error}"))?;
    let port = match options.port {
        0 => listener.local_addr().port(),
        port => port,
    };
    let sent = service.say(format_args!("PORT {port}"))?;
    transcript.step(
        "listen",
        format_args!("on port {port}, told the service in {sent} B"),
    );
    Ok(listener)
}

fn serve(listener: &TcpListener, file: &File, transcript: &mut Transcript) -> Result<(), String> {
    let (stream, peer) = listener
        .accept()
        .map_err(|error| format!("accept: {error}"))?;
    transcript.step("accept", format_args!("a connection from {peer}"));
    let mut client = Lines::new(stream);
    let request = client.hear()?;
    if request != "DIGEST" {
        return Err(format!("{peer} asked for {request:?}"));
    }
    let sent = client.say(format_args!("{} {}", file.sha256, file.size))?;
    client.end()?;
    transcript.step(
        "serve",
        format_args!("{} B received, {sent} B sent", request.len() + 1),
    );
    Ok(())
}

fn confirm(service: &mut Lines, transcript: &mut Transcript) -> Result<(), String> {
    match service.hear()?.as_str() {
        "OK" => transcript.step("confirm", format_args!("the service got the right digest")),
        answer => return Err(format!("the service says {answer:?}")),
    }
    Ok(())
}

fn end(mut service: Lines, transcript: &mut Transcript) -> Result<(), String> {
    service.end()?;
    transcript.step("end", format_args!("both sides have ended the stream"));
    Ok(())
}
