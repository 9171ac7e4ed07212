//! What stands in a path.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;

/// A name in a path, or what is wrong with it.
pub(super) type Name = Result<Path<String>, PathRejection>;

/// The name. A path that is not UTF-8 has an empty one, which nothing has.
pub(super) fn name(path: Name) -> String {
    path.map_or_else(|_| String::new(), |Path(name)| name)
}
