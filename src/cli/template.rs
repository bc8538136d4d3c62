//! The shipped configuration with some values changed: what `init` and `import` write.

use super::Failure;
use crate::service::config::Environment;

const SHIPPED: &str = include_str!("../../config/iotsocketd.toml");

/// The lines of the shipped configuration.
pub(super) struct Template {
    lines: Vec<String>,
}

impl Template {
    /// The shipped configuration, its state in a folder beside it.
    pub(super) fn new(environment: Environment) -> Result<Self, Failure> {
        let mut template = Self { lines: SHIPPED.lines().map(str::to_owned).collect() };
        template.set("", "environment", &quote(environment.name()))?;
        template.set("", "state_dir", &quote("state"))?;
        Ok(template)
    }

    /// Gives a key its value (as TOML), its comment stays; what is commented out begins to count.
    pub(super) fn set(&mut self, section: &str, key: &str, value: &str) -> Result<(), Failure> {
        let (header, body) = self.section(section)?;
        let assignment = format!("{key} = ");
        let found = self.lines.get_mut(body..).unwrap_or_default().iter_mut();
        let found = found.take_while(|line| !line.trim_start_matches('#').starts_with('['));
        let mut found = found.filter(|line| line.trim_start_matches('#').starts_with(&assignment));
        let Some(line) = found.next() else { return Err(no_such(section, key)) };
        let comment = line.split_once("  # ").map(|(_, comment)| format!("  # {comment}"));
        *line = format!("{assignment}{value}{}", comment.unwrap_or_default());
        if let Some(line) = header.and_then(|header| self.lines.get_mut(header)) {
            *line = line.trim_start_matches('#').to_owned();
        }
        Ok(())
    }

    /// Takes these tables in place of the groups.
    pub(super) fn set_groups(&mut self, tables: &[String]) -> Result<(), Failure> {
        let (first, _) = self.section("groups.Devices")?;
        let first = first.unwrap_or_default();
        let is_group = |line: &String| line.starts_with("[groups.");
        let last = self.lines.iter().rposition(is_group).unwrap_or(first);
        let length = self.lines.iter().skip(last).position(String::is_empty).unwrap_or_default();
        self.lines.splice(first..last + length, [tables.join("\n\n")]);
        Ok(())
    }

    /// The whole file.
    pub(super) fn into_text(self) -> String {
        self.lines.join("\n") + "\n"
    }

    /// The lines of a section's header (the top has none) and of what is behind it.
    fn section(&self, section: &str) -> Result<(Option<usize>, usize), Failure> {
        if section.is_empty() {
            return Ok((None, 0));
        }
        let header = format!("[{section}]");
        let found = self.lines.iter().position(|line| line.trim_start_matches('#').starts_with(&header));
        found.map(|line| (Some(line), line + 1)).ok_or_else(|| no_such(section, ""))
    }
}

/// A text as a TOML string.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => quoted.push_str(&format!("\\U{:08X}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

fn no_such(section: &str, key: &str) -> Failure {
    Failure::Failed(format!("the shipped configuration has no `{section}` `{key}`: this is a bug"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> Template {
        Template::new(Environment::Test).unwrap()
    }

    #[test]
    fn only_what_was_set_differs_from_the_shipped_text() {
        let text = template().into_text();
        let different: Vec<_> =
            text.lines().zip(SHIPPED.lines()).filter(|(ours, shipped)| ours != shipped).collect();
        assert_eq!(text.lines().count(), SHIPPED.lines().count());
        assert_eq!(different.len(), 2, "{different:?}");
        assert!(different[0].0.starts_with("environment = \"test\"  # "));
        assert!(different[1].0.starts_with("state_dir = \"state\"  # "));
    }

    #[test]
    fn a_key_that_is_commented_out_begins_to_count_with_its_table() {
        let mut template = template();
        template.set("central.webhooks", "timeout", "\"7s\"").unwrap();
        let text = template.into_text();
        assert!(text.contains("\n[central.webhooks]\n#request"), "{text}");
        assert!(text.contains("\ntimeout = \"7s\"  # how long"));
        assert!(text.contains("\n#timeout = \"10s\""), "the subscriber's is another");
    }

    #[test]
    fn groups_are_replaced_as_a_whole() {
        let mut template = template();
        template.set_groups(&["[groups.A]\ntelemetry = true".to_owned(), "[groups.B]".to_owned()]).unwrap();
        let text = template.into_text();
        assert!(text.contains("\n[groups.A]\ntelemetry = true\n\n[groups.B]\n\n# Partner"), "{text}");
        assert!(!text.contains("[groups.Devices]"));
        assert!(!text.contains("[groups.Stations]"));
    }

    #[test]
    fn what_is_not_there_cannot_be_set() {
        assert!(template().set("sessions", "max_body", "1").is_err());
        assert!(template().set("nothing", "x", "1").is_err());
    }

    #[test]
    fn texts_are_quoted_so_that_toml_reads_them_back() {
        for text in ["plain", "a\"b\\c", "tab\tnewline\n", "é\u{7f}\u{0}"] {
            let document = format!("x = {}", quote(text));
            let table = toml::de::DeTable::parse(&document).unwrap();
            assert_eq!(table.get_ref().get("x").unwrap().get_ref().as_str(), Some(text));
        }
    }
}
