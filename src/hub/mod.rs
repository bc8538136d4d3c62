//! The one owner of router, journal and delivery, and what dispatches their effects to connections.

pub mod access_file;
