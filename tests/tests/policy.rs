//! What a guest may reach: loopback unless the user says more, and the log says
//! which option would allow what was denied.

use arca_tests::guest::{Ended, Guest, image, vmm};
use arca_tests::local::free_port;
use arca_tests::{service, skip};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::Command;

fn get(options: &[&str], url: &str) -> Ended {
    Guest::start(options, "http-get", &[url]).finish()
}

#[test]
fn connecting_anywhere_but_to_loopback_is_denied() {
    // Nobody is asked there: the addresses are for documentation (RFC 5737).
    for (host, named) in [
        ("192.0.2.1", "192.0.2.1:81"),
        ("[2001:db8::1]", "[2001:db8::1]:81"),
        ("[::ffff:192.0.2.1]", "192.0.2.1:81"),
    ] {
        let ended = get(&[], &format!("http://{host}:81/"));
        ended
            .expect_code(1)
            .expect_stderr("permission denied by the host");
        ended.expect_stderr(&format!("--allow-connect {named} would allow it"));
    }
    // The option that was named is one.
    let ended = get(&["--allow-connect", "192.0.2.1:82"], "http://192.0.2.1:81/");
    ended
        .expect_code(1)
        .expect_stderr("permission denied by the host");
}

#[test]
fn what_the_kernel_denies_is_not_said_to_be_policy() {
    // A port for which this user would need a capability that it does not have.
    let lowest = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let lowest = lowest.ok().and_then(|port| port.trim().parse::<u16>().ok());
    if lowest.is_none_or(|lowest| lowest < 2) {
        skip("any user may listen on any port here");
        return;
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-net_bind_service"]);
    command.arg(vmm()).arg(image("echo-server")).arg("1");
    let ended = Guest::spawn(command).finish();
    if ended.stderr.contains("setpriv: ") {
        skip(&format!("setpriv: {}", ended.stderr.trim()));
        return;
    }
    ended
        .expect_code(1)
        .expect_stderr("permission denied by the host");
    ended.expect_stderr("listening on 127.0.0.1:1 is denied by the host's kernel");
    assert!(!ended.stderr.contains("--allow-"), "{}", ended.stderr);
}

#[test]
fn no_address_is_this_host() {
    let port = free_port();
    let ended = get(&[], &format!("http://0.0.0.0:{port}/"));
    ended.expect_code(1).expect_stderr("connection refused");
}

#[test]
fn a_name_is_judged_by_its_addresses() {
    let port = free_port();
    let url = format!("http://localhost:{port}/");
    get(&[], &url).expect_stderr("connection refused");
    let ended = get(&["--no-names"], &url);
    ended
        .expect_code(1)
        .expect_stderr("permission denied by the host");
    ended.expect_stderr("--no-names");
    // A rule may name a host; it stands for the host's addresses.
    get(&["--allow-connect", "localhost:1"], &url).expect_stderr("connection refused");
    let ended = get(&["--allow-connect", "no-such-host.invalid"], &url);
    ended.expect_code(125).expect_stderr("no-such-host.invalid");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

/// A word there and back.
fn speak(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).expect("the guest listens");
    stream.write_all(b"hello").expect("connected");
    let mut word = [0; 5];
    stream.read_exact(&mut word).expect("an echo");
    assert_eq!(&word, b"hello");
}

#[test]
fn listening_anywhere_but_on_loopback_is_denied_or_narrowed() {
    let ended = Guest::start(&[], "echo-server", &["83", "192.0.2.1"]).finish();
    ended
        .expect_code(1)
        .expect_stderr("permission denied by the host");
    ended.expect_stderr("--allow-listen 192.0.2.1:83 would allow it");
    let guest = Guest::start(&[], "echo-server", &["0", "0.0.0.0"]);
    guest.wait_for("listening on 0.0.0.0:0 is narrowed to 127.0.0.1:0");
    assert_eq!(guest.address().ip(), Ipv4Addr::LOCALHOST);
}

#[test]
fn an_option_widens_where_it_may_listen() {
    let guest = Guest::start(&["--allow-listen", "any"], "echo-server", &["0", "0.0.0.0"]);
    let address = guest.address();
    assert!(address.ip().is_unspecified(), "{address}");
    speak((Ipv4Addr::LOCALHOST, address.port()).into());
    // Allowed, and no address of this host.
    let options = ["--allow-listen", "192.0.2.0/24"];
    let ended = Guest::start(&options, "echo-server", &["0", "192.0.2.1"]).finish();
    ended.expect_code(1);
    assert!(
        !ended.stderr.contains("permission denied by the host"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_rule_for_one_family_opens_no_other() {
    // No port that the kernel chooses: another test's IPv4 listener may have its number.
    let port = free_port();
    let place = [&*port.to_string(), "::"];
    let guest = Guest::start(&["--allow-listen", "::/0"], "echo-server", &place);
    guest.wait_for(&format!(
        "listening on [::]:{port} is without IPv4; --allow-listen 0.0.0.0:{port} would"
    ));
    assert_eq!(guest.address().port(), port);
    speak((Ipv6Addr::LOCALHOST, port).into());
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(drop);
    let refused = refused.map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
    // With both, both.
    let options = ["--allow-listen", "::/0", "--allow-listen", "0.0.0.0:0"];
    let guest = Guest::start(&options, "echo-server", &["0", "::"]);
    let port = guest.address().port();
    speak((Ipv6Addr::LOCALHOST, port).into());
    speak((Ipv4Addr::LOCALHOST, port).into());
}

#[test]
fn an_ipv4_rule_written_as_ipv6_is_one() {
    // Allowed, and no address of this host.
    for rule in ["::ffff:192.0.2.0/120", "[::ffff:192.0.2.1]:83"] {
        let options = ["--allow-listen", rule];
        for address in ["192.0.2.1", "::ffff:192.0.2.1"] {
            let ended = Guest::start(&options, "echo-server", &["83", address]).finish();
            ended.expect_code(1);
            let denied = ended.stderr.contains("permission denied by the host");
            assert!(!denied, "{rule} {address}: {}", ended.stderr);
        }
    }
}

#[test]
fn a_guest_without_names_asks_no_name_server_itself() {
    let ended = get(&["--no-names"], "http://127.0.0.53:53/");
    ended
        .expect_code(1)
        .expect_stderr("--allow-connect 127.0.0.53:53 would allow it");
    let ended = get(&[], "http://127.0.0.53:853/");
    assert!(!ended.stderr.contains("policy"), "{}", ended.stderr);
}

#[test]
fn a_published_port_is_where_the_user_says_and_nowhere_else() {
    let host: SocketAddr = (Ipv4Addr::new(127, 0, 0, 7), free_port()).into();
    let publish = format!("{host}=7000");
    let guest = Guest::start(
        &["--publish", &publish],
        "echo-server",
        &["7000", "0.0.0.0"],
    );
    guest.wait_for(&format!("the guest's port 7000 is published at {host}"));
    speak(host);
    let elsewhere = SocketAddr::from((Ipv4Addr::LOCALHOST, host.port()));
    assert!(TcpStream::connect(elsewhere).is_err());
    // Not without an address.
    let port = free_port().to_string();
    let ended = Guest::start(&["--publish", &port], "hello", &[]).finish();
    ended.expect_code(125).expect_stderr("--publish");
}

#[test]
fn a_denied_request_harms_nothing_else() {
    let (service, _) = service::echo();
    let options = ["--limit-connections", "3", "--no-names"];
    let port = service.port().to_string();
    let ended = Guest::start(&options, "hostile", &["hoard", "0", "1", &port]).finish();
    ended.expect_code(0);
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(text.starts_with("connections: 3,"), "{text}");
}
