//! A good central and a good object that call all the time while others misbehave.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Device, Said, Site, response};

/// Tells others to stop, also when the test fails.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A central that calls a good object all the time, until told to stop; fails if a call takes 2 s or fails.
pub fn undisturbed<T>(site: &Site, good: Device, work: impl FnOnce() -> T) -> T {
    // The object answers until the last call has its answer.
    let (stop, is_last_answered) = (AtomicBool::new(false), AtomicBool::new(false));
    let (mut object, _) = site.login_with_token(good);
    let mut central = site.login(site.central());
    thread::scope(|scope| {
        let (stop, is_last_answered) = (&stop, &is_last_answered);
        scope.spawn(move || {
            while !is_last_answered.load(Ordering::Relaxed) {
                match object.next_within(Duration::from_millis(50)) {
                    Some(Said::Request { number, data, .. }) => {
                        object.send(&response(None, number, 0, &data))
                    }
                    None => {}
                    Some(other) => panic!("{other:?}"),
                }
            }
        });
        let caller = scope.spawn(move || {
            let _until = Until(is_last_answered);
            // Far from the numbers that the test itself uses.
            let mut number = 40_000_u16;
            loop {
                let start = Instant::now();
                assert_eq!(
                    central.ask(Some(good.uid), number, b"still there?"),
                    (0, b"still there?".to_vec())
                );
                assert!(start.elapsed() < Duration::from_secs(2), "a good call took {:?}", start.elapsed());
                number = 40_000 + (number + 1) % 10_000;
                // Asked behind the call: one at least is made, however soon the work is done.
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        let until = Until(stop);
        let outcome = work();
        drop(until);
        caller.join().unwrap();
        outcome
    })
}
