//! `redis-cli HOST PORT COMMAND...`: has a Redis server do one command, and prints its
//! reply as redis-cli does where its output is no terminal: strings as they are, the
//! elements of an array in a line each.
//!
//! The reply is parsed where it lies in the connection's ring, so that one of any size
//! goes to standard output without a buffer.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use arca_guest::net::TcpStream;
use arca_guest::process::{ExitCode, exit};
use arca_guest::stdio::stdout;
use arca_guest::{args, eprintln};

arca_guest::entry!(main);

/// Deepest array in an array that is followed.
const DEEPEST: usize = 32;

fn main() -> Result<(), String> {
    let args: Vec<_> = args().skip(1).collect();
    let port = args.get(1).and_then(|port| port.parse::<u16>().ok());
    let (Some(port), [host, _, command @ ..]) = (port, &args[..]) else {
        eprintln!("usage: redis-cli HOST PORT COMMAND...");
        exit(ExitCode(2));
    };
    if command.is_empty() {
        eprintln!("usage: redis-cli HOST PORT COMMAND...");
        exit(ExitCode(2));
    }
    let stream = TcpStream::connect((*host, port));
    let mut stream = stream.map_err(|error| format!("connect to {host}:{port}: {error}"))?;
    let sent = stream.write_all(request(command).as_bytes());
    sent.map_err(|error| format!("send the command: {error}"))?;
    reply(&mut stream, 0)?;
    stdout().flush().map_err(output)
}

/// A command, as an array of strings that say their lengths.
fn request(command: &[&str]) -> String {
    let mut request = format!("*{}\r\n", command.len());
    for word in command {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    request
}

/// Receives a reply and prints it.
fn reply(stream: &mut TcpStream, depth: usize) -> Result<(), String> {
    let line = stream.next_line().map_err(receive)?;
    let line = line.ok_or("the server has ended the connection")?;
    let kind = line.chars().next();
    let rest = line.get(1..).unwrap_or_default();
    let count = || {
        let count = rest.parse::<i64>();
        count.map_err(|_| format!("the server sent a length that is none: {line}"))
    };
    match kind {
        Some('+' | ':') => print(&[rest.as_bytes(), b"\n"].concat()),
        // Redis's own sets an error off so.
        Some('-') => print(&[rest.as_bytes(), b"\n\n"].concat()),
        Some('$') => match count()? {
            // There is no such string.
            ..0 => print(b"\n"),
            len => string(stream, len as u64),
        },
        Some('*') if depth < DEEPEST => match count()? {
            // An empty array is a line, too, and so is none.
            ..1 => print(b"\n"),
            count => (0..count).try_for_each(|_| reply(stream, depth + 1)),
        },
        _ => Err(format!("the server sent what is no reply: {line}")),
    }
}

/// Prints a string of so many bytes, which a line end follows.
fn string(stream: &mut TcpStream, len: u64) -> Result<(), String> {
    let mut left = len;
    while left > 0 {
        let bytes = stream.fill_buf().map_err(receive)?;
        if bytes.is_empty() {
            return Err("the server has ended the connection within a string".into());
        }
        let piece = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        print(&bytes[..piece])?;
        stream.consume(piece);
        left -= piece as u64;
    }
    stream.read_exact(&mut [0; 2]).map_err(receive)?;
    print(b"\n")
}

fn print(bytes: &[u8]) -> Result<(), String> {
    stdout().write_all(bytes).map_err(output)
}

fn output(error: arca_guest::stdio::Error) -> String {
    format!("standard output: {error}")
}

fn receive(error: arca_guest::net::Error) -> String {
    format!("the reply: {error}")
}
