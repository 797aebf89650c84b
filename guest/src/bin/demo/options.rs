//! The command line.

use alloc::format;
use alloc::string::String;
use arca_guest::net::SocketAddr;

/// What the command line says.
pub(crate) struct Options {
    pub(crate) service: SocketAddr,
    pub(crate) file: &'static str,
    pub(crate) sha256: &'static str,
    pub(crate) size: u64,
    pub(crate) serve_back: bool,
    pub(crate) port: u16,
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = &'static str>) -> Result<Options, String> {
        let (mut service, mut file, mut sha256, mut size) = (None, None, None, None);
        let (mut serve_back, mut port) = (false, 0);
        while let Some(name) = args.next() {
            if name == "--serve-back" {
                serve_back = true;
                continue;
            }
            let value = args
                .next()
                .ok_or_else(|| format!("{name} needs a value, or is not an option"))?;
            let invalid = || format!("{name} cannot be {value:?}");
            match name {
                "--service" => service = Some(value.parse().map_err(|_| invalid())?),
                "--file" => file = Some(value),
                "--sha256" => sha256 = Some(value),
                "--size" => size = Some(value.parse().map_err(|_| invalid())?),
                "--port" => port = value.parse().map_err(|_| invalid())?,
                _ => return Err(format!("{name} is not an option")),
            }
        }
        let missing = |name| {
            move || format!("{name} is missing; `cargo xtask run` starts demo with all it needs")
        };
        Ok(Options {
            service: service.ok_or_else(missing("--service"))?,
            file: file.ok_or_else(missing("--file"))?,
            sha256: sha256.ok_or_else(missing("--sha256"))?,
            size: size.ok_or_else(missing("--size"))?,
            serve_back,
            port,
        })
    }
}
