//! The token that opens the door over TCP: read once, and known by its digest alone from then on.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Fewest characters of a token: what `head -c 24 /dev/urandom | base64` writes, 192 bits.
const CHARS_MIN: usize = 32;
/// Most characters of a token.
const CHARS_MAX: usize = 512;

/// What shows that a client may ask.
pub struct Token {
    /// SHA-256 of it: two digests take the same time to compare whatever they are of.
    digest: [u8; 32],
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file can't be read.
    #[error("can't read {} (http.token_file): {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others can read the file, or change it.
    #[error(
        "{} (http.token_file) is {what}; make it hobd's own with mode 0600", .path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file holds something else.
    #[error(
        "{} (http.token_file) holds no token: it must be one line of {CHARS_MIN} to {CHARS_MAX} \
         visible ASCII characters; `head -c 32 /dev/urandom | base64` makes one", .0.display()
    )]
    Malformed(PathBuf),
}

impl Token {
    /// The token in the file at `path`. What lies in the folder `credentials`, if there is one, was
    /// put there by systemd for hobd alone; any other file must be private by its mode.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn read(path: &Path, credentials: Option<&Path>) -> Result<Self, TokenError> {
        let unreadable = |source| TokenError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            // A pipe would be waited for otherwise.
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .map_err(unreadable)?;
        let handed_over = credentials.is_some_and(|folder| path.parent() == Some(folder));
        if let Some(what) = exposure(&file, handed_over).map_err(unreadable)? {
            return Err(TokenError::Exposed {
                path: path.to_owned(),
                what,
            });
        }
        let mut text = String::new();
        let read = file.take(CHARS_MAX as u64 + 2).read_to_string(&mut text);
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(TokenError::Malformed(path.to_owned()));
            }
            Err(error) => return Err(unreadable(error)),
        }
        let token = text.strip_suffix('\n').unwrap_or(&text);
        let fits = (CHARS_MIN..=CHARS_MAX).contains(&token.len())
            && token.bytes().all(|byte| byte.is_ascii_graphic());
        if !fits {
            return Err(TokenError::Malformed(path.to_owned()));
        }
        Ok(Self {
            digest: Sha256::digest(token).into(),
        })
    }

    /// Whether `presented` is the token. How long this takes tells nothing of the token.
    pub fn is(&self, presented: &[u8]) -> bool {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        self.digest.ct_eq(&presented).into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// In which way the file is not hobd's alone.
fn exposure(file: &File, handed_over: bool) -> io::Result<Option<String>> {
    let about = file.metadata()?;
    if !about.is_file() {
        return Ok(Some("no ordinary file".to_owned()));
    }
    // Where it is an access list that lets hobd read a credential, the mode shows another.
    if handed_over {
        return Ok(None);
    }
    let owner = about.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Ok(Some(format!("the user {owner}'s")));
    }
    let mode = about.mode() & 0o777;
    Ok((mode & 0o077 != 0).then(|| format!("open to others (mode {mode:04o})")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const TOKEN: &str = "mR2tVx9JzQ4nHc7LsWb0KfYd8GpTa5Ee";

    fn with_file(text: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, text).unwrap();
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_token_is_known_and_nothing_else_is() {
        for text in [TOKEN.to_owned(), format!("{TOKEN}\n")] {
            let (_folder, path) = with_file(text.as_bytes(), 0o600);
            let token = Token::read(&path, None).unwrap();
            assert!(token.is(TOKEN.as_bytes()));
            for other in ["", &TOKEN[1..], &format!("{TOKEN} "), &TOKEN.to_lowercase()] {
                assert!(!token.is(other.as_bytes()), "{other}");
            }
            assert_eq!(format!("{token:?}"), "Token");
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in [
            String::new(),
            TOKEN[1..].to_owned(),
            format!("{TOKEN}\n\n"),
            format!("{TOKEN} x"),
            format!("{TOKEN}é"),
            "x".repeat(CHARS_MAX + 1),
        ] {
            let (_folder, path) = with_file(text.as_bytes(), 0o600);
            let error = Token::read(&path, None).unwrap_err();
            assert!(matches!(error, TokenError::Malformed(_)), "{error}");
        }
        let (_folder, path) = with_file(&[0xff; 40], 0o600);
        let error = Token::read(&path, None).unwrap_err();
        assert!(matches!(error, TokenError::Malformed(_)), "{error}");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_unless_systemd_made_it() {
        for mode in [0o640, 0o604, 0o622, 0o610] {
            let (folder, path) = with_file(TOKEN.as_bytes(), mode);
            let error = Token::read(&path, None).unwrap_err();
            assert!(matches!(error, TokenError::Exposed { .. }), "{error}");
            assert!(
                error.to_string().contains(&format!("{mode:04o}")),
                "{error}"
            );
            let elsewhere = Path::new("/run/credentials/hobd.service");
            assert!(Token::read(&path, Some(elsewhere)).is_err());
            assert!(Token::read(&path, Some(folder.path())).is_ok());
        }
        assert!(matches!(
            Token::read(Path::new("/dev/null"), None),
            Err(TokenError::Exposed { .. })
        ));
        assert!(matches!(
            Token::read(Path::new("/nowhere/token"), None),
            Err(TokenError::Unreadable { .. })
        ));
    }
}
