//! What tells one state of a file from the next without reading it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

/// Time of change, length and inode; `None`: the file cannot be examined.
pub type Stamp = Option<(SystemTime, u64, u64)>;

/// Examines a file.
pub fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}
