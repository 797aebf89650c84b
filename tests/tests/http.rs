//! `http-get`: a page through the monitor, byte for byte.

use arca_tests::data::{assert_same, noise};
use arca_tests::guest::Guest;
use arca_tests::local::free_port;
use arca_tests::web;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

#[test]
fn two_hundred_mebibytes_arrive_as_they_are() {
    let content = noise(1, 200 << 20);
    let url = format!("http://{}/file", web::serve(content.clone()));
    let ended = Guest::start(&[], "http-get", &[&url]).finish();
    ended.expect_code(0);
    assert_same(&ended.stdout, &content);
}

#[test]
fn a_status_that_is_no_success_goes_to_standard_error() {
    let url = format!("http://{}/missing", web::serve(Vec::new()));
    let ended = Guest::start(&[], "http-get", &[&url]).finish();
    ended.expect_code(1).expect_stderr("404");
    assert_eq!(ended.stdout, b"");
}

#[test]
fn a_refused_connect_says_so() {
    let url = format!("http://127.0.0.1:{}/", free_port());
    let ended = Guest::start(&[], "http-get", &[&url]).finish();
    ended.expect_code(1).expect_stderr("connection refused");
}

/// A server that answers every connection with exactly these bytes.
fn serve_raw(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                request.push(byte[0]);
            }
            let _ = stream.write_all(answer);
        }
    });
    format!("http://{address}/")
}

#[test]
fn a_body_that_is_too_short_is_an_error() {
    let url = serve_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort");
    Guest::start(&[], "http-get", &[&url])
        .finish()
        .expect_code(1);
}

#[test]
fn a_chunked_body_arrives_whole() {
    let url = serve_raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n",
    );
    let ended = Guest::start(&[], "http-get", &[&url]).finish();
    ended.expect_code(0);
    assert_eq!(ended.stdout, b"hello world");
}
