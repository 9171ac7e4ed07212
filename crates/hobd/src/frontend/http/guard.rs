//! Refuses what only a web page would send.
//!
//! A browser does not reach a Unix socket, but a forwarder in front of it may be reached. A page
//! then shows itself by its `Origin`, or, with DNS rebinding, by its own domain as `Host`; hob
//! serves no pages, so both are refused.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hob_api::{ApiError, ErrorCode};

use super::reply::Refusal;

/// The middleware.
pub(super) async fn local_programs_only(request: Request, next: Next) -> Response {
    match check(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => Refusal(error).into_response(),
    }
}

fn check(request: &Request) -> Result<(), ApiError> {
    if request.headers().contains_key(ORIGIN) {
        return Err(
            ApiError::new(ErrorCode::AccessDenied, "requests of web pages are refused")
                .hint("call from a program, without the header `Origin`"),
        );
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next().map_or(Ok(""), |host| host.to_str());
    let from_uri = request.uri().authority().map_or("", Authority::as_str);
    match host {
        Ok(host) if hosts.next().is_none() && is_local(host) && is_local(from_uri) => Ok(()),
        _ => Err(ApiError::new(
            ErrorCode::AccessDenied,
            "the request's host is not this machine",
        )
        .hint("use http://localhost/ as the base of addresses")),
    }
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
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    !name.contains(['.', ':'])
        || bare.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || bare.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
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
}
