//! Options of the sockets on the host.

use super::{ControlClient, unexpected};
use crate::error::Error;
use crate::protocol::message::{Reply, Request, SocketOption, Target};
use alloc::sync::Arc;

impl ControlClient {
    /// Reads an option of a socket on the host.
    pub(in crate::client) fn get_option(
        self: &Arc<Self>,
        target: Target,
        option: SocketOption,
    ) -> Result<u64, Error> {
        let call = self.call(Request::GetOption {
            target,
            option: option as u8,
        });
        match self.reactor().block_on(call)? {
            Reply::OptionValue(value) => Ok(value),
            Reply::Failed(errno) => Err(errno.into()),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets an option of a socket on the host.
    pub(in crate::client) fn set_option(
        self: &Arc<Self>,
        target: Target,
        option: SocketOption,
        value: u64,
    ) -> Result<(), Error> {
        let request = Request::SetOption {
            target,
            option: option as u8,
            value,
        };
        match self.reactor().block_on(self.call(request))? {
            Reply::Done => Ok(()),
            Reply::Failed(errno) => Err(errno.into()),
            other => Err(unexpected(&other)),
        }
    }
}
