//! The fixed messages byte for byte, computed by hand from the tables of
//! PROTOCOL.md, and every message through every malformed length.

use super::*;
use crate::errno::Errno;
use crate::pipe::PipePlace;
use crate::protocol::frame::{Frame, MAX_FRAME, MAX_PAYLOAD};
use alloc::vec;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddr};

fn wire(frame: &Frame) -> Vec<u8> {
    let mut buffer = [0; MAX_FRAME];
    let len = frame.encode(&mut buffer).expect("large enough");
    buffer[..len].to_vec()
}

fn endpoint() -> Endpoint {
    Endpoint {
        ip: Ipv4Addr::new(127, 0, 0, 1),
        port: 8000,
    }
}

fn ready(listener_id: u32) -> ConnectionReady {
    ConnectionReady {
        listener_id,
        connection_id: 0x0102_0304,
        pipe: PipePlace {
            shm_offset: 0x2_0000,
            ring_size: 65_512,
        },
    }
}

fn v6() -> Address {
    let ip = core::net::Ipv6Addr::LOCALHOST;
    Address(core::net::SocketAddrV6::new(ip, 443, 7, 9).into())
}

#[test]
fn requests_of_the_draft_byte_for_byte() {
    let cases: [(Request, u32, &[u8]); 3] = [
        (
            Request::Listen(endpoint()),
            1,
            &[1, 6, 0, 1, 0, 0, 0, 127, 0, 0, 1, 0x40, 0x1F],
        ),
        (
            Request::Connect(endpoint()),
            0x0A0B_0C0D,
            &[3, 6, 0, 0x0D, 0x0C, 0x0B, 0x0A, 127, 0, 0, 1, 0x40, 0x1F],
        ),
        (
            Request::Accept { listener_id: 5 },
            0,
            &[8, 4, 0, 0, 0, 0, 0, 5, 0, 0, 0],
        ),
    ];
    for (request, id, bytes) in cases {
        assert_eq!(wire(&request.to_frame(id)), bytes);
        let frame = Frame::decode(bytes).expect("valid").expect("whole");
        assert_eq!(frame.request_id, id);
        assert_eq!(Request::from_frame(&frame), Ok(request));
    }
}

#[test]
fn replies_of_the_draft_byte_for_byte() {
    let connect_ok = [
        4, 24, 0, 2, 0, 0, 0, // header
        0, 0, 0, 0, // listener_id
        4, 3, 2, 1, // connection_id
        0, 0, 2, 0, 0, 0, 0, 0, // shm_offset
        0xE8, 0xFF, 0, 0, 0, 0, 0, 0, // ring_size
    ];
    let incoming = [
        5, 24, 0, 3, 0, 0, 0, // header
        7, 0, 0, 0, // listener_id
        4, 3, 2, 1, // connection_id
        0, 0, 2, 0, 0, 0, 0, 0, // shm_offset
        0xE8, 0xFF, 0, 0, 0, 0, 0, 0, // ring_size
    ];
    let cases: [(Reply, u32, &[u8]); 6] = [
        (
            Reply::ListenOk {
                listener_id: 0x0403_0201,
            },
            1,
            &[2, 4, 0, 1, 0, 0, 0, 1, 2, 3, 4],
        ),
        (Reply::ConnectOk(ready(0)), 2, &connect_ok),
        (Reply::IncomingConnection(ready(7)), 3, &incoming),
        (
            Reply::ListenErr(Errno::EADDRINUSE),
            4,
            &[6, 4, 0, 4, 0, 0, 0, 98, 0, 0, 0],
        ),
        (
            Reply::ConnectErr(Errno::ECONNREFUSED),
            5,
            &[7, 4, 0, 5, 0, 0, 0, 111, 0, 0, 0],
        ),
        (
            Reply::AcceptErr(Errno::EBADF),
            u32::MAX,
            &[9, 4, 0, 255, 255, 255, 255, 9, 0, 0, 0],
        ),
    ];
    for (reply, id, bytes) in cases {
        assert_eq!(wire(&reply.to_frame(id)), bytes);
        let frame = Frame::decode(bytes).expect("valid").expect("whole");
        assert_eq!(frame.request_id, id);
        assert_eq!(Reply::from_frame(&frame), Ok(reply));
    }
}

fn all_requests() -> Vec<Request> {
    let name = Name::new("localhost").expect("short");
    let target = Target::Connection(3);
    let option = SocketOption::KeepIdle as u8;
    vec![
        Request::Listen(endpoint()),
        Request::Connect(endpoint()),
        Request::Accept { listener_id: 1 },
        Request::Hello {
            version: VERSION,
            features: feature::ALL,
        },
        Request::CloseListener { listener_id: 1 },
        Request::Cancel { request_id: 9 },
        Request::ListenAt {
            address: v6(),
            backlog: 128,
        },
        Request::ConnectTo(endpoint().into()),
        Request::ConnectName { port: 80, name },
        Request::AcceptFrom { listener_id: 4 },
        Request::Addresses(Target::Listener(1)),
        Request::SetOption {
            target,
            option,
            value: 30,
        },
        Request::GetOption { target, option },
        Request::Resolve { port: 80, name },
        Request::AwaitSignal { signals: 1 << 15 },
    ]
}

fn all_replies() -> Vec<Reply> {
    let (local, peer) = (v6(), Address(SocketAddr::from(endpoint())));
    vec![
        Reply::ListenOk { listener_id: 1 },
        Reply::ConnectOk(ready(0)),
        Reply::IncomingConnection(ready(1)),
        Reply::ListenErr(Errno::EACCES),
        Reply::ConnectErr(Errno::ETIMEDOUT),
        Reply::AcceptErr(Errno::EBADF),
        Reply::HelloOk {
            version: VERSION,
            features: feature::NOTIFY,
        },
        Reply::Unsupported { message_type: 200 },
        Reply::Done,
        Reply::Failed(Errno::ENOPROTOOPT),
        Reply::Listening {
            listener_id: 2,
            local,
        },
        Reply::Connected {
            ready: ready(0),
            local,
            peer,
        },
        Reply::Accepted {
            ready: ready(2),
            local,
            peer,
        },
        Reply::AddressesOk { local, peer: None },
        Reply::OptionValue(u64::MAX),
        Reply::Resolved {
            first: peer,
            other: Some(local),
        },
        Reply::SignalCame { signal: 15 },
    ]
}

/// A frame like `frame` with a payload of `len` bytes, cut or filled with ones.
fn resized(frame: &Frame, len: usize) -> Frame {
    Frame::build(frame.message_type, frame.request_id, |buffer| {
        buffer.fill(1);
        let keep = len.min(frame.payload().len());
        buffer[..keep].copy_from_slice(&frame.payload()[..keep]);
        len
    })
}

#[test]
fn every_message_survives_the_trip_and_no_other_length_does() {
    for request in all_requests() {
        let frame = request.to_frame(7);
        assert_eq!(Request::from_frame(&frame), Ok(request));
        let is_name = matches!(
            request,
            Request::ConnectName { .. } | Request::Resolve { .. }
        );
        for len in (0..=MAX_PAYLOAD).filter(|&len| len != frame.payload().len()) {
            let valid = is_name && (3..=2 + MAX_NAME).contains(&len);
            let result = Request::from_frame(&resized(&frame, len));
            assert_eq!(result.is_ok(), valid, "{request:?} with {len} bytes");
        }
    }
    for reply in all_replies() {
        let frame = reply.to_frame(7);
        assert_eq!(Reply::from_frame(&frame), Ok(reply));
        for len in (0..=MAX_PAYLOAD).filter(|&len| len != frame.payload().len()) {
            let result = Reply::from_frame(&resized(&frame, len));
            assert!(result.is_err(), "{reply:?} with {len} bytes");
        }
    }
}

#[test]
fn unknown_types_and_meaningless_fields_are_errors() {
    for message_type in 0..=u8::MAX {
        let frame = Frame::build(message_type, 1, |_| 0);
        let known = all_requests().iter().any(|r| r.code() == message_type);
        let unknown = Err(MessageError::UnknownType(message_type));
        assert_eq!(
            Request::from_frame(&frame) == unknown,
            !known,
            "{message_type}"
        );
    }
    let bad_family = Frame::build(code::CONNECT_TO, 1, |buffer| {
        buffer[0] = 5;
        ADDRESS_LEN
    });
    assert!(matches!(
        Request::from_frame(&bad_family),
        Err(MessageError::BadField { found: 5, .. })
    ));
}

#[test]
fn a_name_is_printed_as_a_string() {
    let name = Name::new("host").expect("a name");
    assert_eq!(alloc::format!("{name:?}"), "\"host\"");
}

/// The rows of the first table below `heading` in PROTOCOL.md, by their cells.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let text = include_str!("../../../../PROTOCOL.md");
    let (_, section) = text.split_once(heading).expect("the heading");
    let table = section
        .lines()
        .skip_while(|line| !line.starts_with("| "))
        .take_while(|line| line.starts_with('|'));
    let cells = |line: &'static str| line.split('|').map(str::trim).collect();
    table.skip(2).map(cells).collect()
}

#[test]
fn the_specification_lists_the_same_messages() {
    let mut specified = Vec::new();
    for row in rows("\n## 4. Messages\n") {
        let code: u8 = row[1].parse().expect("a code");
        let (least, most) = row[5].split_once('–').unwrap_or((row[5], row[5]));
        let bytes = |text: &str| text.parse::<usize>().expect("a size");
        specified.push((code, row[3] == "→", bytes(least), bytes(most)));
    }
    let mut defined = Vec::new();
    for (is_request, table) in [(true, Request::TABLE), (false, Reply::TABLE)] {
        let entries = table.iter();
        defined.extend(entries.map(|m| (m.code, is_request, m.min_len, m.max_len)));
    }
    defined.sort_unstable();
    assert_eq!(defined, specified);
}

#[test]
fn the_specification_lists_the_same_options() {
    let (_, section) = include_str!("../../../../PROTOCOL.md")
        .split_once("| option | Linux | value |\n|---|---|---|\n")
        .expect("the table of options");
    let rows = section.lines().take_while(|line| line.starts_with('|'));
    let numbers = rows.map(|row| row.split('|').nth(1).expect("a cell").trim());
    let specified: Vec<u8> = numbers.map(|n| n.parse().expect("a number")).collect();
    let defined: Vec<u8> = SocketOption::ALL.iter().map(|&o| o as u8).collect();
    assert_eq!(defined, specified);
}

#[test]
fn every_message_is_in_the_lists_above() {
    let codes = |table: &[MessageInfo]| table.iter().map(|m| m.code).collect::<Vec<_>>();
    let requests: Vec<u8> = all_requests().iter().map(Request::code).collect();
    let replies: Vec<u8> = all_replies().iter().map(Reply::code).collect();
    assert_eq!(requests, codes(Request::TABLE));
    assert_eq!(replies, codes(Reply::TABLE));
}
