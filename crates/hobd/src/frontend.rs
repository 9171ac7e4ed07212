//! The front doors: HTTP on a Unix socket, and D-Bus. Both read into `crate::request`'s types,
//! hand them to [`crate::daemon`], and encode the events that come back; neither decides
//! anything else.

pub mod dbus;
pub mod error;
pub mod http;

use hob_api::{ApiError, ErrorCode, Event};

/// `event` as one line of JSON, its newline included: the record of both doors' event streams.
pub fn event_line(event: &Event) -> Vec<u8> {
    json_line(event).unwrap_or_else(|_| {
        let error = ApiError::new(ErrorCode::Internal, "an event could not be encoded");
        // Strings and integers alone always encode; an empty line would be harmless besides.
        json_line(&Event::Error { error }).unwrap_or_default()
    })
}

fn json_line(event: &Event) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_its_text() {
        let event = Event::Delta {
            text: "two\nlines \u{2028} and a \"quote\"".to_owned(),
        };
        let line = event_line(&event);
        assert_eq!(line.split(|&byte| byte == b'\n').count(), 2);
        assert_eq!(line.last(), Some(&b'\n'));
        assert_eq!(serde_json::from_slice::<Event>(&line).unwrap(), event);
    }

    #[test]
    fn figures_that_json_lacks_do_not_spoil_the_line() {
        let event = Event::Done(hob_api::event::Done {
            reason: hob_api::event::FinishReason::Stop,
            usage: hob_api::event::Usage::new(1, 0, 1),
            timings: hob_api::event::Timings {
                decode_per_second: f64::INFINITY,
                ..Default::default()
            },
            model: "m".to_owned(),
            kept: None,
            home: None,
        });
        let line: serde_json::Value = serde_json::from_slice(&event_line(&event)).unwrap();
        assert_eq!(line["type"], "done");
        assert!(line["timings"]["decode_per_second"].is_null());
    }
}
