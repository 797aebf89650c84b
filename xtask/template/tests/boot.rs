//! Boots the program and talks to it over TCP, as anybody would.

use arca_vmm::{Image, Output, StopReason, Vm, VmConfig};
use std::io::{BufRead, BufReader, Read, Write, pipe};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

const NAME: &str = "{name}";

#[test]
fn it_says_hello() {
    let image = arca_build::image(env!("CARGO_MANIFEST_DIR"), NAME).expect("it builds");
    let (said, output) = pipe().expect("a pipe");
    let mut config = VmConfig::new(Image::Path(image), NAME);
    config.args = vec!["0".into()];
    config.stdout = Output::Writer(Box::new(output));
    config.timeout = Some(Duration::from_secs(60));
    let vm = Vm::new(config).expect("it starts");
    let guest = vm.handle();
    let running = thread::spawn(move || vm.run());

    // The program says where it listens.
    let mut line = String::new();
    let read = BufReader::new(said).read_line(&mut line);
    read.expect("it says something");
    let address = line.trim().strip_prefix("listening on http://");
    let address = address.expect("where it listens");

    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("connected");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let body = format!("\r\n\r\nhello from {NAME}\n");
    assert!(answer.ends_with(&body), "{answer}");

    guest.stop(StopReason::Request);
    // As if by SIGINT.
    assert_eq!(running.join().expect("it ends").code(), 130);
}
