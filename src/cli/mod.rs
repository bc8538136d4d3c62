//! Commands.

pub mod demo_view;
pub mod simulate;
pub mod span;
pub mod table;
