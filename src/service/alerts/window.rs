//! How much a counter rose in the last minute.

use std::collections::VecDeque;

/// Samples, one a second.
const SAMPLES: usize = 60;

/// The last samples of a counter.
#[derive(Debug, Default)]
pub struct Window(VecDeque<u64>);

impl Window {
    /// Takes the counter as it is now; to be called every second.
    pub fn add(&mut self, counter: u64) {
        if self.0.len() > SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(counter);
    }

    /// By how much it rose since the oldest sample.
    pub fn rise(&self) -> u64 {
        let (first, last) = (self.0.front().copied(), self.0.back().copied());
        last.unwrap_or_default().saturating_sub(first.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rose_more_than_a_minute_ago_does_not_count() {
        let mut window = Window::default();
        window.add(5);
        assert_eq!(window.rise(), 0, "what was before it began is not known");
        window.add(9);
        for _ in 1..SAMPLES {
            window.add(9);
            assert_eq!(window.rise(), 4);
        }
        window.add(9);
        assert_eq!(window.rise(), 0);
    }
}
