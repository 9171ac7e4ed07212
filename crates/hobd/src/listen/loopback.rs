//! The socket on loopback: systemd's, or one of our own.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};

use rustix::io::Errno;
use tokio::net::TcpListener;

use super::ListenError;

/// The socket at `wanted`: the one that was handed over, which must be there, else a new one.
pub(super) fn open(
    handed_over: Option<StdTcpListener>,
    wanted: Option<SocketAddr>,
) -> Result<Option<TcpListener>, ListenError> {
    let Some(address) = wanted else {
        return match handed_over {
            None => Ok(None),
            Some(_) => Err(ListenError::Activation(
                "a TCP socket was handed over, and http.listen is \"off\"".to_owned(),
            )),
        };
    };
    let failed = |source| ListenError::Loopback { address, source };
    let listener = match handed_over {
        Some(listener) => {
            // systemd listens wherever its unit says; what was checked is the setting.
            let at = listener.local_addr().map_err(failed)?;
            if at != address {
                let text = format!("it listens on {at}, and http.listen is {address}");
                return Err(ListenError::Activation(text));
            }
            listener
        }
        None => StdTcpListener::bind(address).map_err(failed)?,
    };
    listener.set_nonblocking(true).map_err(failed)?;
    TcpListener::from_std(listener).map(Some).map_err(failed)
}

/// What to do about a socket that can't be had.
pub(super) fn hint(error: &io::Error) -> &'static str {
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    if is(Errno::AFNOSUPPORT) {
        "; hobd's unit lets it have no network: `systemctl enable --now hobd-loopback.socket` hands \
         it the socket"
    } else if is(Errno::ADDRINUSE) {
        "; another program listens there: stop it, or choose another port"
    } else if is(Errno::ACCESS) {
        "; ports below 1024 are root's: choose another, or let hobd-loopback.socket hand it over"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::*;

    fn bound() -> (StdTcpListener, SocketAddr) {
        let listener = StdTcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn a_socket_is_the_one_that_the_settings_want() {
        assert!(open(None, None).unwrap().is_none());
        let (listener, address) = bound();
        let opened = open(Some(listener), Some(address)).unwrap().unwrap();
        assert_eq!(opened.local_addr().unwrap(), address);
        drop(opened);
        let opened = open(None, Some(address)).unwrap().unwrap();
        assert_eq!(opened.local_addr().unwrap(), address);
    }

    #[tokio::test]
    async fn any_other_socket_is_refused() {
        let (listener, _) = bound();
        let error = open(Some(listener), None).unwrap_err();
        assert!(matches!(error, ListenError::Activation(_)));
        let (listener, _) = bound();
        let elsewhere = "127.0.0.1:1".parse().unwrap();
        let error = open(Some(listener), Some(elsewhere)).unwrap_err();
        assert!(error.to_string().contains("http.listen is 127.0.0.1:1"));
        let everywhere = StdTcpListener::bind("0.0.0.0:0").unwrap();
        let port = everywhere.local_addr().unwrap().port();
        let wanted = SocketAddr::from(([127, 0, 0, 1], port));
        assert!(open(Some(everywhere), Some(wanted)).is_err());
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_a_hint() {
        let (_listener, address) = bound();
        let error = open(None, Some(address)).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        assert!(
            error.ends_with("stop it, or choose another port"),
            "{error}"
        );
    }
}
