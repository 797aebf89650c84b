//! `interfaces ADDRESS`: checks the interfaces by which others' crates reach this system,
//! with an echo service at ADDRESS. `interfaces signals`: says which signals come, and
//! ends with the first SIGTERM; with `lasting` it does not. `interfaces lines`: copies
//! lines, and gives each read up and begins it anew while it waits. `interfaces relay
//! TARGET`: relays a connection to TARGET and says how much went each way.
//!
//! Prints what it has checked, and exits 0; 1 if something was not as it should be.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use arca_guest::edge_nal::{self, TcpAccept, TcpBind};
use arca_guest::embedded_io_async::{Read, Write};
use arca_guest::embedded_nal_async::{self, AddrType, Dns, TcpConnect};
use arca_guest::net::{
    self, AsyncTcpStream, Error, ErrorKind, IpAddr, SocketAddr, TcpListener, TcpStream,
};
use arca_guest::process::{ExitCode, exit};
use arca_guest::signal::{self, Signal};
use arca_guest::stdio::{stdin, stdout};
use arca_guest::{
    args, block_on, eprintln, fill_random, join, println, random_seed, spawn, timeout,
};
use embassy_time::{Duration, Instant, Timer, with_timeout};

arca_guest::entry!(main);

fn check(holds: bool, what: &str) -> Result<(), String> {
    match holds {
        true => println!("ok: {what}"),
        false => return Err(format!("wrong: {what}")),
    }
    Ok(())
}

fn main() -> Result<(), String> {
    let mut args = args().skip(1);
    match (args.next(), args.next()) {
        (Some(kind @ ("signals" | "lasting")), None) => {
            block_on(signals(kind == "lasting")).map_err(|error| format!("{error}"))
        }
        (Some("relay"), Some(target)) => relay(target),
        (Some("lines"), None) => block_on(lines()).map_err(|error| format!("{error}")),
        (Some(address), None) => {
            let echo = address.parse().map_err(|error| format!("{error}"))?;
            block_on(all(echo))
        }
        _ => {
            eprintln!("usage: interfaces ADDRESS|signals|lasting|lines|relay TARGET");
            exit(ExitCode(2));
        }
    }
}

async fn all(echo: SocketAddr) -> Result<(), String> {
    let stack = net::stack();
    let echoed = through_nal(stack, echo).await;
    check(echoed == Ok(true), "embedded-nal-async connects")?;
    let echoed = through_edge(stack, echo).await;
    check(
        echoed == Ok(true),
        "edge-nal connects, splits and shuts down",
    )?;
    let served = serve_edge(stack).await;
    check(served == Ok(true), "edge-nal binds and accepts")?;
    names(stack).await?;
    time().await?;
    random()?;
    in_place(echo).await
}

/// By nothing but embedded-nal-async's traits.
async fn through_nal<S: TcpConnect>(stack: &S, echo: SocketAddr) -> Result<bool, S::Error> {
    let mut connection = stack.connect(echo).await?;
    connection.write_all(b"by nal").await?;
    connection.flush().await?;
    let mut answer = [0; 6];
    let read = connection.read_exact(&mut answer).await;
    Ok(read.is_ok() && &answer == b"by nal")
}

/// By nothing but edge-nal's traits.
async fn through_edge<S: edge_nal::TcpConnect>(
    stack: &S,
    echo: SocketAddr,
) -> Result<bool, S::Error> {
    use edge_nal::{Close, Readable, TcpShutdown, TcpSplit};
    let mut socket = stack.connect(echo).await?;
    let mut answer = [0; 7];
    let (read, written) = {
        let (mut read, mut write) = socket.split();
        let reading = async {
            read.readable().await?;
            Ok::<_, S::Error>(read.read_exact(&mut answer).await.is_ok())
        };
        join::join(reading, write.write_all(b"by edge")).await
    };
    written?;
    socket.close(Close::Write).await?;
    let end = socket.read(&mut [0; 8]).await?;
    Ok(read? && &answer == b"by edge" && end == 0)
}

/// Accepts a connection of its own.
async fn serve_edge(stack: &net::Session) -> Result<bool, Error> {
    let listener = TcpBind::bind(stack, SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let there = listener.local_addr();
    let (accepted, connected) = join::join(
        TcpAccept::accept(&listener),
        embedded_nal_async::TcpConnect::connect(stack, there),
    )
    .await;
    let ((peer, mut accepted), connected) = (accepted?, connected?);
    accepted.write_all(b"served").await?;
    let mut answer = [0; 6];
    connected.read_exact(&mut answer).await?;
    edge_nal::TcpShutdown::abort(&mut accepted).await?;
    let after = connected.read(&mut [0; 1]).await;
    let reset = after.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
    Ok(peer == connected.local_addr() && &answer == b"served" && reset)
}

async fn names(stack: &net::Session) -> Result<(), String> {
    let v4 = Dns::get_host_by_name(stack, "localhost", AddrType::IPv4).await;
    check(
        v4 == Ok(IpAddr::from([127, 0, 0, 1])),
        "a name has an address",
    )?;
    let either = edge_nal::Dns::get_host_by_name(stack, "127.0.0.9", edge_nal::AddrType::Either);
    check(
        either.await == Ok(IpAddr::from([127, 0, 0, 9])),
        "an address is its own name",
    )?;
    let none = Dns::get_host_by_name(stack, "no-such-host.invalid", AddrType::Either).await;
    let none = none.is_err_and(|error| error.kind() == ErrorKind::NotFound);
    check(none, "a name that is none has no address")?;
    let none = Dns::get_host_by_address(stack, IpAddr::from([127, 0, 0, 1]), &mut [0; 255]).await;
    let none = none.is_err_and(|error| error.kind() == ErrorKind::Unsupported);
    check(none, "an address has no name")
}

async fn time() -> Result<(), String> {
    let began = Instant::now();
    let naps = (1..=50u64).rev().map(|n| async move {
        Timer::after(Duration::from_micros(n * 400)).await;
        Instant::now() - began >= Duration::from_micros(n * 400)
    });
    let slept = arca_guest::futures::future::join_all(naps).await;
    check(
        slept.iter().all(|&slept| slept),
        "embassy-time's timers last their time",
    )?;
    let long = with_timeout(
        Duration::from_millis(5),
        Timer::after(Duration::from_secs(3600)),
    );
    check(
        long.await.is_err(),
        "embassy-time's time-outs end what takes longer",
    )?;
    Timer::at(Instant::MIN).await;
    check(true, "a time that is past has come")
}

fn random() -> Result<(), String> {
    let (mut first, mut second, mut own) = ([0; 48], [0; 48], [0; 48]);
    let filled = getrandom::fill(&mut first).is_ok() && getrandom::fill(&mut second).is_ok();
    fill_random(&mut own);
    let differ = first != second && second != own && first[..32] != random_seed();
    check(
        filled && differ && first != [0; 48],
        "getrandom gives random bytes",
    )?;
    println!("{:?}", &first[..16]);
    Ok(())
}

/// `lasting`: goes on after a SIGTERM, too.
async fn signals(lasting: bool) -> Result<(), Error> {
    // From here on they are this program's.
    let mut first = core::pin::pin!(signal::wait(&[Signal::HangUp, Signal::Terminate]));
    // The request is on its way when it was polled once, and before another.
    let begun = arca_guest::futures::poll!(&mut first).is_pending();
    let known = net::resolve_async("127.0.0.1", 0).await.is_ok();
    eprintln!("ready {begun} {known}");
    let mut signal = first.await?;
    loop {
        eprintln!("{signal:?}");
        if signal == Signal::Terminate && !lasting {
            return Ok(());
        }
        signal = signal::shutdown().await?;
    }
}

async fn lines() -> Result<(), Error> {
    let mut given_up = 0u64;
    loop {
        match timeout(core::time::Duration::from_micros(50), stdin().next_line()).await {
            Ok(Ok(Some(line))) => {
                stdout().write_all_async(line.as_bytes()).await?;
                stdout().write_all_async(b"\n").await?;
            }
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                given_up += 1;
                if given_up == 1 {
                    eprintln!("waits for a line");
                }
            }
        }
    }
    eprintln!("given up {given_up} times");
    stdout().flush_async().await
}

/// Bytes that are generated and parsed in place: several times around the ring.
const IN_PLACE: u64 = 24 << 20;

/// A byte of a stream that no shift of it has at the same place.
fn byte_at(offset: u64) -> u8 {
    (offset ^ offset >> 8 ^ offset >> 16) as u8
}

async fn in_place(echo: SocketAddr) -> Result<(), String> {
    let stream = AsyncTcpStream::connect(echo).await;
    let (mut read, mut write) = stream.map_err(|error| format!("{error}"))?.into_split();
    let generating = spawn(async move {
        let mut offset = 0;
        while offset < IN_PLACE {
            let room = write.write_with(|room| {
                let len = (IN_PLACE - offset).min(room.len() as u64) as usize;
                for (at, byte) in room[..len].iter_mut().enumerate() {
                    *byte = byte_at(offset + at as u64);
                }
                len
            });
            offset += room.await? as u64;
        }
        Ok::<_, Error>(())
    });
    let (mut offset, mut right) = (0, true);
    loop {
        let bytes = read.fill_buf().await.map_err(|error| format!("{error}"))?;
        if bytes.is_empty() {
            break;
        }
        // In uneven pieces, as a parser takes them.
        let len = bytes.len().min(1 + offset as usize % 70_001);
        let wanted = (offset..).map(byte_at);
        right &= bytes[..len].iter().copied().eq(wanted.take(len));
        read.consume(len);
        offset += len as u64;
    }
    check(
        generating.await == Ok(()) && right && offset == IN_PLACE,
        "what is generated in place is parsed in place",
    )
}

fn relay(target: &str) -> Result<(), String> {
    let relayed = || {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
        eprintln!("relay at {} .", listener.local_addr());
        let (mut client, _) = listener.accept()?;
        let mut server = TcpStream::connect(target)?;
        net::copy_bidirectional(&mut client, &mut server)
    };
    let (there, back) = relayed().map_err(|error: Error| format!("{error}"))?;
    println!("{there} {back}");
    Ok(())
}
