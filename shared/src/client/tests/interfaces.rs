//! What others' crates and `std`'s users reach for.

use super::*;
use crate::client::{Host, ToHost};
use crate::errno::ErrorKind;
use alloc::boxed::Box;
use core::fmt::Write as _;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use embedded_io::{ErrorKind as Kind, ReadReady as _, WriteReady as _};
use std::format;

/// Echoes a line in upper case, by nothing but embedded-io's traits.
fn shout<S: embedded_io::BufRead + embedded_io::Write>(stream: &mut S) -> Result<usize, S::Error> {
    let line = stream.fill_buf()?;
    let len = line.iter().position(|&byte| byte == b'\n').expect("a line") + 1;
    let shouted = line[..len].to_ascii_uppercase();
    stream.consume(len);
    stream.write_all(&shouted)?;
    stream.flush()?;
    Ok(len)
}

/// As [`shout`], by embedded-io-async's.
async fn shout_async<R, W>(read: &mut R, write: &mut W) -> Result<usize, R::Error>
where
    R: embedded_io_async::BufRead,
    W: embedded_io_async::Write<Error = R::Error>,
{
    let line = read.fill_buf().await?;
    let len = line.iter().position(|&byte| byte == b'\n').expect("a line") + 1;
    let shouted = line[..len].to_ascii_uppercase();
    read.consume(len);
    write.write_all(&shouted).await?;
    write.flush().await?;
    Ok(len)
}

fn taken(theirs: &mut BidirectionalPipe) -> std::string::String {
    let mut buffer = [0; 64];
    let len = theirs.read(&mut buffer).unwrap_or(0);
    std::string::String::from_utf8_lossy(&buffer[..len]).into_owned()
}

#[test]
fn generic_code_runs_over_streams_and_halves() {
    let Connected {
        peer,
        mut stream,
        mut theirs,
        ..
    } = connected(64);
    assert_eq!(stream.read_ready(), Ok(false));
    assert_eq!(stream.write_ready(), Ok(true));
    theirs.write(b"one\ntwo\nthree\n").expect("room");
    assert_eq!((&stream).read_ready(), Ok(true));
    assert_eq!(shout(&mut stream), Ok(4));
    assert_eq!(taken(&mut theirs), "ONE\n");
    let mut stream = stream.into_async();
    let (mut read, mut write) = stream.split();
    let shouted = peer.reactor.block_on(shout_async(&mut read, &mut write));
    assert_eq!(shouted, Ok(4));
    assert_eq!(taken(&mut theirs), "TWO\n");
    let (mut read, mut write) = stream.into_split();
    let shouted = peer.reactor.block_on(shout_async(&mut read, &mut write));
    assert_eq!(shouted, Ok(6));
    assert_eq!(taken(&mut theirs), "THREE\n");
    write.core.end.try_write(&[0; 64]).expect("room");
    assert_eq!(write.write_ready(), Ok(false));
    theirs.close_write();
    assert_eq!(read.read_ready(), Ok(true), "the end is there");
}

#[test]
fn errors_are_errors_and_have_kinds() {
    fn kind(error: impl embedded_io::Error) -> Kind {
        error.kind()
    }
    assert_eq!(kind(Error::Os(Errno::ECONNRESET)), Kind::ConnectionReset);
    assert_eq!(kind(Errno::EACCES), Kind::PermissionDenied);
    assert_eq!(kind(Error::Os(Errno::EAGAIN)), Kind::TimedOut);
    assert_eq!(kind(Error::UnexpectedEof), Kind::Other);
    assert_eq!(kind(Error::InvalidUtf8), Kind::InvalidData);
    assert_eq!(kind(Error::SessionEnded), Kind::ConnectionAborted);
    assert_eq!(Error::InvalidUtf8.kind(), ErrorKind::InvalidData);
    let boxed: Box<dyn core::error::Error> = Box::new(Error::Os(Errno::ECONNREFUSED));
    assert_eq!(format!("{boxed}"), "connection refused");
}

#[test]
fn streams_and_listeners_tell_what_they_are() {
    let Connected { stream, .. } = connected(64);
    let what = "{ local: 127.0.0.1:1000, peer: 127.0.0.2:2000, connection: 77 }";
    assert_eq!(format!("{stream:?}"), format!("TcpStream {what}"));
    let mut stream = stream.into_async();
    assert_eq!(format!("{stream:?}"), format!("AsyncTcpStream {what}"));
    let (read, write) = stream.split();
    assert_eq!(format!("{read:?}"), format!("ReadHalf {what}"));
    assert_eq!(format!("{write:?}"), format!("WriteHalf {what}"));
    let (read, write) = stream.into_split();
    assert_eq!(format!("{read:?}"), format!("OwnedReadHalf {what}"));
    assert_eq!(format!("{write:?}"), format!("OwnedWriteHalf {what}"));
}

#[test]
fn options_have_twins_for_tasks() {
    let Connected { peer, stream, .. } = connected(64);
    let stream = stream.into_async();
    let target = Target::Connection(77);
    let option = SocketOption::NoDelay as u8;
    let request = Request::GetOption { target, option };
    answer(&peer, request, Reply::OptionValue(1));
    assert_eq!(peer.reactor.block_on(stream.nodelay()), Ok(true));
    let value = 1;
    let request = Request::SetOption {
        target,
        option,
        value,
    };
    answer(&peer, request, Reply::Done);
    assert_eq!(peer.reactor.block_on(stream.set_nodelay(true)), Ok(()));
    let other = stream.try_clone();
    assert_eq!(other.peer_addr(), stream.peer_addr());
    assert_eq!(other.take_error(), None);
}

#[test]
fn formatted_text_is_written_as_a_whole() {
    let Connected {
        peer,
        mut stream,
        mut theirs,
        ..
    } = connected(64);
    peer.take_marks();
    write!(stream, "{} and {:?}", 1, "two").expect("room");
    assert_eq!(taken(&mut theirs), "1 and \"two\"");
    stream.write_str(" three").expect("room");
    assert_eq!(taken(&mut theirs), " three");
    let mut stream = stream.into_async();
    let text = std::string::String::from("four");
    peer.reactor
        .block_on(write!(stream, "{text}"))
        .expect("room");
    assert_eq!(taken(&mut theirs), "four");
    let (_read, write) = stream.split();
    peer.reactor
        .block_on(write!(write, "five {}", 5))
        .expect("room");
    assert_eq!(taken(&mut theirs), "five 5");
    theirs.close_read();
    let broken = peer.reactor.block_on(write!(stream, "six"));
    assert_eq!(broken, os(Errno::EPIPE));
    let stream = stream.into_sync();
    assert_eq!(write!(&stream, "seven"), os(Errno::EPIPE));
}

#[test]
fn lines_are_taken_from_the_ring() {
    let Connected {
        peer,
        stream,
        mut theirs,
        ..
    } = connected(64);
    // Past where the ring wraps.
    theirs.write(&[b'x'; 60]).expect("room");
    assert_eq!(stream.read(&mut [0; 60]), Ok(60));
    theirs
        .write(b"one\r\ntwo three\n\n\xff\nlast")
        .expect("room");
    theirs.close_write();
    let mut lines = stream.lines();
    let mut next = || lines.next().map(|line| line.expect("text"));
    assert_eq!(next().as_deref(), Some("one"));
    assert_eq!(next().as_deref(), Some("two three"));
    assert_eq!(next().as_deref(), Some(""));
    drop(lines);
    let stream = stream.into_async();
    let next = || peer.reactor.block_on(stream.next_line());
    assert_eq!(next(), Err(Error::InvalidUtf8));
    assert_eq!(next(), Ok(Some("last".into())));
    assert_eq!(next(), Ok(None));
}

#[test]
fn everything_is_read_to_the_end() {
    let Connected {
        peer,
        stream,
        mut theirs,
        ..
    } = connected(64);
    let (other, place) = (peer.clone(), stream.core.end.place());
    theirs.write(b"first, ").expect("room");
    peer.hal.while_parked(move || {
        theirs.write(b"then more").expect("room");
        theirs.close_write();
        other.signal(place);
    });
    let mut bytes = b"before: ".to_vec();
    assert_eq!(stream.read_to_end(&mut bytes), Ok(16));
    assert_eq!(bytes, b"before: first, then more");
    assert_eq!(stream.read_to_string(), Ok(std::string::String::new()));
    let stream = stream.into_async();
    let read = peer.reactor.block_on(stream.read_to_end(&mut bytes));
    assert_eq!(read, Ok(0));
}

#[test]
fn several_buffers_are_one_call() {
    let Connected {
        peer,
        stream,
        mut theirs,
        ..
    } = connected(64);
    peer.take_marks();
    let parts: [&[u8]; 4] = [b"one", b"", b" and ", b"two"];
    assert_eq!(stream.write_vectored(&parts), Ok(11));
    assert!(peer.was_marked(stream.core.end.place()));
    assert_eq!(taken(&mut theirs), "one and two");
    assert_eq!(stream.write_vectored(&[&[7; 60], &[8; 60]]), Ok(64));
    assert_eq!(taken(&mut theirs).len(), 64);
    theirs.write(b"abcdef").expect("room");
    let (mut a, mut b, mut c) = ([0; 2], [0; 3], [0; 9]);
    let read = stream.read_vectored(&mut [&mut a, &mut [], &mut b, &mut c]);
    assert_eq!((read, &a, &b), (Ok(6), b"ab", b"cde"));
    assert_eq!(c[0], b'f');
    assert_eq!(stream.read_vectored(&mut []), Ok(0));
    stream.set_nonblocking(true);
    assert_eq!(stream.read_vectored(&mut [&mut a]), os(Errno::EAGAIN));
    assert_eq!(stream.write_vectored(&[]), Ok(0));
    let stream = stream.into_async();
    theirs.close_write();
    let mut buffers = [&mut a[..]];
    let read = stream.read_vectored(&mut buffers);
    assert_eq!(peer.reactor.block_on(read), Ok(0));
}

#[test]
fn hosts_are_told_by_addresses_names_and_texts() {
    let v4 = SocketAddr::from(([127, 0, 0, 1], 80));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 80));
    assert_eq!(v4.to_host(), Ok(Host::Address(v4)));
    assert_eq!((Ipv4Addr::LOCALHOST, 80).to_host(), Ok(Host::Address(v4)));
    assert_eq!(([127, 0, 0, 1], 80).to_host(), Ok(Host::Address(v4)));
    assert_eq!(
        (IpAddr::from(Ipv6Addr::LOCALHOST), 80).to_host(),
        Ok(Host::Address(v6))
    );
    assert_eq!(("::1", 80).to_host(), Ok(Host::Address(v6)));
    assert_eq!("[::1]:80".to_host(), Ok(Host::Address(v6)));
    assert_eq!(("localhost", 80).to_host(), Ok(Host::Name("localhost", 80)));
    assert_eq!("localhost:80".to_host(), Ok(Host::Name("localhost", 80)));
    for bad in ["", ":80", "localhost", "localhost:", "localhost:99999"] {
        assert_eq!(bad.to_host(), os(Errno::EINVAL), "{bad:?}");
    }
}

#[test]
fn a_stream_is_copied_to_its_end() {
    let one = connected(64);
    let mut two = one.peer.connect(&one.session, 64);
    let mut theirs = one.theirs;
    theirs.write(b"what is to be copied").expect("room");
    theirs.close_write();
    let mut stream = one.stream;
    assert_eq!(crate::client::copy(&mut stream, &mut two.0), Ok(20));
    assert_eq!(taken(&mut two.1), "what is to be copied");
    assert!(!two.1.is_peer_write_closed(), "the caller's to do");
}

#[test]
fn both_directions_are_copied_and_each_end_is_handed_on() {
    let one = connected(64);
    let peer = one.peer;
    let (mut second, at_second) = peer.connect(&one.session, 64);
    let (mut first, mut at_first) = (one.stream, one.theirs);
    at_first.write(b"a request").expect("room");
    at_first.close_write();
    let ends = Arc::new(std::sync::Mutex::new((at_first, at_second)));
    let (other, there, both) = (peer.clone(), second.core.end.place(), ends.clone());
    peer.hal.while_parked(move || {
        let mut ends = both.lock().expect("not poisoned");
        assert_eq!(taken(&mut ends.1), "a request");
        assert!(ends.1.is_peer_write_closed(), "its end is handed on");
        assert!(!ends.0.is_peer_write_closed());
        ends.1.write(b"the answer").expect("room");
        ends.1.close_write();
        other.signal(there);
    });
    let copied = crate::client::copy_bidirectional(&mut first, &mut second);
    assert_eq!(copied, Ok((9, 10)));
    let mut ends = ends.lock().expect("not poisoned");
    assert_eq!(taken(&mut ends.0), "the answer");
    assert!(ends.0.is_peer_write_closed());
}
