//! What `demo` shows: a live table on a terminal, a line a second elsewhere, a summary at the end.

use std::io::{self, Write};
use std::time::Duration;

use crate::cli::table::{Row, grouped, rate, rows, time, write_errors, write_rows};
use crate::client::Snapshot;

/// Draws what flows, in place on a terminal.
pub struct View<W> {
    out: W,
    terminal: bool,
    /// Lines of the table that stand on the terminal.
    drawn: usize,
    last: Option<Snapshot>,
}

impl<W: Write> View<W> {
    /// A view on a terminal, or on a pipe or file.
    pub fn new(out: W, terminal: bool) -> Self {
        Self { out, terminal, drawn: 0, last: None }
    }

    /// Shows the state: totals since the start, rates and latencies since the call before.
    pub fn show(&mut self, now: &Snapshot) -> io::Result<()> {
        let part = self.last.as_ref().map_or_else(|| now.clone(), |last| now.since(last));
        let rows = rows(now, &part);
        if self.terminal {
            self.draw(now, &rows)?;
        } else {
            self.line(now, &rows)?;
        }
        self.last = Some(now.clone());
        self.out.flush()
    }

    /// Shows what it all came to, below or in place of what was shown so far.
    pub fn finish(mut self, all: &Snapshot) -> io::Result<()> {
        self.rewind()?;
        let seconds = time(all.elapsed);
        writeln!(self.out, "In {seconds} with {} sessions:", grouped(all.online as u64))?;
        write_rows(&mut self.out, &rows(all, all), "\n")?;
        if write_errors(&mut self.out, all, "\n")? == 0 {
            writeln!(self.out, "No errors.")?;
        }
        self.out.flush()
    }

    fn draw(&mut self, now: &Snapshot, rows: &[Row]) -> io::Result<()> {
        // Each line clears what an earlier, longer one left behind it.
        const LINE_END: &str = "\x1b[K\n";
        self.rewind()?;
        let sessions = grouped(now.online as u64);
        write!(self.out, "{} s, {sessions} sessions{LINE_END}", now.elapsed.as_secs())?;
        self.drawn = 1 + write_rows(&mut self.out, rows, LINE_END)?;
        self.drawn += write_errors(&mut self.out, now, LINE_END)?;
        Ok(())
    }

    /// Back to the first line of the table, all below it cleared.
    fn rewind(&mut self) -> io::Result<()> {
        if self.drawn > 0 {
            write!(self.out, "\x1b[{}A\x1b[J", self.drawn)?;
        }
        self.drawn = 0;
        Ok(())
    }

    fn line(&mut self, now: &Snapshot, rows: &[Row]) -> io::Result<()> {
        write!(self.out, "{:>4} s  {} sessions", now.elapsed.as_secs(), grouped(now.online as u64))?;
        for row in rows {
            write!(self.out, "  {} {} ({}/s", row.name, grouped(row.total), rate(row.per_second))?;
            if let Some([p50, _, p99, _]) = row.latency {
                write!(self.out, ", p50 {}, p99 {}", time(p50), time(p99))?;
            }
            write!(self.out, ")")?;
        }
        let errors: u64 = now.errors().map(|(_, count, _)| count).sum();
        writeln!(self.out, "  {} errors", grouped(errors))
    }
}

/// How often the view is shown.
pub const SHOW_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Counters, Kind};

    fn counters() -> Counters {
        let counters = Counters::default();
        counters.add(Kind::Answered, 100);
        counters.calls.record(Duration::from_micros(200));
        counters
    }

    fn shown(terminal: bool) -> String {
        let counters = counters();
        let mut out = Vec::new();
        let mut view = View::new(&mut out, terminal);
        view.show(&counters.snapshot(Duration::from_secs(1), 20)).unwrap();
        counters.add(Kind::Answered, 50);
        counters.add(Kind::TelemetrySent, 7);
        let last = counters.snapshot(Duration::from_secs(2), 20);
        view.show(&last).unwrap();
        view.finish(&last).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_pipe_gets_a_line_each_time_with_the_rate_since_the_one_before() {
        let text = shown(false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0], "   1 s  20 sessions  calls 100 (100/s, p50 200 µs, p99 200 µs)  0 errors",
            "{text}"
        );
        assert_eq!(lines[1], "   2 s  20 sessions  calls 150 (50.0/s)  telemetry sent 7 (7.0/s)  0 errors");
        assert!(lines[2].starts_with("In 2.00 s with 20 sessions"));
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn a_terminal_is_redrawn_in_place() {
        let text = shown(true);
        // Three lines stood when the second table came, and four when the summary did.
        let rewinds: Vec<&str> = text.split("\x1b[J").filter_map(|part| part.rsplit('\x1b').next()).collect();
        assert_eq!(rewinds[..2], ["[3A", "[4A"], "{text:?}");
    }
}
