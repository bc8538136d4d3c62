//! Holds the shape of the code against the code: which layer may import which, what the pure layers may not know, and how
//! files look. All violations are reported at once, each with file and line.
#![cfg(test)]

use std::fs;
use std::path::Path;

/// The layers from the top down: a layer may import those behind it.
const LAYERS: [&str; 10] =
    ["cli", "service", "endpoint", "hub", "delivery", "router", "session", "ingest", "journal", "wire"];
/// Modules that every layer may import. They import only each other and the wire.
const FREE: [&str; 5] = ["limits", "logfmt", "net", "payload_json", "thorough"];
/// Calls to the operating system: for the layers that do input and output, from here up. Imports nothing but `FREE`.
const SYS: &str = "sys";
const SYS_FROM: &str = "endpoint";
/// The other end of the protocol: imports `wire`, `sys` and `FREE`, and is imported by `cli`, and by `service` for the proof of
/// a new version.
const CLIENT: &str = "client";

/// Layers that know no clock, no socket, no file, no randomness and no executor: all of that is an argument.
const PURE: [&str; 6] = ["router", "session", "ingest", "journal", "delivery", "wire"];
/// What tells the time; allowed in the unit tests of pure layers, which play the caller.
const CLOCK: [&str; 2] = ["Instant::now", "SystemTime"];
const IMPURE: [&str; 10] = [
    "std::net::Tcp",
    "std::net::Udp",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "std::fs",
    "smol",
    "async_io",
    "getrandom",
    "SystemRandom",
];
/// Layers that a device's firmware could share: `core` and `heapless`, nothing that allocates.
const CORE_ONLY: &str = "wire";
const ALLOCATING: [&str; 9] =
    ["std::", "alloc::", "String", "Box", "vec!", "format!", "to_string", "to_owned", "to_vec"];

/// Put together here, so that whoever looks for left-overs does not find the list of them.
const UNFINISHED: [&str; 4] =
    [TODO, concat!("unimple", "mented!"), concat!("d", "bg!"), concat!("#[ig", "nore")];
const TODO: &str = concat!("to", "do!");
const LINES_MAX: usize = 500;
/// Where somebody's checkout or home is.
const MACHINE_PATHS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// Files that may break a rule: the file, the rule, why.
const EXCEPTIONS: &[(&str, Rule, &str)] = &[];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Layers,
    Purity,
    CoreOnly,
    Unsafe,
    Length,
    Unfinished,
    DocLine,
    MachinePath,
}

#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: String,
    line: usize,
    rule: Rule,
    what: String,
}

/// One Rust file, read for the rules.
struct Source<'a> {
    /// From the package's root, with `/`.
    file: &'a str,
    text: &'a str,
    /// The text with comments, strings and characters blanked out; same length, same lines.
    code: String,
    /// Where the unit tests start; they are at the bottom.
    tests_at: usize,
}

impl<'a> Source<'a> {
    fn new(file: &'a str, text: &'a str) -> Self {
        let code = blank(text);
        let tests_at = if is_test_file(file) { Some(0) } else { tests_at(&code) }.unwrap_or(code.len());
        Self { file, text, code, tests_at }
    }

    /// The module of the first level that the file belongs to; `None` for lib.rs, main.rs and what is not in src.
    fn module(&self) -> Option<&str> {
        let path = self.file.strip_prefix("src/")?;
        let name = path.split('/').next()?;
        let name = name.strip_suffix(".rs").unwrap_or(name);
        (name != "lib" && name != "main").then_some(name)
    }

    fn violation(&self, at: usize, rule: Rule, what: impl Into<String>) -> Violation {
        let line = self.text[..at].matches('\n').count() + 1;
        Violation { file: self.file.to_owned(), line, rule, what: what.into() }
    }

    /// Where `word` stands in the code. An end of it that is a letter must be the end of a word there, too.
    fn find<'s>(&'s self, word: &'s str) -> impl Iterator<Item = usize> + 's {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        self.code.match_indices(word).map(|(at, _)| at).filter(move |at| {
            let before = self.code[..*at].chars().next_back().is_some_and(part);
            let after = self.code[at + word.len()..].chars().next().is_some_and(part);
            !(before && word.starts_with(part)) && (!(after && word.ends_with(part)) || word.contains("::"))
        })
    }

    fn check(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        self.check_layers(&mut found);
        self.check_purity(&mut found);
        self.check_core_only(&mut found);
        if self.file != "src/sys.rs" {
            found.extend(
                self.find("unsafe").map(|at| self.violation(at, Rule::Unsafe, "unsafe outside src/sys.rs")),
            );
        }
        for word in UNFINISHED {
            found.extend(self.find(word).map(|at| self.violation(at, Rule::Unfinished, word)));
        }
        let lines = self.text.lines().count();
        if lines > LINES_MAX {
            found.push(self.violation(0, Rule::Length, format!("{lines} lines, {LINES_MAX} are the most")));
        }
        if self.file.starts_with("src/") && !self.text.starts_with("//!") {
            found.push(self.violation(0, Rule::DocLine, "the first line says in `//!` what the file is for"));
        }
        found
    }

    fn check_layers(&self, found: &mut Vec<Violation>) {
        for (at, target) in self.imports() {
            let allowed = match self.module() {
                Some(module) => may_import(module, &target),
                None if self.file == "src/main.rs" => target == "cli",
                None => true,
            };
            if !allowed {
                let from = self.module().unwrap_or("main.rs");
                found.push(self.violation(at, Rule::Layers, format!("{from} may not import {target}")));
            }
        }
        // A chain of `super` that reaches the root would escape the rule above.
        let Some(path) = self.file.strip_prefix("src/") else { return };
        let depth = path.trim_end_matches("/mod.rs").split('/').count();
        for (at, _) in self.code.match_indices("super::") {
            let inside = depth + usize::from(at >= self.tests_at && !is_test_file(self.file));
            let chain =
                self.code[at..].split("super::").skip(1).take_while(|rest| rest.is_empty()).count() + 1;
            if chain >= inside {
                found.push(self.violation(at, Rule::Layers, "the root is reached by `crate::`"));
            }
        }
    }

    /// The modules of the first level that the file names, and where.
    fn imports(&self) -> Vec<(usize, String)> {
        let root = if self.file == "src/main.rs" { "iotsocketd" } else { "crate" };
        let mut imports = Vec::new();
        for at in self.find(root) {
            let Some(rest) = self.code[at + root.len()..].strip_prefix("::") else { continue };
            let start = self.code.len() - rest.len();
            for (offset, name) in first_names(rest) {
                imports.push((start + offset, name.to_owned()));
            }
        }
        imports
    }

    fn check_purity(&self, found: &mut Vec<Violation>) {
        if !self.module().is_some_and(|module| PURE.contains(&module)) {
            return;
        }
        for word in IMPURE {
            found.extend(self.find(word).map(|at| self.violation(at, Rule::Purity, word)));
        }
        for word in CLOCK {
            let outside_tests = self.find(word).filter(|at| *at < self.tests_at);
            found.extend(outside_tests.map(|at| self.violation(at, Rule::Purity, word)));
        }
    }

    fn check_core_only(&self, found: &mut Vec<Violation>) {
        if self.module() != Some(CORE_ONLY) {
            return;
        }
        let outside_tests = |at: &usize| *at < self.tests_at;
        for word in ALLOCATING {
            found.extend(
                self.find(word).filter(outside_tests).map(|at| self.violation(at, Rule::CoreOnly, word)),
            );
        }
        for at in self.find("Vec").filter(outside_tests) {
            if !self.code[..at].ends_with("heapless::") {
                found.push(self.violation(at, Rule::CoreOnly, "Vec of std"));
            }
        }
        for at in self.find("use").filter(outside_tests) {
            let path = self.code[at + "use".len()..].trim_start();
            let name = path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            let module = self.code.contains(&format!("mod {name};"));
            if !["core", "heapless", "crate", "self", "super"].contains(&name) && !module {
                found.push(self.violation(at, Rule::CoreOnly, format!("use {name}")));
            }
        }
        for name in dependencies().iter().filter(|name| *name != "heapless") {
            let path = format!("{name}::");
            let uses =
                self.find(&path).filter(outside_tests).map(|at| self.violation(at, Rule::CoreOnly, &*path));
            found.extend(uses);
        }
    }
}

fn may_import(from: &str, target: &str) -> bool {
    let rank = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    if from == target || FREE.contains(&target) {
        return true;
    }
    match (rank(from), rank(target)) {
        (Some(from), Some(target)) => from < target,
        (Some(from), None) if target == SYS => Some(from) <= rank(SYS_FROM),
        (Some(_), None) if target == CLIENT => from == "cli" || from == "service",
        (None, Some(_)) if from == CLIENT || FREE.contains(&from) => target == "wire",
        _ => from == CLIENT && target == SYS,
    }
}

/// Where the module of unit tests starts, if it is in this file.
fn tests_at(code: &str) -> Option<usize> {
    code.match_indices("#[cfg(test)]").map(|(at, _)| at).find(|at| {
        let item = code[*at..].trim_start_matches("#[cfg(test)]").trim_start();
        item.strip_prefix("mod tests").is_some_and(|rest| rest.trim_start().starts_with('{'))
    })
}

/// Whether a file of src holds nothing but unit tests.
fn is_test_file(file: &str) -> bool {
    file.starts_with("src/") && (file.ends_with("/tests.rs") || file.contains("/tests/"))
}

/// The names that a path, or each path of a group in braces, starts with.
fn first_names(path: &str) -> Vec<(usize, &str)> {
    let name_at = |at: usize| {
        let rest = &path[at..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        (at, &rest[..end])
    };
    if !path.starts_with('{') {
        return vec![name_at(0)];
    }
    let (mut names, mut depth, mut fresh) = (Vec::new(), 0, false);
    for (at, c) in path.char_indices() {
        match c {
            '{' => {
                depth += 1;
                fresh = depth == 1;
            }
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' => fresh = depth == 1,
            _ if c.is_whitespace() => {}
            _ if fresh => {
                names.push(name_at(at));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

/// The text with everything in comments, strings and character literals replaced by blanks, byte for byte.
fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let hidden = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(len) = raw_string(rest).filter(|_| !after_word) {
            len
        } else if c == '"' {
            1 + quoted(&rest[1..], '"')
        } else if c == '\'' && is_char(rest) {
            1 + quoted(&rest[1..], '\'')
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        let (gone, left) = rest.split_at(hidden);
        code.extend(gone.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        rest = left;
    }
    code
}

/// Bytes up to and with the closing quote.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character literal, not a lifetime.
fn is_char(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    chars.next() == Some('\\') || chars.next() == Some('\'')
}

/// Bytes of the raw string at the start of the text, if one is there.
fn raw_string(text: &str) -> Option<usize> {
    let body = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let inner = body.trim_start_matches('#');
    let marks = &body[..body.len() - inner.len()];
    let end = format!("\"{marks}");
    let start = text.len() - inner.strip_prefix('"')?.len();
    Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()))
}

/// The names of the package's dependencies, as they are written in paths.
fn dependencies() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| Some(line.split_once(" = ")?.0.replace('-', "_"))).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the project below `folder`, by its path from the root.
fn files(folder: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let name = entry.as_ref().unwrap().file_name().into_string().unwrap();
        let file = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if entry.unwrap().file_type().unwrap().is_dir() {
            if ![".git", "target", "corpus", "artifacts"].contains(&name.as_str()) {
                files(&file, found);
            }
        } else if let Ok(text) = fs::read_to_string(root().join(&file)) {
            found.push((file, text));
        }
    }
}

#[test]
fn the_code_keeps_its_shape() {
    let mut all = Vec::new();
    files("", &mut all);
    let mut found = Vec::new();
    for (file, text) in &all {
        // The checkout's own pointer is no file of the project.
        if file == ".git" {
            continue;
        }
        let source = Source::new(file, text);
        if file.ends_with(".rs") {
            found.extend(source.check());
        }
        for path in MACHINE_PATHS {
            let uses = text.match_indices(path).map(|(at, _)| source.violation(at, Rule::MachinePath, path));
            found.extend(uses);
        }
    }
    let excused = |violation: &Violation| {
        EXCEPTIONS.iter().any(|(file, rule, _)| violation.file == *file && violation.rule == *rule)
    };
    let (excused, broken): (Vec<_>, Vec<_>) = found.into_iter().partition(excused);
    for (file, rule, _) in EXCEPTIONS {
        let used = excused.iter().any(|violation| violation.file == *file && violation.rule == *rule);
        assert!(used, "{file} breaks {rule:?} no more: take it off EXCEPTIONS");
    }
    let lines: Vec<String> =
        broken.iter().map(|v| format!("{}:{}: {:?}: {}", v.file, v.line, v.rule, v.what)).collect();
    assert!(lines.is_empty(), "{} violations\n{}", lines.len(), lines.join("\n"));
}

/// The rules that a file of this text breaks, each with its line.
fn broken(file: &str, text: &str) -> Vec<(usize, Rule)> {
    Source::new(file, text).check().into_iter().map(|violation| (violation.line, violation.rule)).collect()
}

#[test]
fn imports_point_down_only() {
    let text = "//! x\nuse crate::wire::Uid;\nuse crate::{\n    limits, hub::{a, cli},\n    service,\n};\nfn f() { crate::cli::run() }\n";
    assert_eq!(broken("src/router/mod.rs", text), [(4, Rule::Layers), (5, Rule::Layers), (7, Rule::Layers)]);
    assert_eq!(broken("src/service/mod.rs", text), [(7, Rule::Layers)]);
    assert_eq!(broken("src/cli/mod.rs", text), []);
    let client = "//! x\nuse crate::client::Session;\nuse crate::sys;\n";
    assert_eq!(broken("src/cli/simulate.rs", client), []);
    assert_eq!(broken("src/hub/mod.rs", client), [(2, Rule::Layers), (3, Rule::Layers)]);
    assert_eq!(
        broken("src/client/tcp.rs", "//! x\nuse crate::{limits, net, router, wire};\n"),
        [(2, Rule::Layers)]
    );
    assert_eq!(broken("src/net.rs", "//! x\nuse crate::{hub, wire::Uid};\n"), [(2, Rule::Layers)]);
    assert_eq!(
        broken("src/wire/a.rs", "//! x\nuse super::Uid;\nuse super::super::cli;\n"),
        [(3, Rule::Layers)]
    );
    assert_eq!(broken("src/main.rs", "//! x\nuse iotsocketd::{cli, hub};\n"), [(2, Rule::Layers)]);
}

#[test]
fn pure_layers_know_no_clock_and_no_socket() {
    let text = "//! x\nfn f() { Instant::now(); }\nuse std::net::{IpAddr, TcpStream};\nuse std::fs;\n#[cfg(test)]\nmod tests {\n    fn f() { Instant::now(); std::fs::read() }\n}\n";
    let purity = |line| (line, Rule::Purity);
    assert_eq!(broken("src/router/mod.rs", text), [purity(3), purity(4), purity(7), purity(2)]);
    assert_eq!(broken("src/hub/mod.rs", text), []);
    let clock = "//! x\n#[cfg(test)]\nmod tests;\nfn f() { Instant::now(); }\n";
    assert_eq!(broken("src/router/mod.rs", clock), [purity(4)]);
    assert_eq!(broken("src/router/tests.rs", clock), []);
    let text = "//! x\nuse core::fmt;\nuse std::fmt;\nuse ring::hmac;\ntype A = heapless::Vec<u8, 2>;\ntype B = Vec<u8>;\n";
    let lines: Vec<usize> = broken("src/wire/mod.rs", text).into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, [3, 6, 3, 4, 4]);
}

#[test]
fn words_in_comments_and_strings_are_not_code() {
    let text = "//! unsafe\n/* unsafe {} */ const A: &str = \"unsafe(\\\" unsafe\";\nconst B: &[u8] = br#\"unsafe \" \"#;\nconst C: char = '\"';\nfn f<'a>() { let _ = '\\''; unsafe {} }\n";
    assert_eq!(broken("src/hub/a.rs", text), [(5, Rule::Unsafe)]);
    assert_eq!(broken("src/sys.rs", text), []);
    let hidden = format!("//! {TODO}\n/* {TODO}() */ const A: &str = \"{TODO}\";\n");
    assert_eq!(broken("src/hub/a.rs", &hidden), []);
    let unfinished = format!("fn f() {{ {TODO}() }}\n");
    assert_eq!(broken("src/hub/a.rs", &unfinished), [(1, Rule::Unfinished), (1, Rule::DocLine)]);
    assert_eq!(broken("tests/a.rs", &"\n".repeat(501)), [(1, Rule::Length)]);
}
