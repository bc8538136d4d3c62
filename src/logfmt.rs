//! Values of log lines, which are `key=value` on one line.

use std::fmt::{self, Display, Write as _};

/// A value in quotes, with quotes, backslashes and control characters inside escaped: what peers and files bring ends
/// up in logs and must not look like another key or another line.
pub struct Quoted<T>(pub T);

impl<T: Display> Display for Quoted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        write!(Escaping(f), "{}", self.0)?;
        f.write_char('"')
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if character == '"' || character == '\\' || character.is_control() {
                write!(self.0, "{}", character.escape_default())?;
            } else {
                self.0.write_char(character)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_quotes() {
        assert_eq!(Quoted("a \"b\" \\ é\n\u{1b}[0m").to_string(), r#""a \"b\" \\ é\n\u{1b}[0m""#);
    }
}
