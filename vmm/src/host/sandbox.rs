//! What the threads that serve a guest may still ask of the kernel, once they
//! are set up.
//!
//! Two layers, both for one thread and for good: landlock takes the file system
//! away (and TCP ports, where the thread has no use for them), seccomp all system
//! calls but those of the thread's work. A call outside the list fails with
//! EPERM: it does not kill the process, which may run other guests.
//!
//! | role | may, besides memory, locks, time and its own end |
//! |---|---|
//! | [`Role::Vcpu`] | run the vCPU and read its registers, and set them if there is a debugger; write (the console) |
//! | [`Role::Relay`] | make and use TCP sockets, with the options in use and no other; wait for events; write (the log) |
//! | [`Role::Stream`] | read and write |
//!
//! Where a call could do more than a thread's work by its arguments, the arguments
//! are part of the list (`calls.rs`). None can open a file, start a process or a
//! thread, signal another process, make memory executable, or map a file. What such
//! a thread shares with the process, its memory and open descriptors, it keeps: the
//! sandbox limits what an attacker reaches from there, and is not the guest's first
//! wall but its second.

mod calls;

use crate::error::StartError;
use crate::vm::outcome::{Outcome, RunState};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope,
};
use seccompiler::BpfProgram;
use std::io;
use std::sync::Arc;

/// What a thread is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs a vCPU.
    Vcpu,
    /// Relays between sockets and pipes.
    Relay,
    /// Copies a standard stream, or the log.
    Stream,
}

/// The filters, compiled.
pub struct Sandbox {
    vcpu: BpfProgram,
    relay: BpfProgram,
    stream: BpfProgram,
}

impl Sandbox {
    /// Compiles the filters. `debugged`: a debugger may be at the guest.
    pub fn new(debugged: bool) -> Result<Self, StartError> {
        let compile = |role| {
            calls::filter(role, debugged).map_err(|error| StartError::Host {
                action: "compile the sandbox's filters; --no-sandbox runs without one",
                source: io::Error::other(error),
            })
        };
        Ok(Self {
            vcpu: compile(Role::Vcpu)?,
            relay: compile(Role::Relay)?,
            stream: compile(Role::Stream)?,
        })
    }

    /// Takes from the calling thread what its role does not need.
    ///
    /// # Errors
    ///
    /// If the kernel has no seccomp. One without landlock, or with an older one,
    /// gives what it has.
    pub fn enter(&self, role: Role) -> io::Result<()> {
        restrict(role).map_err(io::Error::other)?;
        let program = match role {
            Role::Vcpu => &self.vcpu,
            Role::Relay => &self.relay,
            Role::Stream => &self.stream,
        };
        seccompiler::apply_filter(program).map_err(io::Error::other)
    }
}

/// A thread's way into the sandbox: the last step of its set-up.
#[derive(Clone, Default)]
pub struct Entrance {
    /// The sandbox, if there is one.
    pub sandbox: Option<Arc<Sandbox>>,
    /// Who is told if it cannot be entered.
    pub run_state: Arc<RunState>,
}

impl Entrance {
    /// Enters; `false` if that failed, whereupon the guest ends.
    pub fn enter(&self, role: Role) -> bool {
        let entered = match &self.sandbox {
            Some(sandbox) => sandbox.enter(role),
            None => Ok(()),
        };
        if let Err(error) = &entered {
            self.run_state.end(Outcome::HostFailed(format!(
                "the sandbox could not be entered: {error}; --no-sandbox runs without one"
            )));
        }
        entered.is_ok()
    }
}

/// Landlock: no file, no TCP port but the relay's, no way to other processes.
fn restrict(role: Role) -> Result<(), landlock::RulesetError> {
    let abi = ABI::V6;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .scope(Scope::from_all(abi))?;
    if role != Role::Relay {
        rules = rules.handle_access(AccessNet::from_all(abi))?;
    }
    rules.create()?.restrict_self().map(drop)
}

#[cfg(test)]
mod tests;
