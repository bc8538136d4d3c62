//! Files that a command makes in a folder of the service, perhaps as root.
//!
//! The folder belongs to the service's user. Who got hold of that user could put a link to any file of the machine where
//! root is about to write, so nothing is opened through one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Opens a file that stays, with these options; if it is made, only its owner may read it.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Without waiting: a pipe in its place would hold up whoever opens it.
    let opened = options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP | libc::ENXIO) => not_ours(path),
        _ => error,
    })?;
    let found = file.metadata()?;
    if found.is_file() && found.nlink() == 1 { Ok(file) } else { Err(not_ours(path)) }
}

/// Makes a file that only its owner may read. What is left over in its place, or put there, goes.
pub fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn not_ours(path: &Path) -> io::Error {
    let sentence = format!(
        "{} is a link or no file, and nothing is written through it: find out who put it there, remove it, and do this again",
        path.display()
    );
    io::Error::new(io::ErrorKind::InvalidInput, sentence)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        options
    }

    /// A file of somebody else, which must stay as it is.
    struct Theirs {
        folder: tempfile::TempDir,
        mode: u32,
    }

    impl Theirs {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let theirs = Self { folder, mode: 0o640 };
            fs::write(theirs.path(), "root:x").unwrap();
            fs::set_permissions(theirs.path(), fs::Permissions::from_mode(theirs.mode)).unwrap();
            theirs
        }

        fn path(&self) -> std::path::PathBuf {
            self.folder.path().join("shadow")
        }

        fn is_untouched(&self) -> bool {
            let mode = fs::metadata(self.path()).unwrap().permissions().mode() & 0o777;
            fs::read_to_string(self.path()).unwrap() == "root:x" && mode == self.mode
        }
    }

    #[test]
    fn nothing_is_opened_through_a_link_or_instead_of_a_file() {
        let theirs = Theirs::new();
        let place = theirs.folder.path().join("ours");
        let refused = || open(&place, &mut options()).unwrap_err().to_string();
        symlink(theirs.path(), &place).unwrap();
        assert!(refused().contains("is a link or no file") && refused().contains("remove it"));
        fs::remove_file(&place).unwrap();
        fs::hard_link(theirs.path(), &place).unwrap();
        // Truncating would be too late to notice.
        assert!(open(&place, OpenOptions::new().write(true)).is_err());
        fs::remove_file(&place).unwrap();
        let listener = UnixListener::bind(&place).unwrap();
        assert!(refused().contains("is a link or no file"));
        drop(listener);
        fs::remove_file(&place).unwrap();
        symlink(theirs.folder.path().join("nothing"), &place).unwrap();
        assert!(refused().contains("is a link or no file"), "a link to nothing would make a file elsewhere");
        assert!(theirs.is_untouched());
    }

    #[test]
    fn what_is_left_in_the_place_of_a_new_file_goes() {
        let theirs = Theirs::new();
        let place = theirs.folder.path().join("ours.tmp");
        symlink(theirs.path(), &place).unwrap();
        let made = create(&place).unwrap();
        assert!(made.metadata().unwrap().is_file() && !place.is_symlink());
        assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(create(&place).is_ok(), "a left-over of a crash");
        assert!(theirs.is_untouched());
    }
}
