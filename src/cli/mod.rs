//! Commands: `iotsocketd COMMAND [--config FILE]`.
//!
//! [`main`] finds the command in a table and runs it; each command is a file with its `HELP` and its `run`.
//! Exit: 0 on success, 1 on failure with one sentence on stderr, 2 on wrong usage. Only `output` prints.

mod apikey;
mod arguments;
mod audit;
mod backup;
mod check;
mod demo;
mod device;
mod export;
mod import;
mod init;
mod log_lines;
mod machine;
mod maintenance_client;
mod messages;
mod output;
mod progress;
mod recall;
mod remap;
mod run;
pub mod simulate;
mod site;
pub mod status;
mod storage_test;
mod subscribers;
mod support;
pub mod table;
mod template;
mod upgrade;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::service::config::nearest;

/// Why a command ends without success.
#[derive(Debug)]
pub enum Failure {
    /// It was called wrongly: exit 2.
    Usage(String),
    /// It could not do its work: exit 1.
    Failed(String),
}

/// One command.
struct Command {
    name: &'static str,
    summary: &'static str,
    help: &'static str,
    run: fn(lexopt::Parser) -> Result<(), Failure>,
}

/// In the order of the help.
const COMMANDS: &[Command] = &[
    Command { name: "run", summary: run::SUMMARY, help: run::HELP, run: run::run },
    Command { name: "demo", summary: demo::SUMMARY, help: demo::HELP, run: demo::run },
    Command { name: "init", summary: init::SUMMARY, help: init::HELP, run: init::run },
    Command { name: "check", summary: check::SUMMARY, help: check::HELP, run: check::run },
    Command { name: "device", summary: device::SUMMARY, help: device::HELP, run: device::run },
    Command { name: "apikey", summary: apikey::SUMMARY, help: apikey::HELP, run: apikey::run },
    Command { name: "import", summary: import::SUMMARY, help: import::HELP, run: import::run },
    Command { name: "simulate", summary: simulate::SUMMARY, help: simulate::HELP, run: simulate::run },
    Command { name: "messages", summary: messages::SUMMARY, help: messages::HELP, run: messages::run },
    Command {
        name: "trace",
        summary: messages::TRACE_SUMMARY,
        help: messages::TRACE_HELP,
        run: messages::run_trace,
    },
    Command {
        name: "deadletters",
        summary: subscribers::DEAD_SUMMARY,
        help: subscribers::DEAD_HELP,
        run: subscribers::run_dead_letters,
    },
    Command {
        name: "replay",
        summary: subscribers::REPLAY_SUMMARY,
        help: subscribers::REPLAY_HELP,
        run: subscribers::run_replay,
    },
    Command { name: "remap", summary: remap::SUMMARY, help: remap::HELP, run: remap::run },
    Command { name: "export", summary: export::SUMMARY, help: export::HELP, run: export::run },
    Command { name: "audit", summary: audit::SUMMARY, help: audit::HELP, run: audit::run },
    Command { name: "backup", summary: backup::SUMMARY, help: backup::HELP, run: backup::run },
    Command {
        name: "verify",
        summary: backup::VERIFY_SUMMARY,
        help: backup::VERIFY_HELP,
        run: backup::run_verify,
    },
    Command {
        name: "restore",
        summary: backup::RESTORE_SUMMARY,
        help: backup::RESTORE_HELP,
        run: backup::run_restore,
    },
    Command { name: "why", summary: why::SUMMARY, help: why::HELP, run: why::run },
    Command { name: "support-bundle", summary: support::SUMMARY, help: support::HELP, run: support::run },
    Command {
        name: "storage-test",
        summary: storage_test::SUMMARY,
        help: storage_test::HELP,
        run: storage_test::run,
    },
    Command { name: "upgrade", summary: upgrade::SUMMARY, help: upgrade::HELP, run: upgrade::run },
    Command { name: "status", summary: status::SUMMARY, help: status::HELP, run: status::run },
];

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    match dispatch(std::env::args_os().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(sentence)) => {
            output::complain(&format!("iotsocketd: {sentence}"));
            ExitCode::from(1)
        }
        Err(Failure::Usage(sentence)) => {
            output::complain(&format!("iotsocketd: {sentence}"));
            ExitCode::from(2)
        }
    }
}

fn dispatch(mut arguments: Vec<OsString>) -> Result<(), Failure> {
    if arguments.is_empty() {
        return Err(Failure::Usage("which command? `iotsocketd --help` lists them".to_owned()));
    }
    let first = arguments.remove(0);
    match first.to_str().unwrap_or_default() {
        "--help" | "-h" => {
            output::say(&overview());
            return Ok(());
        }
        "--version" | "-V" => {
            output::say(&format!("iotsocketd {}", env!("CARGO_PKG_VERSION")));
            return Ok(());
        }
        _ => {}
    }
    let name = first.to_string_lossy();
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return Err(Failure::Usage(unknown_command(&name)));
    };
    if asks_for_help(&arguments) {
        output::say(command.help.trim_end());
        return Ok(());
    }
    (command.run)(lexopt::Parser::from_args(arguments)).map_err(|failure| match failure {
        Failure::Usage(sentence) => {
            Failure::Usage(format!("{sentence}; see `iotsocketd {} --help`", command.name))
        }
        failed => failed,
    })
}

/// `--help` helps wherever it stands, except behind `--`.
fn asks_for_help(arguments: &[OsString]) -> bool {
    arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument == "--help" || argument == "-h")
}

fn unknown_command(name: &str) -> String {
    let what = match name.starts_with('-') {
        true => format!("`{}` comes behind a command", name.escape_debug()),
        false => format!("there is no command `{}`", name.escape_debug()),
    };
    match nearest(name, COMMANDS.iter().map(|command| command.name)) {
        Some(meant) => format!("{what}; did you mean `{meant}`?"),
        None => format!("{what}; `iotsocketd --help` lists them"),
    }
}

fn overview() -> String {
    let mut text = String::from(
        "iotsocketd: an IoTSocket concentrator\n\n\
         Usage: iotsocketd COMMAND [--config FILE]\n\n\
         Commands:\n",
    );
    for command in COMMANDS {
        text.push_str(&format!("  {:<14} {}\n", command.name, command.summary));
    }
    text.push_str(
        "\nOptions:\n  --help     this text; behind a command, what it does and an example\n  \
         --version  the version\n\n\
         Example:\n  iotsocketd init /etc/iotsocketd && iotsocketd check",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_help_shows_usage_and_an_example_in_lines_that_fit() {
        for command in COMMANDS {
            let help = command.help;
            assert!(help.starts_with(&format!("Usage: iotsocketd {}", command.name)), "{help}");
            let example = help.split_once("Example:\n").expect(command.name).1;
            assert!(example.contains(&format!("iotsocketd {}", command.name)), "{help}");
            assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
            assert!(overview().contains(command.summary));
        }
    }

    #[test]
    fn wrong_commands_are_wrong_usage() {
        let usage = |words: &[&str]| match dispatch(words.iter().map(OsString::from).collect()) {
            Err(Failure::Usage(sentence)) => sentence,
            other => panic!("{other:?}"),
        };
        assert!(usage(&[]).contains("which command?"));
        assert!(usage(&["chekc"]).contains("did you mean `check`?"));
        assert!(usage(&["frobnicate"]).contains("iotsocketd --help"));
        assert!(usage(&["--config", "x", "check"]).contains("comes behind a command"));
        assert!(usage(&["check", "--confg", "x"]).contains("see `iotsocketd check --help`"));
    }

    #[test]
    fn help_is_not_asked_for_behind_two_dashes() {
        assert!(asks_for_help(&["add".into(), "-h".into()]));
        assert!(!asks_for_help(&["add".into(), "--".into(), "-h".into()]));
    }
}
