//! Connecting by name, against a hosts file of the test's own.

use arca_tests::guest::deadline;
use arca_tests::local::{Kept, LocalGuest, free_port};
use arca_tests::oracle::{Actor, GuestActor};
use arca_tests::skip;
use arca_vmm::Output;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread;

/// The names that there are.
const HOSTS: &str = "\
127.0.0.1 localhost
::1       localhost
127.0.0.2 several.arca.test
127.0.0.3 several.arca.test
127.0.0.4 several.arca.test
::1       both.arca.test
127.0.0.1 both.arca.test
";

/// Puts a file in the place of another, for this thread and those it starts.
fn replace(place: &str, folder: &Path, content: &str) -> nix::Result<()> {
    let file = folder.join(place.replace('/', "_"));
    fs::write(&file, content).expect("a temporary file");
    let none = None::<&str>;
    mount(Some(&file), place, none, MsFlags::MS_BIND, none)
}

/// Runs a test in a thread that has a file system view of its own, in which the
/// names are those of [`HOSTS`] and there is no name server. A guest that it
/// starts has the same.
fn with_hosts(test: fn()) {
    let result = thread::spawn(move || {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let none = None::<&str>;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        let prepared = unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| mount(none, "/", none, private, none))
            .and_then(|()| replace("/etc/hosts", folder.path(), HOSTS))
            .and_then(|()| replace("/etc/resolv.conf", folder.path(), ""));
        match prepared {
            Ok(()) => test(),
            Err(errno) => skip(&format!("no hosts file of the test's own: {errno}")),
        }
    });
    if let Err(panic) = result.join() {
        std::panic::resume_unwind(panic);
    }
}

fn listen(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// Connects to the name, and checks that it is the listener who was reached.
#[track_caller]
fn reach(guest: &mut GuestActor, name: &str, listener: &TcpListener, address: SocketAddr) {
    let made = guest.make(&format!("connect-name s {name} {}", address.port()));
    let (_stream, peer) = listener.accept().expect("the guest connects");
    assert_eq!(made, format!("{peer} {address}"), "{name}");
    guest.expect("close s", "ok");
}

#[test]
fn names_and_addresses_are_reached() {
    with_hosts(|| {
        let (four, address4) = listen("127.0.0.1:0");
        let (six, address6) = listen("[::1]:0");
        for tasks in [false, true] {
            let mut guest = GuestActor::start(1, tasks);
            // Only one of the addresses of these names has a listener.
            reach(&mut guest, "localhost", &four, address4);
            reach(&mut guest, "localhost", &six, address6);
            reach(&mut guest, "both.arca.test", &four, address4);
            reach(&mut guest, "both.arca.test", &six, address6);
            reach(&mut guest, "127.0.0.1", &four, address4);
            reach(&mut guest, "::1", &six, address6);
            guest.settle();
        }
    });
}

#[test]
fn every_address_of_a_name_is_tried() {
    with_hosts(|| {
        for last in [2, 3, 4] {
            let (listener, address) = listen(&format!("127.0.0.{last}:0"));
            let mut guest = GuestActor::start(1, false);
            reach(&mut guest, "several.arca.test", &listener, address);
            // Not the port of that one: where a child has a copy of it, closing it
            // does not make it refuse.
            let refused = format!("connect-name s several.arca.test {}", free_port());
            guest.expect(&refused, "error ECONNREFUSED");
            guest.settle();
        }
    });
}

#[test]
fn an_unknown_name_is_said() {
    with_hosts(|| {
        for tasks in [false, true] {
            let mut guest = GuestActor::start(1, tasks);
            guest.expect("connect-name s no-such-name.arca.test 80", "error ENOENT");
            guest.expect("connect-name s x..y 80", "error ENOENT");
        }
        let errors = Kept::default();
        let url = "http://no-such-name.arca.test/";
        let guest = LocalGuest::start_with("http-get", &[url], |config| {
            config.stderr = Output::Writer(Box::new(errors.clone()));
            config.timeout = Some(deadline());
        });
        assert_eq!(guest.finish().0.code(), 1);
        let said = String::from_utf8(errors.bytes()).expect("text");
        assert!(said.contains("no such name"), "{said}");
    });
}
