//! The one table of errors: what each [`ErrorCode`] is called on HTTP and on D-Bus.

use hob_api::ErrorCode;

/// How an error code looks at the two doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appearance {
    /// The HTTP status.
    pub status: u16,
    /// The D-Bus error's name.
    pub dbus_name: &'static str,
    /// Whether the same request may well succeed a little later. `OpenAI`'s clients would repeat
    /// any answer of 500 or above by themselves; the header `x-should-retry` tells them not to,
    /// because a request that ended the engine once may do it again.
    pub retry: bool,
}

/// The table. 499 is nginx's "client closed request": HTTP has no status of its own for an answer
/// that was cancelled.
///
/// Codes for which D-Bus has a standard name use that; bindings know it. hob's own names are
/// below [`hob_api::dbus::ERROR_PREFIX`].
pub fn appearance(code: ErrorCode) -> Appearance {
    let (status, dbus_name) = match code {
        ErrorCode::InvalidRequest => (400, "org.freedesktop.DBus.Error.InvalidArgs"),
        ErrorCode::InvalidSchema => (400, "org.hobd.Hob1.Error.InvalidSchema"),
        ErrorCode::Unsupported => (400, "org.freedesktop.DBus.Error.NotSupported"),
        ErrorCode::PayloadTooLarge => (413, "org.freedesktop.DBus.Error.LimitsExceeded"),
        ErrorCode::RequestTimeout => (408, "org.freedesktop.DBus.Error.Timeout"),
        ErrorCode::NotFound => (404, "org.freedesktop.DBus.Error.UnknownObject"),
        ErrorCode::ModelNotFound => (404, "org.freedesktop.DBus.Error.FileNotFound"),
        ErrorCode::ConversationNotFound => (404, "org.hobd.Hob1.Error.ConversationNotFound"),
        ErrorCode::QuotaExceeded => (507, "org.hobd.Hob1.Error.QuotaExceeded"),
        ErrorCode::NoHub => (409, "org.hobd.Hob1.Error.NoHub"),
        ErrorCode::AccessDenied => (403, "org.freedesktop.DBus.Error.AccessDenied"),
        ErrorCode::NotReady => (503, "org.hobd.Hob1.Error.NotReady"),
        ErrorCode::Busy => (429, "org.hobd.Hob1.Error.Busy"),
        ErrorCode::ContextOverflow => (400, "org.hobd.Hob1.Error.ContextOverflow"),
        ErrorCode::Cancelled => (499, "org.hobd.Hob1.Error.Cancelled"),
        ErrorCode::DeadlineExceeded => (504, "org.hobd.Hob1.Error.DeadlineExceeded"),
        ErrorCode::EngineLost => (502, "org.hobd.Hob1.Error.EngineLost"),
        ErrorCode::InsufficientMemory => (507, "org.hobd.Hob1.Error.InsufficientMemory"),
        ErrorCode::ModelFailed => (500, "org.hobd.Hob1.Error.ModelFailed"),
        // `Internal`, and a code that hob-api knows and this table does not: the test below
        // fails for the latter.
        _ => (500, "org.freedesktop.DBus.Error.Failed"),
    };
    Appearance {
        status,
        dbus_name,
        retry: matches!(code, ErrorCode::Busy | ErrorCode::NotReady),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_has_its_own_name_and_an_error_status() {
        let mut names = HashSet::new();
        for code in ErrorCode::ALL {
            let Appearance {
                status, dbus_name, ..
            } = appearance(code);
            assert!((400..600).contains(&status), "{code:?}: {status}");
            assert!(names.insert(dbus_name), "{code:?} shares {dbus_name}");
            assert!(
                dbus_name.starts_with(hob_api::dbus::ERROR_PREFIX)
                    || dbus_name.starts_with("org.freedesktop.DBus.Error."),
                "{code:?}: {dbus_name}"
            );
        }
    }

    #[test]
    fn only_a_fault_of_hob_itself_is_nameless() {
        for code in ErrorCode::ALL {
            let nameless = appearance(code).dbus_name == "org.freedesktop.DBus.Error.Failed";
            assert_eq!(nameless, code == ErrorCode::Internal, "{code:?}");
        }
    }
}
