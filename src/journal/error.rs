//! What can go wrong, by who must act.

use std::fmt;

use super::medium::MediumError;

/// Why the journal did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalError {
    /// Wait: the medium is full. The same batch can be committed once there is room.
    Full,
    /// Refuse: the record or batch is larger than a segment takes.
    TooLarge,
    /// Repair: writing failed twice in a row, so nothing more is written until a restart. What was acknowledged is
    /// there, and is served.
    ReadOnly(MediumError),
    /// Stop: the folder was written by a newer version of this program.
    NewerFormat {
        /// The file.
        file: String,
        /// Its version.
        version: u32,
    },
    /// Stop: the folder is of another environment.
    OtherEnvironment {
        /// Which one.
        found: String,
        /// Which one it should be.
        wanted: String,
    },
    /// Stop: the batch does not follow the last one. A fault of this program.
    OutOfStep,
    /// The medium did not let itself be read.
    Medium(MediumError),
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the journal is full: wait for room, or give it more"),
            Self::TooLarge => f.write_str("the record is larger than the journal takes"),
            Self::ReadOnly(_) => f.write_str(
                "the journal is read-only after two failed writes: check the medium, then restart",
            ),
            Self::NewerFormat { file, version } => write!(
                f,
                "{file} has format {version}, this version reads up to {}: run the version that wrote it",
                super::segment::VERSION
            ),
            Self::OtherEnvironment { found, wanted } => write!(
                f,
                "is of environment \"{}\", the configuration says \"{wanted}\": move it back to where it was made",
                found.escape_debug()
            ),
            Self::OutOfStep => f.write_str("a batch does not follow the last one: please report this"),
            Self::Medium(_) => f.write_str("the journal's folder cannot be read"),
        }
    }
}

impl std::error::Error for JournalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::ReadOnly(error) | Self::Medium(error) => Some(error),
            Self::Full
            | Self::TooLarge
            | Self::NewerFormat { .. }
            | Self::OtherEnvironment { .. }
            | Self::OutOfStep => None,
        }
    }
}

impl From<MediumError> for JournalError {
    fn from(error: MediumError) -> Self {
        Self::Medium(error)
    }
}
