//! Why the database did not do what was asked of it.

use std::io;

/// Why the database did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// The uid has no such conversation.
    #[error("there is no such conversation")]
    NotFound,
    /// Another conversation of the uid has the name.
    #[error("another of your conversations has this name")]
    NameTaken,
    /// A bound on what one uid may store.
    #[error("{0}")]
    Quota(String),
    /// The database can't be what hobd wrote.
    #[error("the database of conversations is damaged")]
    Damaged,
    /// A later version of hob wrote it.
    #[error("the database of conversations is of a later version of hob")]
    TooNew,
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// The database could not be opened; why.
    #[error("{0}")]
    Closed(String),
    /// The folder can't be used.
    #[error("the folder of conversations can't be used: {0}")]
    Folder(#[from] io::Error),
    /// SQLite's own refusal. Its message may repeat text of a query, never of a parameter.
    #[error("{}", plain(.0))]
    Sqlite(#[from] rusqlite::Error),
}

impl StoreError {
    /// Whether the database is damaged, and a new one must take its place.
    pub(super) fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode;
        match self {
            Self::Damaged => true,
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ),
            _ => false,
        }
    }

    /// Whether the disk or the database is at fault, rather than the request.
    pub(super) fn is_fault(&self) -> bool {
        !matches!(self, Self::NotFound | Self::NameTaken | Self::Quota(_))
    }
}

/// What SQLite's refusal means, in words for people.
fn plain(error: &rusqlite::Error) -> String {
    use rusqlite::ErrorCode;
    let words = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "the database of conversations can't be written"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process uses the database of conversations"
        }
        Some(ErrorCode::CannotOpen) => "the database of conversations can't be opened",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "the database of conversations is damaged"
        }
        Some(ErrorCode::SystemIoFailure) => "the disk fails",
        _ => {
            let code = error.sqlite_error().map_or(0, |error| error.extended_code);
            return format!("the database of conversations fails (SQLite's code {code})");
        }
    };
    words.to_owned()
}
