//! Owns the choice of the account that the server runs as: our own, or, since PostgreSQL refuses
//! root, an existing harmless one. A uid without an account is refused by PostgreSQL too.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::error::Error;

/// The account to run as; `None` inside = our own, nothing to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    dropped: Option<(u32, u32)>,
}

impl Account {
    /// `ours` is a file that this process has just made: its owner is our effective uid.
    pub(crate) fn choose(ours: &Metadata) -> Result<Self, Error> {
        if ours.uid() != 0 {
            return Ok(Self { dropped: None });
        }
        let passwd = Path::new("/etc/passwd");
        let text = std::fs::read_to_string(passwd).map_err(Error::file(passwd))?;
        let found = ["postgres", "nobody"].iter().find_map(|name| find(&text, name));
        Ok(Self { dropped: Some(found.ok_or(Error::NoAccount)?) })
    }

    /// Whether `uid` is the account, or ourselves.
    pub(crate) fn may_own(self, uid: u32, ours: u32) -> bool {
        uid == ours || self.dropped.is_some_and(|(account, _)| account == uid)
    }

    /// The command will run as the account; the standard library clears supplementary groups.
    pub(crate) fn apply(self, command: &mut Command) {
        if let Some((uid, gid)) = self.dropped {
            command.uid(uid).gid(gid);
        }
    }

    /// Gives one file or directory to the account.
    pub(crate) fn give(self, path: &Path) -> Result<(), Error> {
        match self.dropped {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)).map_err(Error::file(path)),
            None => Ok(()),
        }
    }

    /// Whether the account can reach what is in `directory`. Parents that do not exist yet will
    /// be made by us with the usual mode.
    pub(crate) fn can_reach(self, directory: &Path) -> bool {
        let Some((uid, gid)) = self.dropped else {
            return true;
        };
        directory.ancestors().filter_map(|parent| std::fs::metadata(parent).ok()).all(|parent| {
            let bit = if parent.uid() == uid {
                0o100
            } else if parent.gid() == gid {
                0o010
            } else {
                0o001
            };
            parent.mode() & bit != 0
        })
    }
}

/// The uid and gid of `name` in the text of a passwd file.
fn find(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let mut fields = line.split(':').skip(1);
    let ids = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    // An account with the rights of root is no escape from root.
    (ids.0 != 0).then_some(ids)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0::/:\npostgres2:x:9:9::/:\npostgres:x:101:104:a,b:/:/bin/sh\nbad:x:0:5::/:\n";
        assert_eq!(find(passwd, "postgres"), Some((101, 104)));
        assert_eq!(find(passwd, "nobody"), None);
        assert_eq!(find(passwd, "bad"), None);
    }

    #[test]
    fn a_private_parent_is_out_of_reach() {
        let account = Account { dropped: Some((65_533, 65_533)) };
        let closed = std::fs::Permissions::from_mode(0o700);
        let private = tempfile::Builder::new().permissions(closed).tempdir().unwrap();
        assert!(!account.can_reach(&private.path().join("a/b")));
        assert!(account.can_reach(Path::new("/var/tmp/servant-none")));
    }
}
