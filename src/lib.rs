//! iotsocketd: an IoTSocket concentrator for small Linux gateways.

pub mod limits;
pub mod wire;
