//! Options of sockets and listeners.

mod common;

use arca_shared::errno::Errno;
use arca_shared::protocol::message::{Reply, Request, SocketOption, Target};
use common::{Session, service};
use std::io::Read;
use std::net::TcpStream;

#[test]
fn options_are_set_and_read_back() {
    let mut session = Session::start();
    let (_service, address) = service();
    let stream = session.peer.connect(address).expect("connects");
    let target = Target::Connection(stream.id);
    for (option, value) in [
        (SocketOption::NoDelay, 1),
        (SocketOption::KeepAlive, 1),
        (SocketOption::KeepIdle, 30),
        (SocketOption::KeepInterval, 5),
        (SocketOption::KeepCount, 3),
        (SocketOption::Ttl, 42),
        (SocketOption::Linger, 6),
        (SocketOption::UserTimeout, 1500),
        (SocketOption::UserTimeout, 0),
    ] {
        let number = option as u8;
        let set = Request::SetOption {
            target,
            option: number,
            value,
        };
        assert_eq!(session.peer.ask(set), Reply::Done, "{option:?}");
        let get = Request::GetOption {
            target,
            option: number,
        };
        assert_eq!(
            session.peer.ask(get),
            Reply::OptionValue(value),
            "{option:?}"
        );
    }
    let get = |option| Request::GetOption { target, option };
    assert_eq!(
        session.peer.ask(get(SocketOption::Error as u8)),
        Reply::OptionValue(0)
    );
    let set = Request::SetOption {
        target,
        option: SocketOption::Error as u8,
        value: 0,
    };
    assert_eq!(session.peer.ask(set), Reply::Failed(Errno::ENOPROTOOPT));
    let set = Request::SetOption {
        target,
        option: SocketOption::Ttl as u8,
        value: 1 << 40,
    };
    assert_eq!(session.peer.ask(set), Reply::Failed(Errno::EINVAL));
    let set = Request::SetOption {
        target,
        option: SocketOption::UserTimeout as u8,
        value: 1 << 31,
    };
    assert_eq!(session.peer.ask(set), Reply::Failed(Errno::EINVAL));
    stream.close();
    session.stop();
}

#[test]
fn an_option_that_nobody_knows_is_an_error_and_no_more() {
    let mut session = Session::start();
    let (listener_id, _) = session.peer.listen_anywhere();
    let wanted = Reply::Failed(Errno::ENOPROTOOPT);
    for option in [0, 12, 255] {
        let target = Target::Listener(listener_id);
        let set = Request::SetOption {
            target,
            option,
            value: 1,
        };
        assert_eq!(session.peer.ask(set), wanted, "{option}");
        let get = Request::GetOption { target, option };
        assert_eq!(session.peer.ask(get), wanted, "{option}");
    }
    session.stop();
}

#[test]
fn a_linger_of_zero_makes_a_close_a_reset() {
    let mut session = Session::start();
    let (service, address) = service();
    let stream = session.peer.connect(address).expect("connects");
    let (mut host, _) = service.accept().expect("accepts");
    let set = Request::SetOption {
        target: Target::Connection(stream.id),
        option: SocketOption::Linger as u8,
        value: 1,
    };
    assert_eq!(session.peer.ask(set), Reply::Done);
    stream.close();
    let error = host.read(&mut [0]).expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    session.stop();
}

#[test]
fn options_of_a_listener_are_set_and_passed_on() {
    let mut session = Session::start();
    let (listener_id, local) = session.peer.listen_anywhere();
    let listener = Target::Listener(listener_id);
    let option = SocketOption::Linger as u8;
    let get = |target| Request::GetOption { target, option };
    assert_eq!(session.peer.ask(get(listener)), Reply::OptionValue(0));
    let set = Request::SetOption {
        target: listener,
        option,
        value: 6,
    };
    assert_eq!(session.peer.ask(set), Reply::Done);
    assert_eq!(session.peer.ask(get(listener)), Reply::OptionValue(6));
    let id = session.peer.send(Request::Accept { listener_id });
    let _client = TcpStream::connect(local).expect("connects");
    let stream = session.peer.accepted(id);
    let connection = Target::Connection(stream.id);
    assert_eq!(session.peer.ask(get(connection)), Reply::OptionValue(6));
    stream.close();
    session.expect_no_pipes();
    session.stop();
}
