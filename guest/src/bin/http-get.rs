//! `http-get URL`: fetches the URL and writes the body to standard output, byte
//! for byte.
//!
//! A status other than 2xx goes to standard error and ends the program with exit
//! code 1, and so does a body that ends before its stated length.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use arca_guest::http::{Response, Url};
use arca_guest::net;
use arca_guest::process::{ExitCode, exit};
use arca_guest::stdio::stdout;
use arca_guest::{args, eprintln};

arca_guest::entry!(main);

/// Bytes moved at a time.
const PIECE: usize = 256 << 10;

fn main() -> Result<(), String> {
    let mut args = args().skip(1);
    let (Some(text), None) = (args.next(), args.next()) else {
        eprintln!("usage: http-get URL");
        exit(ExitCode(2));
    };
    let url = Url::parse(text).map_err(|error| format!("{text}: {error}"))?;
    let stream = net::connect_host(url.host, url.port)
        .map_err(|error| format!("connect {}: {error}", url.host_and_port()))?;
    stream
        .write_all(url.request().as_bytes())
        .map_err(|error| format!("send the request: {error}"))?;
    let mut response = Response::receive(stream).map_err(|error| format!("{text}: {error}"))?;
    if !(200..300).contains(&response.status) {
        return Err(format!("{text}: {} {}", response.status, response.reason));
    }
    let mut buffer = alloc::vec![0; PIECE];
    loop {
        let count = response
            .read(&mut buffer)
            .map_err(|error| format!("{text}: {error}"))?;
        if count == 0 {
            break;
        }
        stdout()
            .write_all(&buffer[..count])
            .map_err(|error| format!("standard output: {error}"))?;
    }
    stdout().flush().map_err(|error| error.to_string())
}
