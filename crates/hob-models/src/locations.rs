//! Where models, sockets, state and settings lie, for the board and for one user.

use std::path::{Path, PathBuf};

use directories::ProjectDirs;

/// Which bus, which socket and whose models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The whole board: system bus, `/run/hob/hob.sock`, `/var/lib/hob`.
    System,
    /// One user, without root: session bus, the user's own folders.
    User,
}

/// No home folder is known, so that there is no place for a user's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the user's home folder is not known; set HOME")]
pub struct NoHome;

/// The folder of installed models.
///
/// # Errors
/// In user scope, when no home folder is known.
pub fn models_dir(scope: Scope) -> Result<PathBuf, NoHome> {
    match scope {
        Scope::System => Ok(PathBuf::from("/var/lib/hob/models")),
        Scope::User => Ok(user()?.data_dir().join("models")),
    }
}

/// What `hob models COMMAND` needs behind it to work in this folder, with a blank in front: nothing
/// for the user's own models, `--system` for the board's.
pub fn models_option(folder: &Path) -> String {
    if models_dir(Scope::System).as_deref() == Ok(folder) {
        " --system".to_owned()
    } else if models_dir(Scope::User).as_deref() == Ok(folder) {
        String::new()
    } else {
        // Quoted as a shell takes it.
        let path = folder.display().to_string();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        if path.chars().all(plain) {
            format!(" --models-dir {path}")
        } else {
            format!(" --models-dir '{}'", path.replace('\'', r"'\''"))
        }
    }
}

/// The folder of hobd's database of conversations.
///
/// # Errors
/// In user scope, when no home folder is known.
pub fn conversations_dir(scope: Scope) -> Result<PathBuf, NoHome> {
    match scope {
        Scope::System => Ok(PathBuf::from("/var/lib/hob/conversations")),
        Scope::User => Ok(user()?.data_dir().join("conversations")),
    }
}

/// The folder of what users pinned.
///
/// # Errors
/// In user scope, when no home folder is known.
pub fn pins_dir(scope: Scope) -> Result<PathBuf, NoHome> {
    match scope {
        Scope::System => Ok(PathBuf::from("/var/lib/hob/pins")),
        Scope::User => Ok(user()?.data_dir().join("pins")),
    }
}

/// The folder of snapshots, which can be made again.
///
/// # Errors
/// In user scope, when no home folder is known.
pub fn snapshots_dir(scope: Scope) -> Result<PathBuf, NoHome> {
    match scope {
        Scope::System => Ok(PathBuf::from("/var/cache/hob/snapshots")),
        Scope::User => Ok(user()?.cache_dir().join("snapshots")),
    }
}

/// The user's folder of what audits of models measured, which can be measured again.
///
/// # Errors
/// When no home folder is known.
pub fn audits_dir() -> Result<PathBuf, NoHome> {
    Ok(user()?.cache_dir().join("fairness"))
}

/// The folder of what searches for smaller models measured.
///
/// # Errors
/// When no home folder is known.
pub fn trials_dir() -> Result<PathBuf, NoHome> {
    Ok(user()?.cache_dir().join("trials"))
}

/// The folder of what hobd measured on this board.
///
/// # Errors
/// In user scope, when no home folder is known.
pub fn tuning_dir(scope: Scope) -> Result<PathBuf, NoHome> {
    match scope {
        Scope::System => Ok(PathBuf::from("/var/lib/hob/tuning")),
        Scope::User => Ok(user_state(&user()?).join("tuning")),
    }
}

/// The Unix socket that hobd answers on.
///
/// Sessions without a runtime folder (a container, `su`) get the state folder's.
///
/// # Errors
/// In user scope, when no home folder is known.
pub fn socket_path(scope: Scope) -> Result<PathBuf, NoHome> {
    match scope {
        Scope::System => Ok(PathBuf::from("/run/hob/hob.sock")),
        Scope::User => {
            let user = user()?;
            let folder = match user.runtime_dir() {
                Some(runtime) => runtime.to_path_buf(),
                None => user_state(&user),
            };
            Ok(folder.join("hob.sock"))
        }
    }
}

/// The folder of what is worth keeping but can be lost, such as a chat's line history.
///
/// # Errors
/// In user scope, when no home folder is known.
pub fn state_dir(scope: Scope) -> Result<PathBuf, NoHome> {
    match scope {
        Scope::System => Ok(PathBuf::from("/var/lib/hob")),
        Scope::User => Ok(user_state(&user()?)),
    }
}

/// The folder of settings files.
///
/// # Errors
/// In user scope, when no home folder is known.
pub fn config_dir(scope: Scope) -> Result<PathBuf, NoHome> {
    match scope {
        Scope::System => Ok(PathBuf::from("/etc/hob")),
        Scope::User => Ok(user()?.config_dir().to_path_buf()),
    }
}

fn user() -> Result<ProjectDirs, NoHome> {
    ProjectDirs::from("", "", "hob").ok_or(NoHome)
}

/// Systems without a notion of state keep it with the data.
fn user_state(user: &ProjectDirs) -> PathBuf {
    user.state_dir()
        .map_or_else(|| user.data_dir().join("state"), Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_board_has_fixed_places() {
        assert_eq!(
            models_dir(Scope::System),
            Ok(PathBuf::from("/var/lib/hob/models"))
        );
        assert_eq!(
            socket_path(Scope::System),
            Ok(PathBuf::from("/run/hob/hob.sock"))
        );
        assert_eq!(state_dir(Scope::System), Ok(PathBuf::from("/var/lib/hob")));
        assert_eq!(config_dir(Scope::System), Ok(PathBuf::from("/etc/hob")));
    }

    #[test]
    fn commands_say_which_models_they_mean() {
        let option = |folder: &Path| models_option(folder);
        assert_eq!(option(Path::new("/var/lib/hob/models")), " --system");
        assert_eq!(
            models_dir(Scope::User).map(|own| option(&own)),
            Ok(String::new())
        );
        assert_eq!(option(Path::new("/a/b-1")), " --models-dir /a/b-1");
        assert_eq!(option(Path::new("/it's")), r" --models-dir '/it'\''s'");
    }

    #[test]
    fn a_users_places_are_absolute_and_named_hob() {
        for place in [
            models_dir(Scope::User),
            conversations_dir(Scope::User),
            pins_dir(Scope::User),
            snapshots_dir(Scope::User),
            tuning_dir(Scope::User),
            socket_path(Scope::User),
            state_dir(Scope::User),
            config_dir(Scope::User),
        ] {
            let is_hobs = |place: &PathBuf| place.iter().any(|part| part == "hob");
            assert!(
                place
                    .as_ref()
                    .is_ok_and(|place| place.is_absolute() && is_hobs(place)),
                "{place:?}"
            );
        }
        assert!(models_dir(Scope::User).is_ok_and(|place| place.ends_with("hob/models")));
        assert!(socket_path(Scope::User).is_ok_and(|place| place.ends_with("hob/hob.sock")));
    }
}
