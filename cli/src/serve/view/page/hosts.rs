//! Under which names the page is served, and to whom.
//!
//! The page has no login: it is meant for who can reach the port. A browser can reach it on behalf
//! of any website, whose name its owner may point at this address (DNS rebinding); then the name
//! that the browser asks for gives it away.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header::HOST},
    middleware::Next,
    response::{IntoResponse, Response},
};
use spanhook_service::{
    answer::Problem,
    settings::{Variable, Vars},
};

/// `SPANHOOK_HOSTS`
pub(crate) static HOSTS: Variable = Variable::new(
    "SPANHOOK_HOSTS",
    "",
    "use names with commas between them",
    "names, separated by commas, under which the page may be opened, besides `localhost` and IP addresses ([security.md](security.md)); webhooks are taken under every name",
);

/// The names of the page, besides `localhost` and every IP address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts(Arc<[String]>);

impl Hosts {
    /// Reads `SPANHOOK_HOSTS`, a comma list.
    pub(crate) fn parse(vars: &Vars) -> Self {
        let names = HOSTS.get(vars).unwrap_or_default().split(',');
        let names = names.map(|it| it.trim().to_ascii_lowercase());
        Self(names.filter(|it| !it.is_empty()).collect())
    }

    /// Whether a `Host` header names the page; its port is of no account.
    fn have(&self, host: &str) -> bool {
        if let Some(rest) = host.strip_prefix('[') {
            let address = rest.split_once(']').map(|(address, _)| address);
            return address.is_some_and(|it| it.parse::<Ipv6Addr>().is_ok());
        }
        let name = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
        name == "localhost" || name.parse::<Ipv4Addr>().is_ok() || self.0.contains(&name)
    }

    fn all_have(&self, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(HOST).iter().peekable();
        hosts.peek().is_some() && hosts.all(|it| it.to_str().is_ok_and(|it| self.have(it)))
    }
}

/// Refuses what another website makes a browser ask.
pub(super) async fn guard(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    if !hosts.all_have(request.headers()) {
        let detail = "the page is not served under this name; open it by IP address or localhost, \
                      or add the name to SPANHOOK_HOSTS";
        return Problem { status: StatusCode::MISDIRECTED_REQUEST, detail }.into_response();
    }
    // Browsers say who asks; a link to the page from elsewhere is fine, a script's request is not.
    let site = request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
    let is_foreign = site.is_some_and(|it| it != b"same-origin" && it != b"none");
    if is_foreign && request.uri().path().starts_with("/api/") {
        let detail = "another website asks for this";
        return Problem { status: StatusCode::FORBIDDEN, detail }.into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_configured_names_are_the_pages() {
        let vars = [("SPANHOOK_HOSTS".to_owned(), "CI.example.com, traces ,".to_owned())];
        let hosts = Hosts::parse(&Vars::from(vars));
        for host in [
            "localhost",
            "LOCALHOST:3000",
            "127.0.0.1:3000",
            "192.168.1.4",
            "[::1]:3000",
            "[fe80::1]",
            "ci.example.com",
            "CI.EXAMPLE.COM:443",
            "traces:80",
        ] {
            assert!(hosts.have(host), "{host}");
        }
        for host in [
            "",
            ":3000",
            "evil.example",
            "evil.example:3000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[evil.example]",
            "[::1",
            "ci.example.com.evil.example",
            "example.com",
            "127.1",
            "2130706433",
        ] {
            assert!(!hosts.have(host), "{host}");
        }
        assert!(!Hosts::default().have("ci.example.com"));
    }
}
