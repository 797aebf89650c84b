//! A native client behind pasta, which gives it a user and a network namespace of its
//! own and carries what goes over their loopback to that of the host, and back.

use crate::program::{self, Program};
use crate::side::Role;
use anyhow::{Context, Result};
use nix::unistd::Uid;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, io};

/// The command, and the package of Debian's that has it.
const COMMAND: &str = "pasta";
pub const PACKAGE: &str = "passt";

/// Whether it is installed.
pub fn is_there() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(COMMAND).is_file())
}

/// Starts it with a native client, which reaches the ports `out` of the host, and at
/// whose ports `inwards` the host reaches it.
///
/// # Errors
///
/// If it cannot be started, or the client says nothing.
pub fn start(out: &[SocketAddr], inwards: &[u16], limit: Duration) -> Result<Program> {
    let mut command = Command::new(COMMAND);
    // In the foreground, or the client would not be a child of the process started.
    command.args(["--foreground", "--quiet"]);
    // It gives root up for nobody, who may not write the map of a user namespace.
    if Uid::effective().is_root() {
        command.args(["--runas", "0"]);
    }
    let out: Vec<_> = out.iter().map(SocketAddr::port).collect();
    command.args(["--tcp-ns", &ports(&out), "--tcp-ports", &ports(inwards)]);
    command.args(["--udp-ns", "none", "--udp-ports", "none", "--"]);
    command.args(program::command_line(Role::Native, &[])?);
    // It complains where there is no system log.
    command.stderr(Stdio::null());
    let mut program = Program::spawn(Role::Native, command)?.within(limit);
    program.ready().context("it did not start the client")?;
    program.count_children()?;
    Ok(program)
}

/// A list of ports as it takes them.
fn ports(ports: &[u16]) -> String {
    match ports {
        [] => "none".into(),
        ports => ports
            .iter()
            .map(u16::to_string)
            .collect::<Vec<_>>()
            .join(","),
    }
}

/// Ports at which nobody listens.
///
/// # Errors
///
/// If there are none.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // All at once, so that they differ.
    let listeners: Vec<_> = (0..count).map(bind).collect::<io::Result<_>>()?;
    let port = |listener: &TcpListener| Ok(listener.local_addr()?.port());
    listeners.iter().map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_ports() {
        assert_eq!(ports(&[]), "none");
        assert_eq!(ports(&[80]), "80");
        assert_eq!(ports(&[80, 8080]), "80,8080");
    }

    #[test]
    fn free_ports_differ() {
        let mut ports = free_ports(50).expect("ports");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50);
    }
}
