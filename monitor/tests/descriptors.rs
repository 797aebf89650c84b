//! A host that is out of descriptors. The limit is the whole process's, so this
//! is the only test of its binary.

mod common;

use arca_shared::errno::Errno;
use arca_shared::protocol::message::Request;
use common::{Session, until};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc").count()
}

#[test]
fn a_shortage_neither_spins_nor_loses_an_accept_and_nothing_stays_open() {
    let before = open_descriptors();
    shortage();
    assert_eq!(open_descriptors(), before);
}

fn shortage() {
    let mut session = Session::start();
    session.peer.ring();
    let service = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = service.local_addr().expect("an address");
    let listen = Request::ListenAt {
        address: arca_shared::protocol::message::Address(
            "127.0.0.1:0".parse().expect("an address"),
        ),
        backlog: 0,
    };
    let id = session.peer.send(listen);
    session.peer.notify_control();
    let arca_shared::protocol::message::Reply::Listening { listener_id, local } =
        session.peer.reply(id)
    else {
        panic!("no listener");
    };
    let waiting = session.peer.send(Request::Accept { listener_id });
    session.peer.notify_control();
    let frames = session.handle.stats().frames_in;
    until("the accept to wait", || {
        (session.handle.stats().frames_in >= frames.max(2)).then_some(())
    });

    // The client's socket is the last descriptor there is.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    let next = service.try_clone().expect("a descriptor");
    let limit = std::os::fd::AsRawFd::as_raw_fd(&next) as u64 + 1;
    drop(next);
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard).expect("lower is allowed");
    let mut client = TcpStream::connect(local.0).expect("connects");
    client.write_all(b"patience").expect("writes");
    // It tries again and again, and takes its time: ten tries are a second's.
    let (turns, since) = (session.handle.stats().epoll_turns, Instant::now());
    until("the eleventh turn", || {
        (session.handle.stats().epoll_turns > turns + 10).then_some(())
    });
    let took = since.elapsed();
    assert!(
        took > Duration::from_millis(450),
        "eleven turns in {took:?}"
    );
    assert_eq!(session.peer.try_reply(waiting), None);
    let connect = session
        .peer
        .send(Request::Connect(common::endpoint(address)));
    session.peer.notify_control();
    let reply = session.peer.reply(connect);
    assert_eq!(
        reply,
        arca_shared::protocol::message::Reply::ConnectErr(Errno::EMFILE)
    );

    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("what it was");
    let mut stream = session.peer.accepted(waiting);
    assert_eq!(stream.read_exact(8), b"patience");
    session.stop();
}
