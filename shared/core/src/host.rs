//! The host of a provider's instance, which is a part of every id.

use std::{fmt, net::Ipv6Addr};

use thiserror::Error;

/// A host as ids take it: lower case, with its port unless that is the scheme's own.
///
/// One type, because two spellings of one instance would give two traces: what a webhook's URL, a
/// setting, a job's variable and a token's issuer call the instance has to come to the same text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(String);

/// Text that names no host.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("use a host name without a scheme, with its port if it has one, such as {EXAMPLE}")]
pub struct BadHost;

const EXAMPLE: &str = "gitlab.example.com";

impl Host {
    /// Reads `name` or `name:port`, as settings and requests give it. Where no scheme is known, 443
    /// counts as the default port.
    pub fn parse(text: &str) -> Result<Self, BadHost> {
        let text = text.trim().to_ascii_lowercase();
        let text = text.strip_suffix(":443").unwrap_or(&text);
        let (name, port) = match text.strip_prefix('[').and_then(|it| it.split_once(']')) {
            // An IPv6 address has colons of its own.
            Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => {
                ("ipv6", port.strip_prefix(':').unwrap_or(if port.is_empty() { "1" } else { "" }))
            }
            _ => text.split_once(':').unwrap_or((text, "1")),
        };
        let label = |it: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            !it.is_empty() && it.bytes().all(plain)
        };
        let valid = text.len() <= 253
            && name.split('.').all(label)
            && port.bytes().all(|it| it.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port > 0);
        valid.then(|| Self(text.to_owned())).ok_or(BadHost)
    }

    /// The host of a web address (`http://` or `https://`), without the credentials before it and
    /// without the port of its scheme.
    #[must_use]
    pub fn of_url(url: &str) -> Option<Self> {
        let (scheme, rest) = url.trim().split_once("://")?;
        let default = match scheme.to_ascii_lowercase().as_str() {
            "https" => ":443",
            "http" => ":80",
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        Self::parse(host.strip_suffix(default).unwrap_or(host)).ok()
    }

    /// A provider's own host, which needs no check.
    pub(crate) fn known(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_instance_is_one_host() {
        for text in ["GitLab.example.com", "gitlab.example.com:443", " gitlab.example.com "] {
            assert_eq!(Host::parse(text).unwrap().as_str(), "gitlab.example.com", "{text}");
        }
        for url in [
            "https://gitlab.example.com",
            "https://GITLAB.example.com:443/acme/shop",
            "http://gitlab.example.com:80?x",
            "https://user:secret@gitlab.example.com/",
        ] {
            assert_eq!(Host::of_url(url).unwrap().as_str(), "gitlab.example.com", "{url}");
        }
        assert_eq!(Host::of_url("http://h:443/").unwrap().as_str(), "h");
        assert_eq!(Host::of_url("https://h:8443/").unwrap().as_str(), "h:8443");
        assert_eq!(Host::of_url("http://[::1]:8080/").unwrap().as_str(), "[::1]:8080");
        assert_eq!(Host::parse("h:80").unwrap().as_str(), "h:80", "the scheme is not known");
    }

    #[test]
    fn what_names_no_host_is_refused() {
        for text in ["", "https://h", "a b", "h/path", "h:", "h:0", "h:99999", "h:+1", "a..b", ".", "$(id)", "[::1", "[::1]x", "[g]"] {
            assert_eq!(Host::parse(text), Err(BadHost), "{text}");
        }
        for url in ["", "h", "ssh://h", "https://", "https://:443", "javascript://h"] {
            assert_eq!(Host::of_url(url), None, "{url}");
        }
    }
}
