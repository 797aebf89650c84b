//! One of those that take turns: a program, what is between it and its service, and
//! that service.

use super::case::Task;
use super::pasta;
use super::rounds::Peer;
use crate::program::Program;
use crate::relay;
use crate::rig::Sample;
use crate::side::Role;
use anyhow::{Context, Result};
use arca_bench::Command;
use arca_bench::service::Request;
use std::net::SocketAddr;
use std::time::Duration;

/// Which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A native client.
    Native,
    /// The guest.
    Guest,
    /// A native client behind pasta.
    Pasta,
    /// A native client behind a plain relay.
    Relay,
}

impl Kind {
    /// All of them, in the order of the columns.
    pub const ALL: [Self; 4] = [Self::Native, Self::Guest, Self::Pasta, Self::Relay];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Guest => "guest",
            Self::Pasta => "pasta",
            Self::Relay => "relay",
        }
    }
}

/// Its processes, which are ended with it.
pub struct Party<'a> {
    task: &'a Task,
    side: Program,
    relay: Option<Program>,
    service: Program,
    /// Where the program connects to.
    targets: Vec<SocketAddr>,
    /// Ports at which it listens; 0 for any.
    served: Vec<u16>,
}

impl<'a> Party<'a> {
    /// Starts it and opens what is to be open. `limit` is how long it may take to answer.
    ///
    /// # Errors
    ///
    /// If one of its processes cannot be started, or does not answer.
    pub fn start(kind: Kind, task: &'a Task, vm: &[String], limit: Duration) -> Result<Self> {
        let program = |role, options: &[String]| -> Result<Program> {
            Ok(Program::start(role, options, None)?.within(limit))
        };
        let mut service = program(Role::Service, &[])?;
        let (mut targets, mut served) = (Vec::new(), Vec::new());
        match *task {
            Task::Connect {
                behaviour, ports, ..
            } => {
                for _ in 0..ports {
                    service.send(Request::Listen(behaviour))?;
                    targets.push(service.listening()?);
                }
            }
            Task::Serve { ports, .. } => {
                served = match kind {
                    Kind::Pasta => pasta::free_ports(ports)?,
                    _ => vec![0; ports],
                };
            }
        }
        let mut relay = match kind {
            Kind::Relay => Some(program(Role::Relay, &[])?),
            _ => None,
        };
        let side = match kind {
            // It forwards ports to those of the same number.
            Kind::Pasta => pasta::start(&targets, &served, limit)?,
            Kind::Guest => ready(program(Role::Guest, vm)?)?,
            Kind::Native | Kind::Relay => ready(program(Role::Native, &[])?)?,
        };
        for target in &mut targets {
            *target = through(&mut relay, *target)?;
        }
        let mut party = Self {
            task,
            side,
            relay,
            service,
            targets,
            served,
        };
        if let Task::Connect {
            open: count @ 1.., ..
        } = *task
        {
            let address = party.targets[0];
            party.side.ask(Command::Open { address, count })?;
        }
        Ok(party)
    }

    /// CPU time of the program and of what is between it and the service.
    fn cpu_ns(&self) -> Result<u64> {
        let relay = self.relay.as_ref().map_or(Ok(0), Program::cpu_ns);
        Ok(self.side.cpu_ns()? + relay?)
    }
}

impl Peer for Party<'_> {
    fn sample(&mut self, number: usize) -> Result<Sample> {
        let (cpu, service_cpu) = (self.cpu_ns()?, self.service.cpu_ns()?);
        let outcome = match self.task {
            Task::Connect { command, .. } => {
                let target = self.targets[number % self.targets.len()];
                self.side.ask(command(target))?
            }
            &Task::Serve { count, .. } => {
                let port = self.served[number % self.served.len()];
                self.side.send(Command::Serve { port, count })?;
                let address = self.side.listening().context("listen")?;
                let address = through(&mut self.relay, address)?;
                let outcome = self.service.ask(Request::Load(address, count))?;
                self.side.done()?;
                outcome
            }
        };
        let cpu_ns = self.cpu_ns()? - cpu;
        let service_cpu_ns = self.service.cpu_ns()? - service_cpu;
        Ok(Sample::new(outcome, cpu_ns, service_cpu_ns))
    }

    fn cpu_ns(&self) -> u64 {
        // What has ended has no clock any more.
        self.cpu_ns().unwrap_or(0) + self.service.cpu_ns().unwrap_or(0)
    }
}

/// A program that has begun.
fn ready(mut program: Program) -> Result<Program> {
    program.ready()?;
    program.count_children()?;
    Ok(program)
}

/// The address to connect to in place of `to`, where there is a relay.
fn through(relay: &mut Option<Program>, to: SocketAddr) -> Result<SocketAddr> {
    let Some(relay) = relay else {
        return Ok(to);
    };
    relay.send(relay::request(to))?;
    relay.listening()
}
