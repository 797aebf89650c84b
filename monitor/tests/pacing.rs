//! By which congestion control the monitor's sockets send.

mod common;

use arca_monitor::MonitorConfig;
use arca_shared::protocol::message::{Address, Reply, Request};
use common::{Session, until};
use nix::sys::socket::{SockaddrStorage, getpeername, getsockname, getsockopt, sockopt};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::BorrowedFd;

/// The congestion control of this process's socket between these two addresses.
fn congestion_between(local: SocketAddr, peer: SocketAddr) -> String {
    for entry in std::fs::read_dir("/proc/self/fd").expect("proc") {
        let name = entry.expect("an entry").file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        // SAFETY: whatever it is, it is only asked for its names; one that is closed
        // meanwhile has none.
        let fd = unsafe { BorrowedFd::borrow_raw(number.expect("a number")) };
        let name = |name: nix::Result<SockaddrStorage>| {
            let name = name.ok()?;
            let v4 = name.as_sockaddr_in().copied().map(SocketAddr::from);
            let v6 = || name.as_sockaddr_in6().copied().map(SocketAddr::from);
            let mut address = v4.or_else(v6)?;
            address.set_ip(address.ip().to_canonical());
            Some(address)
        };
        let raw = std::os::fd::AsRawFd::as_raw_fd(&fd);
        if name(getsockname(raw)) == Some(local) && name(getpeername(raw)) == Some(peer) {
            let name = getsockopt(&fd, sockopt::TcpCongestion).expect("TCP");
            return name.to_string_lossy().trim_end_matches('\0').to_owned();
        }
    }
    panic!("no socket from {local} to {peer}");
}

/// A session that may connect and listen anywhere.
fn anywhere() -> Session {
    let mut config = MonitorConfig::default();
    let any = || vec!["*".parse().expect("a rule")];
    config.policy.allow_connect = any();
    config.policy.allow_listen = any();
    Session::with(config, common::ARENA)
}

/// An address of this host's that is none of loopback, if it has one: what it would send from.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[test]
fn a_connect_within_the_host_is_not_paced() {
    let mut session = anywhere();
    let loopback = ["127.0.0.1", "127.0.0.9", "::1"].map(|ip| ip.parse().expect("an address"));
    for ip in loopback.into_iter().chain(own_address()) {
        let service = TcpListener::bind((ip, 0)).expect("a port");
        let address = service.local_addr().expect("bound");
        let mut requests = vec![Request::ConnectTo(Address(address))];
        if matches!(ip, IpAddr::V4(v4) if v4.is_loopback()) {
            // The draft's, whose reply has no addresses: nobody asks the kernel for them.
            requests.push(Request::Connect(common::endpoint(address)));
        }
        for request in requests {
            let reply = session.peer.ask(request);
            let (Reply::Connected { ready, .. } | Reply::ConnectOk(ready)) = reply else {
                panic!("{reply:?}");
            };
            let (accepted, local) = service.accept().expect("it connects");
            assert_eq!(congestion_between(local, address), "reno", "{request:?}");
            session.peer.join(&ready).close();
            drop(accepted);
        }
    }
    session.stop();
}

#[test]
fn what_a_listener_accepts_from_the_host_is_not_paced() {
    // A wildcard address stays one, and what comes in there may be from anywhere.
    let mut session = anywhere();
    for (bound, reached) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("[::1]:0", "::1"),
        ("0.0.0.0:0", "127.0.0.1"),
        ("[::]:0", "::1"),
        ("[::]:0", "127.0.0.1"),
    ] {
        let listen = Request::ListenAt {
            address: Address(bound.parse().expect("an address")),
            backlog: 0,
        };
        let Reply::Listening { listener_id, local } = session.peer.ask(listen) else {
            panic!("no listener at {bound}");
        };
        let ip: IpAddr = reached.parse().expect("an address");
        for accept in [
            Request::Accept { listener_id },
            Request::AcceptFrom { listener_id },
        ] {
            let client = TcpStream::connect((ip, local.0.port())).expect("it listens");
            let reply = session.peer.ask(accept);
            let (Reply::Accepted { ready, .. } | Reply::IncomingConnection(ready)) = reply else {
                panic!("{reply:?}");
            };
            let here = client.peer_addr().expect("connected");
            let there = client.local_addr().expect("connected");
            assert_eq!(
                congestion_between(here, there),
                "reno",
                "{bound} {accept:?}"
            );
            session.peer.join(&ready).close();
        }
        let close = Request::CloseListener { listener_id };
        let id = session.peer.send(close);
        until("the close", || session.peer.try_reply(id));
    }
    session.stop();
}
