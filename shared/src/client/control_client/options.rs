//! Options of the sockets on the host.

use super::{ControlClient, unexpected};
use crate::error::Error;
use crate::protocol::message::{Reply, Request, SocketOption, Target};
use alloc::sync::Arc;

impl ControlClient {
    /// Reads an option of a socket on the host.
    pub(in crate::client) async fn get_option(
        self: &Arc<Self>,
        target: Target,
        option: SocketOption,
    ) -> Result<u64, Error> {
        let call = self.call(Request::GetOption {
            target,
            option: option as u8,
        });
        match call.await? {
            Reply::OptionValue(value) => Ok(value),
            Reply::Failed(errno) => Err(errno.into()),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets an option of a socket on the host.
    pub(in crate::client) async fn set_option(
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
        match self.call(request).await? {
            Reply::Done => Ok(()),
            Reply::Failed(errno) => Err(errno.into()),
            other => Err(unexpected(&other)),
        }
    }
}
