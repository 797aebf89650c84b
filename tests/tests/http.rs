//! `http-get`: a page through the monitor, byte for byte.

use arca_tests::data::{BLOCK, assert_same, blocks_digest, digest_of, noise, send_blocks};
use arca_tests::guest::{Guest, deadline, image, vmm};
use arca_tests::local::free_port;
use arca_tests::{has, web};
use std::fs::{self, File};
use std::io::{Read, Write, pipe};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

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

#[test]
fn a_connection_that_the_server_has_closed_meanwhile_is_made_anew() {
    // It says that it keeps the connection, and does not.
    let url = serve_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let ended = Guest::start(&[], "http-get", &[&url, &url, &url]).finish();
    ended.expect_code(0);
    assert_eq!(ended.stdout, b"okokok");
}

#[test]
fn redirections_end_somewhere() {
    let url = serve_raw(b"HTTP/1.1 302 Found\r\nLocation: ?again\r\nContent-Length: 0\r\n\r\n");
    Guest::start(&[], "http-get", &[&url])
        .finish()
        .expect_code(1)
        .expect_stderr("more than 10 redirections");
    let url = serve_raw(b"HTTP/1.1 301 Gone\r\nLocation: https://127.0.0.1/\r\n\r\n");
    Guest::start(&[], "http-get", &[&url])
        .finish()
        .expect_code(1)
        .expect_stderr("https is not supported");
}

/// A server that people have; stopped when dropped.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Starts a command that listens at `port` of loopback.
    fn start(mut command: Command, port: u16) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.stderr(Stdio::null()).spawn().expect("it starts");
        let server = Self { process, port };
        let end = Instant::now() + deadline();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(Instant::now() < end, "{command:?} does not listen");
            thread::park_timeout(Duration::from_millis(5));
        }
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.process.id() as i32);
        // In order: nginx then ends the processes that it has started.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

/// nginx, which serves what is in `folder`/www and notes each request's connection in
/// `folder`/log.
fn nginx(folder: &Path) -> Option<Server> {
    // Where it is installed, users may not have it on their path.
    if !Path::new("/usr/sbin/nginx").exists() && !has("nginx") {
        return None;
    }
    let port = free_port();
    let place = folder.display();
    let conf = format!(
        "daemon off; user root; worker_processes 1; pid {place}/pid;\n\
         events {{}}\n\
         http {{\n\
         log_format short '$connection $request_method $uri $status';\n\
         access_log {place}/log short;\n\
         client_body_temp_path {place}/1; proxy_temp_path {place}/2;\n\
         fastcgi_temp_path {place}/3; uwsgi_temp_path {place}/4; scgi_temp_path {place}/5;\n\
         server {{\n\
         listen 127.0.0.1:{port}; root {place}/www;\n\
         location /old {{ absolute_redirect off; return 301 /one; }}\n\
         location /older {{ return 302 http://127.0.0.1:{port}/old?x#y; }}\n\
         }}\n}}\n"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, conf).expect("a file");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("nginx");
    command.env("PATH", format!("{path}:/usr/sbin"));
    command.args(["-e", "stderr", "-c"]).arg(file);
    Some(Server::start(command, port))
}

#[test]
fn nginx_serves_several_urls_over_one_connection() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("www")).expect("a folder");
    let one = noise(3, 100_000);
    fs::write(folder.path().join("www/one"), &one).expect("a file");
    fs::write(folder.path().join("www/two"), "two\n").expect("a file");
    let Some(nginx) = nginx(folder.path()) else {
        return;
    };
    let urls = ["/one", "/two", "/old", "/older"].map(|path| nginx.url(path));
    let urls = urls.each_ref().map(String::as_str);
    let ended = Guest::start(&[], "http-get", &urls).finish();
    ended.expect_code(0);
    assert_same(&ended.stdout, &[&one[..], b"two\n", &one, &one].concat());
    let log = fs::read_to_string(folder.path().join("log")).expect("a log");
    let requests: Vec<_> = log.lines().filter(|line| line.contains(" GET ")).collect();
    assert_eq!(requests.len(), 7, "{log}");
    let connection = |line: &str| line.split(' ').next().map(str::to_owned);
    let first = connection(requests[0]);
    assert!(
        requests.iter().all(|line| connection(line) == first),
        "{log}"
    );
    // A head alone, of which no body follows.
    let url = nginx.url("/one");
    let ended = Guest::start(&[], "http-get", &["--head", &url, &nginx.url("/old")]).finish();
    ended.expect_code(0);
    let heads = String::from_utf8(ended.stdout).expect("text");
    assert_eq!(heads.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{heads}");
    assert_eq!(heads.matches("Content-Length: 100000\r\n").count(), 2);
    let log = fs::read_to_string(folder.path().join("log")).expect("a log");
    assert_eq!(log.matches(" HEAD /one 200").count(), 2, "{log}");
}

#[test]
fn a_large_file_of_nginx_arrives_byte_for_byte() {
    let set = std::env::var("ARCA_HTTP_MEBIBYTES").ok();
    let blocks = set.and_then(|set| set.parse().ok()).unwrap_or(64);
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("www")).expect("a folder");
    let mut file = File::create(folder.path().join("www/large")).expect("a file");
    send_blocks(&mut file, 77, blocks).expect("room on the disk");
    assert_eq!(
        file.metadata().expect("a file").len(),
        blocks * BLOCK as u64
    );
    let Some(nginx) = nginx(folder.path()) else {
        return;
    };
    let (mut said, output) = pipe().expect("a pipe");
    let mut command = Command::new(vmm());
    command.arg(image("http-get")).arg(nginx.url("/large"));
    let guest = Guest::spawn_to(command, output.into());
    let got = digest_of(&mut said).expect("a pipe");
    guest.finish().expect_code(0);
    assert_eq!(got, blocks_digest(77, blocks));
}

#[test]
fn the_server_of_python_ends_a_body_with_the_connection() {
    if !has("python3") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let content = noise(4, 3_000_000);
    fs::write(folder.path().join("file"), &content).expect("a file");
    let port = free_port();
    let mut command = Command::new("python3");
    command.args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"]);
    command.arg(folder.path()).arg(port.to_string());
    let python = Server::start(command, port);
    let url = python.url("/file");
    let ended = Guest::start(&[], "http-get", &[&url, &url]).finish();
    ended.expect_code(0);
    assert_same(&ended.stdout, &content.repeat(2));
    // A list of what is there.
    let ended = Guest::start(&[], "http-get", &[&python.url("/")]).finish();
    ended.expect_code(0);
    assert!(String::from_utf8_lossy(&ended.stdout).contains("href=\"file\""));
}
