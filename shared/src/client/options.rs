//! Options of a connection: blocking, and for tasks.

use super::stream_core::StreamCore;
use super::{ArcaTcpStream, AsyncTcpStream};
use crate::error::Error;
use crate::protocol::message::SocketOption;
use core::time::Duration;

/// Defines options of a stream once, as methods of both kinds of stream.
macro_rules! options {
    ($(
        $(#[$meta:meta])*
        fn $name:ident($core:ident $(, $argument:ident: $type:ty)?) -> $result:ty
        $body:block
    )+) => {
        impl StreamCore {
            $(async fn $name(&self $(, $argument: $type)?) -> Result<$result, Error> {
                let $core = self;
                $body
            })+
        }

        impl ArcaTcpStream {
            $($(#[$meta])*
            pub fn $name(&self $(, $argument: $type)?) -> Result<$result, Error> {
                self.core.block_on(self.core.$name($($argument)?))
            })+
        }

        impl AsyncTcpStream {
            $($(#[$meta])*
            pub async fn $name(&self $(, $argument: $type)?) -> Result<$result, Error> {
                self.core.$name($($argument)?).await
            })+
        }
    };
}

options! {
    /// Whether small writes go out at once (TCP_NODELAY).
    ///
    /// # Errors
    ///
    /// The errno that getsockopt(2) gave on the host.
    fn nodelay(core) -> bool {
        Ok(core.get(SocketOption::NoDelay).await? != 0)
    }

    /// Sets whether small writes go out at once (TCP_NODELAY).
    ///
    /// # Errors
    ///
    /// The errno that setsockopt(2) gave on the host.
    fn set_nodelay(core, nodelay: bool) -> () {
        core.set(SocketOption::NoDelay, nodelay.into()).await
    }

    /// After how long without traffic the peer is probed; `None` is never.
    ///
    /// # Errors
    ///
    /// The errno that getsockopt(2) gave on the host.
    fn keepalive(core) -> Option<Duration> {
        if core.get(SocketOption::KeepAlive).await? == 0 {
            return Ok(None);
        }
        let idle = core.get(SocketOption::KeepIdle).await?;
        Ok(Some(Duration::from_secs(idle)))
    }

    /// Sets after how long without traffic the peer is probed, in whole seconds, at
    /// least one; `None` is never.
    ///
    /// # Errors
    ///
    /// The errno that setsockopt(2) gave on the host.
    fn set_keepalive(core, idle: Option<Duration>) -> () {
        if let Some(idle) = idle {
            let seconds = idle.as_secs().max(1);
            core.set(SocketOption::KeepIdle, seconds).await?;
        }
        core.set(SocketOption::KeepAlive, idle.is_some().into()).await
    }

    /// How long the peer may acknowledge nothing of what was sent, or take none of
    /// it, until the connection fails with ETIMEDOUT; `None` is the host's default.
    ///
    /// # Errors
    ///
    /// The errno that getsockopt(2) gave on the host.
    fn user_timeout(core) -> Option<Duration> {
        let millis = core.get(SocketOption::UserTimeout).await?;
        Ok((millis != 0).then(|| Duration::from_millis(millis)))
    }

    /// Sets how long the peer may acknowledge nothing of what was sent, or take none
    /// of it, in whole milliseconds, at least one; `None` is the host's default.
    ///
    /// # Errors
    ///
    /// EINVAL for 2^31 milliseconds or more, else the errno that setsockopt(2) gave
    /// on the host.
    fn set_user_timeout(core, limit: Option<Duration>) -> () {
        let millis = limit.map_or(0, |limit| limit.as_millis().max(1));
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        core.set(SocketOption::UserTimeout, millis).await
    }

    /// How long the host may go on sending what is left when the connection is
    /// closed (SO_LINGER); zero makes the closing a reset, and `None` is the host's
    /// own way.
    ///
    /// # Errors
    ///
    /// The errno that getsockopt(2) gave on the host.
    fn linger(core) -> Option<Duration> {
        let seconds = core.get(SocketOption::Linger).await?.checked_sub(1);
        Ok(seconds.map(Duration::from_secs))
    }

    /// Sets how long the host may go on sending what is left when the connection is
    /// closed (SO_LINGER), in whole seconds; zero makes the closing a reset, and
    /// `None` is the host's own way.
    ///
    /// # Errors
    ///
    /// The errno that setsockopt(2) gave on the host.
    fn set_linger(core, limit: Option<Duration>) -> () {
        let value = limit.map_or(0, |limit| limit.as_secs().saturating_add(1));
        core.set(SocketOption::Linger, value).await
    }

    /// Time to live of outgoing packets.
    ///
    /// # Errors
    ///
    /// The errno that getsockopt(2) gave on the host.
    fn ttl(core) -> u32 {
        let value = core.get(SocketOption::Ttl).await?;
        Ok(u32::try_from(value).unwrap_or(u32::MAX))
    }

    /// Sets the time to live of outgoing packets.
    ///
    /// # Errors
    ///
    /// The errno that setsockopt(2) gave on the host.
    fn set_ttl(core, ttl: u32) -> () {
        core.set(SocketOption::Ttl, ttl.into()).await
    }

    /// The value of any option, as the wire says it.
    ///
    /// # Errors
    ///
    /// The errno that getsockopt(2) gave on the host.
    fn option(core, option: SocketOption) -> u64 {
        core.get(option).await
    }
}

impl ArcaTcpStream {
    /// Sets any option, as the wire says it.
    ///
    /// # Errors
    ///
    /// The errno that setsockopt(2) gave on the host.
    pub fn set_option(&self, option: SocketOption, value: u64) -> Result<(), Error> {
        self.core.block_on(self.core.set(option, value))
    }
}

impl AsyncTcpStream {
    /// Sets any option, as the wire says it.
    ///
    /// # Errors
    ///
    /// The errno that setsockopt(2) gave on the host.
    pub async fn set_option(&self, option: SocketOption, value: u64) -> Result<(), Error> {
        self.core.set(option, value).await
    }
}
