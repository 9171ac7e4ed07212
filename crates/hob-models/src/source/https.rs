//! Models from the web, over TLS only, resumed where they were cut.

use std::time::Duration;

use ureq::Agent;
use ureq::http::header::{CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE};
use ureq::http::{Response, StatusCode};

use super::{FetchError, Fetcher, Watch, transfer};
use crate::store::Installing;

/// Redirects that are followed, from https to https only.
const MAX_REDIRECTS: u32 = 5;

/// Why the web did not have it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpsError {
    /// The server could not be reached, or not be trusted.
    #[error("cannot reach {host}: {cause}")]
    Unreachable {
        /// The server.
        host: String,
        /// Why.
        cause: String,
    },
    /// The server said no.
    #[error("{host} answered {status}{}", reason.map(|r| format!(" ({r})")).unwrap_or_default())]
    Status {
        /// The server.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What the status means.
        reason: Option<&'static str>,
    },
    /// The connection ended early or stalled.
    #[error("the download from {host} was cut after {received} bytes: {cause}")]
    Cut {
        /// The server.
        host: String,
        /// Bytes that are kept.
        received: u64,
        /// How.
        cause: String,
    },
    /// The server does not keep to the protocol.
    #[error("{host} answered nonsense: {why}")]
    Protocol {
        /// The server.
        host: String,
        /// What is wrong.
        why: &'static str,
    },
}

impl HttpsError {
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Unreachable { .. } => {
                "Check the network, or fetch the file elsewhere and run `hob models import FILE`."
            }
            Self::Cut { .. } => "Run the same command again; it goes on where it was cut.",
            Self::Status { .. } | Self::Protocol { .. } => {
                "The address may have moved; fetch the file elsewhere and run `hob models import FILE`."
            }
        }
        .to_owned()
    }

    /// Whether it may well go better in a moment.
    fn is_transient(&self) -> bool {
        match self {
            Self::Cut { .. } => true,
            Self::Status { status, .. } => *status >= 500 || matches!(status, 408 | 416 | 429),
            Self::Unreachable { .. } | Self::Protocol { .. } => false,
        }
    }
}

/// Fetches `url`, going on after what `installing` has.
pub(super) fn fetch(
    url: &str,
    installing: &mut Installing,
    fetcher: &Fetcher,
    watch: &mut dyn Watch,
) -> Result<(), FetchError> {
    let download = Download {
        url,
        host: host(url),
        agent: agent(fetcher),
    };
    let mut failures = 0;
    loop {
        let before = installing.length();
        let error = match download.attempt(installing, watch) {
            // A server that was there a moment ago may be there again in another.
            Err(FetchError::Https(error)) if error.is_transient() || failures > 0 => error,
            result => return result,
        };
        failures = if installing.length() > before {
            1
        } else {
            failures + 1
        };
        if failures >= fetcher.attempts {
            return Err(error.into());
        }
        watch.retrying(&error.to_string());
        std::thread::sleep(fetcher.pause.saturating_mul(1 << (failures - 1)));
    }
}

fn agent(fetcher: &Fetcher) -> Agent {
    Agent::config_builder()
        .https_only(fetcher.https_only)
        .http_status_as_error(false)
        .max_redirects(MAX_REDIRECTS)
        .user_agent(concat!("hob/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .timeout_resolve(Some(fetcher.connect_timeout))
        .timeout_connect(Some(fetcher.connect_timeout))
        .timeout_recv_response(Some(fetcher.stall_timeout + Duration::from_secs(5)))
        .timeout_per_read(Some(fetcher.stall_timeout))
        .build()
        .into()
}

fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    host.to_owned()
}

struct Download<'a> {
    url: &'a str,
    host: String,
    agent: Agent,
}

impl Download<'_> {
    fn attempt(
        &self,
        installing: &mut Installing,
        watch: &mut dyn Watch,
    ) -> Result<(), FetchError> {
        let offset = installing.length();
        if offset > 0 && installing.expected_size() == Some(offset) {
            return Ok(());
        }
        let mut request = self.agent.get(self.url);
        if offset > 0
            && let Some(validator) = installing.validator()
        {
            request = request
                .header(RANGE, format!("bytes={offset}-"))
                .header(IF_RANGE, validator);
        }
        let response = request.call().map_err(|error| HttpsError::Unreachable {
            host: self.host.clone(),
            cause: cause(&error),
        })?;
        let total = self.begin(&response, offset, installing)?;
        watch.progress(installing.length(), total);
        let body = response.into_body().into_reader();
        let cut = match transfer(body, installing, total, watch)? {
            Ok(()) if total.is_none_or(|total| installing.length() >= total) => return Ok(()),
            Ok(()) => "the connection ended early".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(HttpsError::Cut {
            host: self.host.clone(),
            received: installing.length(),
            cause: cut,
        }
        .into())
    }

    /// Reads an answer's head, makes `installing` ready for the body, and tells the whole
    /// file's size if the server does.
    fn begin(
        &self,
        response: &Response<ureq::Body>,
        offset: u64,
        installing: &mut Installing,
    ) -> Result<Option<u64>, FetchError> {
        let headers = response.headers();
        match response.status() {
            StatusCode::OK => {
                // The file has changed, or the server does not resume.
                installing.restart()?;
                let size = response.body().content_length();
                installing.announce(size, 0)?;
                installing.note_validator(validator(headers))?;
                Ok(size.or(installing.expected_size()))
            }
            StatusCode::PARTIAL_CONTENT => match content_range(headers) {
                Some((start, total)) if start == offset && offset > 0 => {
                    installing.announce(Some(total), 0)?;
                    Ok(Some(total))
                }
                _ => {
                    installing.restart()?;
                    Err(self.nonsense("another part than was asked for").into())
                }
            },
            status => {
                if status == StatusCode::RANGE_NOT_SATISFIABLE {
                    installing.restart()?;
                }
                Err(HttpsError::Status {
                    host: self.host.clone(),
                    status: status.as_u16(),
                    reason: status.canonical_reason(),
                }
                .into())
            }
        }
    }

    fn nonsense(&self, why: &'static str) -> HttpsError {
        HttpsError::Protocol {
            host: self.host.clone(),
            why,
        }
    }
}

/// What identifies the file's version byte for byte: a strong `ETag`, else its date.
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
    text(ETAG)
        .filter(|tag| !tag.starts_with("W/"))
        .or_else(|| text(LAST_MODIFIED))
        .filter(|validator| validator.len() <= 1024)
}

/// First byte and total of `bytes FIRST-LAST/TOTAL`.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.parse().ok()?, total.parse().ok()?))
}

/// The innermost cause says most.
fn cause(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "its name cannot be resolved".to_owned(),
        ureq::Error::Timeout(_) => "it does not answer in time".to_owned(),
        ureq::Error::RequireHttpsOnly(_) => "it leads to an address without TLS".to_owned(),
        other => other.to_string(),
    }
}
