//! The program under measurement: commands in, replies out.

use crate::client::crowd::Crowd;
use crate::client::{churn, exits, ping, transfer, work};
use crate::command::Command;
use crate::connection::Listener;
use crate::failure::Failure;
use crate::http;
use crate::net::Net;
use crate::reply::{Outcome, Reply};
use crate::server;
use alloc::string::{String, ToString};
use core::net::{Ipv4Addr, SocketAddr};

/// Serves commands until there are no more.
///
/// `began` is what [`Net::unix_now`] said at the start of the program's `main`.
/// If there is an address in `first`, a connection to it is made before anything
/// else. `next` gives the next line without its newline, `say` writes one.
///
/// # Errors
///
/// If that first connection cannot be made.
pub fn serve<N: Net + Send + 'static>(
    net: &N,
    began: u64,
    first: Option<SocketAddr>,
    mut next: impl FnMut() -> Option<String>,
    mut say: impl FnMut(&str),
) -> Result<(), Failure> {
    let mut ready = Outcome::default().with("unix_ns", began);
    if let Some(address) = first {
        let stream = net.connect(address)?;
        ready = ready.with("connected_ns", net.unix_now());
        drop(stream);
    }
    say(&Reply::Ready(ready).to_string());
    let mut crowd = Crowd::new(net.clone());
    while let Some(line) = next() {
        let outcome = line
            .parse()
            .and_then(|command| run(net, &mut crowd, command, &mut say));
        let reply = match outcome {
            Ok(outcome) => Reply::Done(outcome),
            Err(failure) => Reply::Failed(failure.to_string()),
        };
        say(&reply.to_string());
    }
    Ok(())
}

fn run<N: Net + Send + 'static>(
    net: &N,
    crowd: &mut Crowd<N>,
    command: Command,
    say: &mut impl FnMut(&str),
) -> Result<Outcome, Failure> {
    let start = net.now();
    match command {
        Command::Transfer { address, header } => {
            let took = transfer::run(net, address, header)?;
            return Ok(Outcome::default().with("ns", took));
        }
        Command::Work {
            address,
            header,
            in_place,
        } => {
            let took = work::run(net, address, header, in_place)?;
            return Ok(Outcome::default().with("ns", took));
        }
        Command::Ping {
            address,
            size,
            count,
        } => return ping::run(net, address, size, count),
        Command::Churn { address, count } => {
            let took = churn::run(net, address, count)?;
            return Ok(Outcome::default().with("ns", took));
        }
        Command::Serve { port, count } => {
            let place = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let listener = net.listen(place)?;
            say(&Reply::Listening(listener.address()).to_string());
            server::churn(&listener, count)?;
        }
        Command::Http { count } => {
            let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let listening = |address| say(&Reply::Listening(address).to_string());
            net.serve_all(anywhere, count, listening, http::server::answer)?;
        }
        Command::Exits { count } => return exits::run(net, count),
        Command::Open { address, count } => crowd.open(address, count)?,
        Command::Exchange { size, count } => return crowd.exchange(size, count),
        Command::Move { header } => crowd.transfer(header)?,
        Command::Close => crowd.close(),
    }
    Ok(Outcome::default().with("ns", net.now() - start))
}
