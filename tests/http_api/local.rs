//! The maintenance socket, and the command that asks it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use iotsocketd::cli::status::run_with;
use iotsocketd::endpoint::maintenance::{Maintenance, MaintenanceError};

use super::world::*;

#[test]
fn the_status_is_told_over_a_socket_that_only_owner_and_group_may_open() {
    let (world, folder) = (world(), tempfile::tempdir().unwrap());
    let path = folder.path().join("maintenance.sock");
    let maintenance = Maintenance::start(&path, Arc::clone(&world.api), None, None).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let elsewhere = folder.path().join("elsewhere.sock");
    let json = run_with(&[elsewhere, path.clone()], true).unwrap();
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["version"], "9.9");
    assert!(run_with(std::slice::from_ref(&path), false).unwrap().contains("iotsocketd 9.9"));
    drop(maintenance);
    assert!(!path.exists());
    assert!(run_with(&[path], true).unwrap_err().contains("no concentrator is running"));
}

#[test]
fn a_stale_socket_is_replaced_but_a_living_one_and_other_files_are_not() {
    let (world, folder) = (world(), tempfile::tempdir().unwrap());
    let path = folder.path().join("maintenance.sock");
    drop(UnixListener::bind(&path).unwrap());
    let start = || Maintenance::start(&path, Arc::clone(&world.api), None, None);
    let first = start().unwrap();
    assert!(matches!(start(), Err(MaintenanceError::InUse(_))));
    assert!(run_with(std::slice::from_ref(&path), true).is_ok(), "the first goes on");
    drop(first);
    fs::write(&path, "precious").unwrap();
    assert!(matches!(start(), Err(MaintenanceError::NotASocket(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}
