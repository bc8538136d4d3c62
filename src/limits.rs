//! Every capacity of the program, and how they relate. Times and sizes that users set are in the configuration.

use crate::wire::TRANSMISSION_MAX;

/// Items of an access list at most, however it comes.
pub const ACL_ITEMS_MAX: usize = 20_000;

/// Bytes of an access list file: every item with its longest names, escaped, and some blanks.
pub const ACL_FILE_MAX: usize = ACL_ITEMS_MAX * 400;

/// A buffer for the start of a transmission larger than this is given back once the transmission was handled.
pub const PARTIAL_KEPT_MAX: usize = 512;

/// Memory of what waits to be written to one peer at most, bytes and their marks; above, requests to it are answered "not found".
pub const OUTGOING_MAX: usize = 256 * 1024;
const _: () = assert!(OUTGOING_MAX > 2 * TRANSMISSION_MAX, "a queue must take the largest transmission");

/// Descriptors that connections leave to everything else: the journal, backups, webhooks, subscribers, the commands' socket,
/// and clients that are just told that there is no place.
pub const DESCRIPTORS_KEPT: u64 = 192;

/// Telemetry tokens of one object that are valid at a time; the oldest makes room.
pub const TOKENS_PER_OBJECT_MAX: usize = 8;

/// Requests of one object that await the central's answer.
pub const ASKED_PER_OBJECT_MAX: usize = 1024;

/// Requests of all objects that await the central's answer.
pub const ASKED_MAX: usize = 65_536;
const _: () = assert!(ASKED_PER_OBJECT_MAX * 8 <= ASKED_MAX, "one object must not take the whole");

/// Bytes of records that are not on flash yet; above, telemetry is dropped and counted: flash is slower than the input.
pub const JOURNAL_PENDING_MAX: usize = 8 * 1024 * 1024;

/// Bytes of messages that stay in memory once they are on flash, for destinations that keep up.
pub const JOURNAL_TAIL_MAX: usize = 4 * 1024 * 1024;

/// Telemetry is queued for the central's session while less than this waits to be written to it: enough to keep
/// the connection busy, little enough to leave room for calls.
pub const TELEMETRY_WINDOW: usize = 128 * 1024;
const _: () =
    assert!(TELEMETRY_WINDOW + TRANSMISSION_MAX < OUTGOING_MAX, "telemetry must leave room for calls");

/// Subscribers at most: each has a thread of its own.
pub const SUBSCRIBERS_MAX: usize = 64;
