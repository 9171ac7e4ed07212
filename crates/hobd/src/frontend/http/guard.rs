//! Refuses what only a web page would send.
//!
//! A browser does not reach a Unix socket, but a forwarder in front of it may be reached; and it does
//! reach a port of this machine. A page then shows itself by its `Origin`, or, with DNS rebinding, by
//! its own domain as `Host`; hob serves no pages, so both are refused.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hob_api::{ApiError, ErrorCode};

use super::reply::Refusal;

/// Which hosts a request may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hosts {
    /// None, or any that can't be somebody else's.
    Local,
    /// This machine's loopback and this port.
    Loopback(u16),
}

/// `router`, for programs of this machine.
pub(super) fn guarded(router: Router, hosts: Hosts) -> Router {
    router.layer(middleware::from_fn_with_state(hosts, local_programs_only))
}

async fn local_programs_only(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match check(&request, hosts) {
        Ok(()) => next.run(request).await,
        Err(error) => Refusal(error).into_response(),
    }
}

fn check(request: &Request, hosts: Hosts) -> Result<(), ApiError> {
    if request.headers().contains_key(ORIGIN) {
        return Err(
            ApiError::new(ErrorCode::AccessDenied, "requests of web pages are refused")
                .hint("call from a program, without the header `Origin`"),
        );
    }
    let mut given = request.headers().get_all(HOST).iter();
    let host = given.next().map_or(Ok(""), |host| host.to_str());
    let from_uri = request.uri().authority().map_or("", Authority::as_str);
    match host {
        Ok(host) if given.next().is_none() && hosts.have(host, from_uri) => Ok(()),
        _ => Err(ApiError::new(
            ErrorCode::AccessDenied,
            "the request's host is not this machine",
        )
        .hint(match hosts {
            Hosts::Local => "use http://localhost/ as the base of addresses".to_owned(),
            Hosts::Loopback(port) => {
                format!("use http://127.0.0.1:{port}/ as the base of addresses")
            }
        })),
    }
}

impl Hosts {
    /// Whether the header's host, and the address's if there is one, are among them.
    fn have(self, host: &str, from_uri: &str) -> bool {
        match self {
            Self::Local => is_local(host) && is_local(from_uri),
            Self::Loopback(port) => {
                is_loopback(host, port) && (from_uri.is_empty() || is_loopback(from_uri, port))
            }
        }
    }
}

/// Whether `host` is this machine's loopback, by its usual name or an address, and `port`.
fn is_loopback(host: &str, port: u16) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    // The scheme's own port may be left out.
    let at = authority.port_u16();
    let right_port = at == Some(port) || (authority.port().is_none() && port == 80);
    let name = authority.host();
    right_port
        && !host.contains('@')
        && (name.eq_ignore_ascii_case("localhost") || is_loopback_address(name))
}

fn is_loopback_address(name: &str) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || bare.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether `host`, with or without a port, can't be a name that somebody else controls: nothing,
/// a single label such as `localhost` or `hob`, or a loopback address.
fn is_local(host: &str) -> bool {
    if host.is_empty() {
        return true;
    }
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    if host.contains('@') {
        return false;
    }
    let name = authority.host();
    !name.contains(['.', ':']) || is_loopback_address(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_local_clients_are_local() {
        for host in [
            "",
            "localhost",
            "localhost:8080",
            "hob",
            "LOCALHOST",
            "127.0.0.1:80",
            "[::1]:80",
        ] {
            assert!(is_local(host), "{host}");
        }
    }

    #[test]
    fn hosts_of_others_are_not() {
        for host in [
            "example.com",
            "localhost.example.com",
            "192.168.0.1",
            "[fe80::1]",
            "user@localhost",
            "localhost/x",
            "local host",
            "127.0.0.1.example.com",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn over_tcp_only_loopback_and_its_port_are_local() {
        for host in [
            "localhost:81",
            "127.0.0.1:81",
            "127.9.9.9:81",
            "[::1]:81",
            "LocalHost:81",
        ] {
            assert!(is_loopback(host, 81), "{host}");
            assert!(!is_loopback(host, 82), "{host}");
        }
        assert!(is_loopback("localhost", 80));
        for host in [
            "",
            "localhost",
            "hob:81",
            "example.com:81",
            "localhost.example.com:81",
            "127.0.0.1.example.com:81",
            "192.168.0.1:81",
            "0.0.0.0:81",
            "[::]:81",
            "user@localhost:81",
            "localhost:081x",
            "localhost:",
        ] {
            assert!(!is_loopback(host, 81), "{host}");
        }
    }
}
