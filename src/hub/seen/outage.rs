//! Whether so many objects are late at once that it is not their fault: the network between is away.
//!
//! Objects that speak once a day do not show for days that they are cut off. So objects are counted by how soon they are
//! late, and those that are late soon are judged without the others.

/// So many objects at least must be late at once, ...
pub const OUTAGE_OBJECTS: u32 = 5;
/// ... and one in so many of those that should have been heard of.
pub const OUTAGE_SHARE: u32 = 2;
/// Classes of objects by how soon they are late: each is twice as long as the one before, the last has no end.
const CLASSES: usize = 17;
/// The first one ends here, in seconds.
const FIRST: f64 = 64.0;

/// The objects of the whole site, or of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Objects that should be heard of, and those of them that are late.
    classes: [(u32, u32); CLASSES],
}

/// Objects that are late at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// How many.
    pub late: u32,
    /// Of how many.
    pub expected: u32,
}

impl Tally {
    /// Counts an object that is late after so many seconds.
    pub fn count(&mut self, late_after: f64, is_late: bool) {
        // At most the number of classes: a number that is not finite counts as the last.
        let class = (late_after / FIRST).log2().ceil().clamp(0.0, (CLASSES - 1) as f64) as usize;
        if let Some((expected, late)) = self.classes.get_mut(class) {
            *expected += 1;
            *late += u32::from(is_late);
        }
    }

    /// Whether most of those that should have been heard of are late: in the largest number of classes for which that is so.
    pub fn judge(&self) -> Option<Outage> {
        let (mut expected, mut late, mut found) = (0, 0, None);
        for class in self.classes {
            expected += class.0;
            late += class.1;
            if late >= OUTAGE_OBJECTS && late.saturating_mul(OUTAGE_SHARE) >= expected {
                found = Some(Outage { late, expected });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(groups: &[(f64, u32, u32)]) -> Tally {
        let mut tally = Tally::default();
        for (late_after, expected, late) in groups {
            (0..*expected).for_each(|number| tally.count(*late_after, number < *late));
        }
        tally
    }

    #[test]
    fn half_of_those_that_should_have_been_heard_of_and_five_at_least() {
        let outage = |late, expected| Some(Outage { late, expected });
        assert_eq!(tally(&[]).judge(), None);
        assert_eq!(tally(&[(60.0, 4, 4)]).judge(), None, "each is told by itself");
        assert_eq!(tally(&[(60.0, 5, 5)]).judge(), outage(5, 5));
        assert_eq!(tally(&[(60.0, 10, 5)]).judge(), outage(5, 10));
        assert_eq!(tally(&[(60.0, 11, 5)]).judge(), None);
    }

    #[test]
    fn those_that_speak_seldom_hide_nothing_and_are_counted_when_they_are_late_too() {
        let day = 86_400.0;
        let outage = |late, expected| Some(Outage { late, expected });
        assert_eq!(tally(&[(120.0, 8, 8), (2.0 * day, 1000, 0)]).judge(), outage(8, 8));
        assert_eq!(tally(&[(120.0, 8, 8), (2.0 * day, 1000, 600)]).judge(), outage(608, 1008));
        assert_eq!(tally(&[(2.0 * day, 8, 8), (120.0, 1000, 0)]).judge(), None, "the fast ones are well");
        assert_eq!(tally(&[(64.0, 3, 3), (128.0, 2, 2)]).judge(), outage(5, 5));
        assert_eq!(tally(&[(f64::INFINITY, 5, 5)]).judge(), outage(5, 5));
        assert_eq!(tally(&[(f64::NAN, 5, 5), (0.0, 5, 0)]).judge(), outage(5, 10));
    }
}
