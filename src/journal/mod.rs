//! What has to arrive, some time: the one way from input to output for messages.
//!
//! A message gets a sequence number and stays until every destination has it, or until it has to make room. What is
//! acknowledged is on the medium; nothing unacknowledged is said to be; the journal always starts.
//!
//! [`front`] takes what is appended and keeps the newest in memory; [`writer`] commits it, in [`record`]s, in batches, in
//! [`segment`]s (their bytes are described there), over a [`medium`]; [`recovery`] reads what there is at a start;
//! [`state`] is everything small that it adds up to. [`reader`] reads back by any condition from the [`catalog`] of a
//! commit, [`scrub`] all of it; [`retention`] says what goes, [`archive`] keeps it elsewhere; [`backup`] copies. All of it is synchronous and knows no
//! clock, no file, no thread: those are arguments.

pub mod archive;
pub mod audit;
pub mod backup;
pub mod catalog;
pub mod chain;
mod codec;
pub mod dead;
pub mod error;
pub mod front;
pub mod index;
pub mod look;
pub mod lost;
pub mod medium;
pub mod ranges;
pub mod reader;
pub mod record;
pub mod recovery;
pub mod retention;
pub mod scan;
pub mod scrub;
pub mod segment;
pub mod stamp;
pub mod state;
pub mod stored;
mod trace;
pub mod writer;

/// The position of a message: first 1, one more for each, never reused.
pub type Seq = u64;

/// What happens to a new message when the journal is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// The oldest message makes room, and is counted.
    DropOldest,
    /// The new message is refused, and counted.
    RefuseNew,
}

#[cfg(test)]
pub(crate) mod tests;
