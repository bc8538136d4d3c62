//! A good central and a good object that call all the time while others misbehave.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    let stop = AtomicBool::new(false);
    let calls = AtomicU64::new(0);
    let (mut object, _) = site.login_with_token(good);
    let mut central = site.login(site.central());
    thread::scope(|scope| {
        let (calls, stop) = (&calls, &stop);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
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
            // Far from the numbers that the test itself uses.
            let mut number = 40_000_u16;
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                assert_eq!(
                    central.ask(Some(good.uid), number, b"still there?"),
                    (0, b"still there?".to_vec())
                );
                assert!(start.elapsed() < Duration::from_secs(2), "a good call took {:?}", start.elapsed());
                number = 40_000 + (number + 1) % 10_000;
                calls.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        });
        let until = Until(stop);
        let outcome = work();
        drop(until);
        caller.join().unwrap();
        assert!(calls.load(Ordering::Relaxed) > 0);
        outcome
    })
}
