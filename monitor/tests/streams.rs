//! Data through connections in both directions, from a peer that knows only the
//! draft.

mod common;

use common::{Session, digest, pattern, until};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

/// A service that sends back what it gets, until the end of the stream.
fn echo_service() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let mut reader = stream.try_clone().expect("a clone");
                std::io::copy(&mut reader, &mut stream).expect("an echo");
                stream.shutdown(Shutdown::Write).expect("connected");
            });
        }
    });
    address
}

#[test]
fn an_echo_comes_back_byte_for_byte() {
    let mut session = Session::start();
    let address = echo_service();
    let sent = pattern(8 << 20, 1);
    let mut stream = session.peer.connect(address).expect("connects");
    let mut got = Vec::new();
    let mut rest = &sent[..];
    let mut buffer = [0; 65536];
    until("the echo", || {
        if !rest.is_empty()
            && let Ok(len) = stream.pipe.write(rest)
        {
            rest = &rest[len..];
            if rest.is_empty() {
                stream.pipe.close_write();
            }
        }
        let over = stream.pipe.is_peer_write_closed();
        match stream.pipe.read(&mut buffer) {
            Ok(len) => got.extend_from_slice(&buffer[..len]),
            Err(_) if over => return Some(()),
            Err(_) => {}
        }
        None
    });
    assert_eq!(got.len(), sent.len());
    assert_eq!(digest(&got), digest(&sent));
    stream.close();
    session.expect_no_pipes();
    let stats = session.handle.stats();
    assert_eq!(stats.bytes_to_tcp, sent.len() as u64);
    assert_eq!(stats.bytes_from_tcp, sent.len() as u64);
    session.stop();
}

#[test]
fn a_listener_accepts_only_when_asked_and_in_order() {
    let mut session = Session::start();
    let (listener, address) = session.peer.listen_anywhere();
    let request = |session: &mut Session| {
        session
            .peer
            .send(arca_shared::protocol::message::Request::Accept {
                listener_id: listener,
            })
    };
    let first = request(&mut session);
    let second = request(&mut session);
    let mut clients: Vec<_> = (0..3u8)
        .map(|n| {
            let mut client = TcpStream::connect(address).expect("connects");
            client.write_all(&[n]).expect("writes");
            client
        })
        .collect();
    let mut streams = vec![session.peer.accepted(first), session.peer.accepted(second)];
    assert_eq!(session.peer.order.len(), 3);
    let third = request(&mut session);
    streams.push(session.peer.accepted(third));
    for (n, (stream, client)) in streams.iter_mut().zip(&mut clients).enumerate() {
        assert_eq!(stream.read_exact(1), [n as u8]);
        stream.send(&[100 + n as u8]);
        let mut byte = [0];
        client.read_exact(&mut byte).expect("reads");
        assert_eq!(byte, [100 + n as u8]);
    }
    for stream in streams {
        stream.close();
    }
    for mut client in clients {
        assert_eq!(client.read(&mut [0]).expect("an orderly end"), 0);
    }
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn arca_half_closes_and_reads_on() {
    let mut session = Session::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut stream = session.peer.connect(address).expect("connects");
    let (mut host, _) = listener.accept().expect("accepts");
    let question = pattern(300_000, 2);
    let answer = pattern(700_000, 3);
    stream.send(&question);
    stream.pipe.close_write();
    let mut got = Vec::new();
    host.read_to_end(&mut got).expect("reads");
    assert_eq!(digest(&got), digest(&question));
    let sent = answer.clone();
    let writer = thread::spawn(move || host.write_all(&sent).map(|()| drop(host)));
    let (got, errno) = stream.read_to_end();
    assert_eq!((digest(&got), errno), (digest(&answer), 0));
    writer.join().expect("no panic").expect("writes");
    stream.pipe.close_read();
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn the_host_half_closes_and_reads_on() {
    let mut session = Session::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut stream = session.peer.connect(address).expect("connects");
    let (mut host, _) = listener.accept().expect("accepts");
    let question = pattern(50_000, 4);
    host.write_all(&question).expect("writes");
    host.shutdown(Shutdown::Write).expect("connected");
    let (got, errno) = stream.read_to_end();
    assert_eq!((digest(&got), errno), (digest(&question), 0));
    let answer = pattern(1_000_000, 5);
    let reader = thread::spawn(move || {
        let mut got = Vec::new();
        host.read_to_end(&mut got).map(|_| got)
    });
    stream.send(&answer);
    stream.close();
    let got = reader.join().expect("no panic").expect("reads");
    assert_eq!(digest(&got), digest(&answer));
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn many_connections_at_once() {
    let mut session = Session::start();
    let address = echo_service();
    let mut streams: Vec<_> = (0..100)
        .map(|n| (session.peer.connect(address).expect("connects"), n))
        .collect();
    for (stream, n) in &mut streams {
        stream.send(&pattern(5000, *n));
    }
    for (stream, n) in &mut streams {
        assert_eq!(stream.read_exact(5000), pattern(5000, *n));
    }
    assert_eq!(session.handle.stats().pipes_allocated, 100);
    for (stream, _) in streams {
        stream.close();
    }
    session.expect_no_pipes();
    session.stop();
}

#[test]
fn what_was_written_before_the_guest_ended_is_delivered() {
    let mut session = Session::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut stream = session.peer.connect(address).expect("connects");
    let (mut host, _) = listener.accept().expect("accepts");
    let sent = pattern(200_000, 6);
    stream.send(&sent);
    let handle = session.handle.clone();
    handle.stop();
    let mut got = Vec::new();
    host.read_to_end(&mut got).expect("reads");
    assert_eq!(digest(&got), digest(&sent));
    assert_eq!(session.end(), arca_monitor::SessionEnd::Stopped);
    assert_eq!(session.handle.stats().pipes_allocated, 0);
}

#[test]
fn urgent_data_holds_nothing_up() {
    let mut session = Session::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut stream = session.peer.connect(address).expect("connects");
    let (mut host, _) = listener.accept().expect("accepts");
    host.write_all(b"abc").expect("writes");
    let urgent = socket2::SockRef::from(&host).send_out_of_band(b"!");
    assert_eq!(urgent.expect("writes"), 1);
    host.write_all(b"def").expect("writes");
    // As on Linux, the urgent byte is not part of the stream.
    assert_eq!(stream.read_exact(6), b"abcdef");
    stream.close();
    session.stop();
}
