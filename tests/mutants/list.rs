//! The list of mutants: blocks of a name and a file, the text that is replaced, and what takes its place.
//!
//! ```text
//! # anything up to the first block is a remark
//! ==== name of the mutant: src/journal/writer.rs
//! exact text, one or more lines
//! ---- becomes
//! other text, perhaps none
//! ```
//!
//! A text starts anywhere and ends with its last line's last character.

/// One change of one file.
#[derive(Debug, PartialEq, Eq)]
pub struct Mutant {
    /// What is wrong with it.
    pub name: String,
    /// From the package's root.
    pub file: String,
    /// What stands there.
    pub was: String,
    /// What stands there instead.
    pub becomes: String,
}

const HEAD: &str = "==== ";
const MIDDLE: &str = "---- becomes";

/// Reads the list. The error says what is wrong with which block.
pub fn parse(text: &str) -> Result<Vec<Mutant>, String> {
    let mut mutants: Vec<Mutant> = Vec::new();
    for block in format!("\n{text}").split(&format!("\n{HEAD}")).skip(1) {
        let (head, body) = block.split_once('\n').ok_or_else(|| format!("{block:?} has no text"))?;
        let (name, file) = head.rsplit_once(": ").ok_or_else(|| format!("{head:?} names no file"))?;
        let (was, becomes) =
            body.split_once(&format!("\n{MIDDLE}")).ok_or_else(|| format!("{name}: no line {MIDDLE:?}"))?;
        let trim = |text: &str| text.trim_matches('\n').to_owned();
        let mutant =
            Mutant { name: name.to_owned(), file: file.to_owned(), was: trim(was), becomes: trim(becomes) };
        if mutant.was == mutant.becomes || mutant.was.trim().is_empty() {
            return Err(format!("{name}: changes nothing"));
        }
        if mutants.iter().any(|other| other.name == mutant.name) {
            return Err(format!("{name}: there are two of that name"));
        }
        mutants.push(mutant);
    }
    Ok(mutants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_with_their_lines() {
        let text = "a remark\n\n==== one: it: a.rs\n  x();\n  y();\n---- becomes\n  y();\n\n==== two: b.rs\nz\n---- becomes\n";
        let mutants = parse(text).unwrap();
        assert_eq!(mutants.len(), 2);
        assert_eq!((mutants[0].name.as_str(), mutants[0].file.as_str()), ("one: it", "a.rs"));
        assert_eq!((mutants[0].was.as_str(), mutants[0].becomes.as_str()), ("  x();\n  y();", "  y();"));
        assert_eq!((mutants[1].was.as_str(), mutants[1].becomes.as_str()), ("z", ""));
    }

    #[test]
    fn a_block_that_says_nothing_is_refused() {
        for text in
            ["==== a: b\nx\n", "==== a b\nx\n---- becomes\ny", "==== a: b\nx\n---- becomes\nx\n", "==== a: b"]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let twice = "==== a: b\nx\n---- becomes\ny\n".repeat(2);
        assert!(parse(&twice).unwrap_err().contains("two"));
    }
}
