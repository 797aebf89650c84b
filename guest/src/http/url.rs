//! Plain `http` URLs.

use alloc::format;
use alloc::string::String;
use fluent_uri::{Uri, UriRef};

/// Why a text is no URL of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is not of the form `http://HOST[:PORT][/PATH]`.
    #[error("not a URL of the form http://HOST[:PORT]/PATH")]
    Form,
    /// It asks for HTTPS.
    #[error("https is not supported, only http")]
    Https,
    /// What follows the colon is not a port.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Head and body.
    Get,
    /// The head that a GET would have; no body comes after it.
    Head,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
        }
    }
}

/// A plain `http` URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// Host name or address, without the brackets of an IPv6 literal.
    pub host: &'a str,
    /// Host and port as they were written: what the Host header says.
    pub authority: &'a str,
    /// Port, 80 if none was written.
    pub port: u16,
    /// Path and query, `/` if none was written.
    pub path: &'a str,
}

impl<'a> Url<'a> {
    /// Takes `text` apart.
    ///
    /// # Errors
    ///
    /// [`UrlError`].
    pub fn parse(text: &'a str) -> Result<Url<'a>, UrlError> {
        if text.starts_with("https://") {
            return Err(UrlError::Https);
        }
        let rest = text.strip_prefix("http://").ok_or(UrlError::Form)?;
        // A fragment is the client's own and never sent.
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if !path.starts_with('/') || rest.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(UrlError::Form);
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(literal) => {
                let (host, after) = literal.split_once(']').ok_or(UrlError::Form)?;
                match after {
                    "" => (host, None),
                    _ => (host, Some(after.strip_prefix(':').ok_or(UrlError::Form)?)),
                }
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() || authority.contains('@') {
            return Err(UrlError::Form);
        }
        let port = match port {
            None | Some("") => 80,
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(UrlError::Port),
                Ok(port) => port,
            },
        };
        Ok(Url {
            host,
            authority,
            port,
            path,
        })
    }

    /// Host and port, also where the URL leaves the port out.
    #[must_use]
    pub fn host_and_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The request of that method for this URL. The connection is kept after it, if the
    /// server likes.
    #[must_use]
    pub fn request(&self, method: Method) -> String {
        format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: arca/{}\r\nAccept: */*\r\n\r\n",
            method.name(),
            self.path,
            self.authority,
            env!("CARGO_PKG_VERSION")
        )
    }

    /// Where a redirection from this URL leads to, as text: `location` may leave out
    /// what stays the same.
    ///
    /// # Errors
    ///
    /// [`UrlError::Form`] if it is no reference to a URL.
    pub fn resolve(&self, location: &str) -> Result<String, UrlError> {
        let base = format!("http://{}{}", self.authority, self.path);
        let base = Uri::parse(base).map_err(|_| UrlError::Form)?;
        let location = UriRef::parse(location).map_err(|_| UrlError::Form)?;
        let whole = location.resolve_against(&base);
        let whole = whole.map_err(|_| UrlError::Form)?;
        Ok(whole.into_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections() {
        let url = Url::parse("http://[::1]:81/a/b?c").expect("valid");
        for (location, whole) in [
            ("http://other/x", "http://other/x"),
            ("https://other/", "https://other/"),
            ("//other:82/x", "http://other:82/x"),
            ("/x?y", "http://[::1]:81/x?y"),
            ("x", "http://[::1]:81/a/x"),
            ("../x/./y", "http://[::1]:81/x/y"),
            ("?d", "http://[::1]:81/a/b?d"),
            ("", "http://[::1]:81/a/b?c"),
        ] {
            assert_eq!(url.resolve(location).as_deref(), Ok(whole), "{location}");
        }
        for location in ["http://[", "a b", "%"] {
            assert_eq!(url.resolve(location), Err(UrlError::Form), "{location}");
        }
    }

    #[test]
    fn urls() {
        let url = Url::parse("http://127.0.0.1:8000/a/b?c#d").expect("valid");
        assert_eq!(
            (url.host, url.port, url.path),
            ("127.0.0.1", 8000, "/a/b?c")
        );
        assert_eq!(url.authority, "127.0.0.1:8000");
        let url = Url::parse("http://localhost").expect("valid");
        assert_eq!((url.host, url.port, url.path), ("localhost", 80, "/"));
        assert_eq!(url.host_and_port(), "localhost:80");
        let url = Url::parse("http://[::1]:81/x").expect("valid");
        assert_eq!((url.host, url.port, url.path), ("::1", 81, "/x"));
        assert_eq!(url.host_and_port(), "[::1]:81");
        for (bad, error) in [
            ("127.0.0.1:8000/", UrlError::Form),
            ("http:///x", UrlError::Form),
            ("http://[::1/x", UrlError::Form),
            ("http://a/b c", UrlError::Form),
            ("http://a?b", UrlError::Form),
            ("http://a:70000/", UrlError::Port),
            ("http://a:0/", UrlError::Port),
            ("https://a/", UrlError::Https),
        ] {
            assert_eq!(Url::parse(bad), Err(error), "{bad}");
        }
    }
}
