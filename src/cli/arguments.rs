//! What commands have in common on the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::Arg;

use super::Failure;
use crate::service::config::{Config, DEFAULT_PATH, Environment, nearest};

/// The arguments of a command.
#[derive(Debug)]
pub(super) struct Arguments {
    /// What is no option, in order.
    pub words: Vec<OsString>,
    options: Vec<(&'static str, OsString)>,
}

impl Arguments {
    /// Takes at most so many words, and these options, each with a value and at most once.
    pub(super) fn parse(
        parser: lexopt::Parser,
        words_max: usize,
        known: &[&'static str],
    ) -> Result<Self, Failure> {
        Self::parse_all(parser, words_max, known, None).map(|(arguments, _)| arguments)
    }

    /// The same with a flag, an option without a value: whether it stands there.
    pub(super) fn parse_with_flag(
        parser: lexopt::Parser,
        words_max: usize,
        known: &[&'static str],
        flag: &'static str,
    ) -> Result<(Self, bool), Failure> {
        Self::parse_all(parser, words_max, known, Some(flag))
    }

    fn parse_all(
        mut parser: lexopt::Parser,
        words_max: usize,
        known: &[&'static str],
        flag: Option<&'static str>,
    ) -> Result<(Self, bool), Failure> {
        let usage = |error: lexopt::Error| Failure::Usage(error.to_string());
        let mut is_set = false;
        let mut arguments = Self { words: Vec::new(), options: Vec::new() };
        while let Some(argument) = parser.next().map_err(usage)? {
            match argument {
                Arg::Value(word) if arguments.words.len() < words_max => arguments.words.push(word),
                Arg::Value(word) => {
                    let word = word.to_string_lossy();
                    return Err(Failure::Usage(format!("`{}` is one word too many", word.escape_debug())));
                }
                Arg::Short(letter) => return Err(Failure::Usage(format!("there is no option `-{letter}`"))),
                Arg::Long(name) if flag == Some(name) => is_set = true,
                Arg::Long(name) => {
                    let Some(option) = known.iter().find(|option| **option == name) else {
                        return Err(Failure::Usage(unknown_option(name, known)));
                    };
                    if arguments.option(option).is_some() {
                        return Err(Failure::Usage(format!("`--{option}` stands there twice")));
                    }
                    arguments.options.push((option, parser.value().map_err(usage)?));
                }
            }
        }
        Ok((arguments, is_set))
    }

    /// The value of an option.
    pub(super) fn option(&self, name: &str) -> Option<&OsString> {
        self.options.iter().find(|(option, _)| *option == name).map(|(_, value)| value)
    }

    /// `--config`, or where the configuration usually is.
    pub(super) fn config_path(&self) -> PathBuf {
        self.option("config").map_or_else(|| PathBuf::from(DEFAULT_PATH), PathBuf::from)
    }

    /// The configuration of `--config`; the first mistake stands for all of them, `check` tells the others.
    pub(super) fn config(&self) -> Result<Config, Failure> {
        let (config, _warnings) = Config::load(&self.config_path()).map_err(|mistakes| {
            let first = mistakes.first().map(ToString::to_string).unwrap_or_default();
            let others = match mistakes.len() {
                0 | 1 => "",
                _ => " (`iotsocketd check` tells the others)",
            };
            Failure::Failed(format!("{first}{others}"))
        })?;
        Ok(config)
    }

    /// `--environment`, or production.
    pub(super) fn environment(&self) -> Result<Environment, Failure> {
        let Some(word) = self.option("environment") else { return Ok(Environment::Production) };
        let environment = word.to_str().and_then(Environment::from_name);
        environment
            .ok_or_else(|| Failure::Usage("`--environment` must be production, staging or test".to_owned()))
    }
}

fn unknown_option(name: &str, known: &[&'static str]) -> String {
    let name = name.escape_debug();
    match nearest(&name.to_string(), known.iter().copied()) {
        Some(meant) => format!("there is no option `--{name}`; did you mean `--{meant}`?"),
        None => format!("there is no option `--{name}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, Failure> {
        Arguments::parse(lexopt::Parser::from_args(words), 1, &["config", "environment"])
    }

    #[test]
    fn a_flag_has_no_value_and_stands_anywhere() {
        let parse = |words: &[&str]| {
            let parser = lexopt::Parser::from_args(words);
            Arguments::parse_with_flag(parser, 1, &["config"], "json").map(|(_, is_set)| is_set)
        };
        assert!(parse(&["word", "--json", "--config", "x"]).unwrap());
        assert!(!parse(&["--config", "--json"]).unwrap());
        assert!(parse(&["--json=yes"]).is_err());
    }

    fn usage(words: &[&str]) -> String {
        match parse(words) {
            Err(Failure::Usage(sentence)) => sentence,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_have_values_and_stand_anywhere() {
        let arguments = parse(&["--config=a.toml", "word"]).unwrap();
        assert_eq!(arguments.words, ["word"]);
        assert_eq!(arguments.config_path(), PathBuf::from("a.toml"));
        assert_eq!(parse(&["word", "--config", "b"]).unwrap().config_path(), PathBuf::from("b"));
        assert_eq!(parse(&[]).unwrap().config_path(), PathBuf::from(DEFAULT_PATH));
        assert_eq!(parse(&["--", "--config"]).unwrap().words, ["--config"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(usage(&["a", "b"]).contains("`b` is one word too many"));
        assert!(usage(&["--cnofig", "x"]).contains("did you mean `--config`?"));
        assert!(usage(&["--config", "x", "--config", "y"]).contains("twice"));
        assert!(usage(&["--config"]).contains("missing argument"));
        assert!(usage(&["-x"]).contains("no option `-x`"));
        assert!(parse(&["--environment", "prod"]).unwrap().environment().is_err());
        assert_eq!(parse(&[]).unwrap().environment().unwrap(), Environment::Production);
    }
}
