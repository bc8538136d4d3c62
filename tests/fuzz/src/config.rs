//! A configuration file: taken, or refused with a place for everything that is wrong.

use std::path::Path;

use iotsocketd::service::config::{Config, Examined, Given};

/// Any bytes as the configuration. The folder does not exist, so no file that it may name is read.
pub fn config(data: &[u8]) {
    let path = Path::new("/nonexistent/iotsocketd.toml");
    let Examined { config, mistakes, warnings, .. } = Config::parse(path, data.to_vec(), Given::default());
    assert!(config.is_some() || !mistakes.is_empty(), "refused without a reason");
    let lines = 1 + data.iter().filter(|byte| **byte == b'\n').count();
    for mistake in mistakes.iter().chain(&warnings) {
        assert!(!mistake.sentence.is_empty());
        if let Some((line, column)) = mistake.place {
            assert!((1..=lines).contains(&line) && (1..=data.len() + 1).contains(&column), "{mistake}");
        }
    }
}
