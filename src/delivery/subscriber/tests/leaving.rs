//! Messages that leave the journal before they were delivered.

use super::*;

#[test]
fn what_left_the_journal_is_in_the_books_and_never_sent() {
    let mut rig = Rig::new(Settings { batch_max: 2, ..settings() });
    rig.commit(6);
    let (ticket, seqs) = rig.post();
    assert_eq!(seqs, [1, 2]);
    let lost: Vec<_> = (1..=4).map(|seq| (seq, group("g"), Kind::Telemetry)).collect();
    assert!((1..=6).all(|seq| rig.subscriber.lacks(seq, group("g"), Kind::Telemetry)));
    rig.subscriber.write_off(1, 4, &lost, Cause::Full);
    assert_eq!((rig.line().made_room, rig.line().waiting()), (4, 2));
    rig.end(ticket, Outcome::Delivered);
    assert_eq!((rig.line().delivered, rig.line().made_room), (0, 4), "it is in one place");
    assert_eq!(rig.drain(), [5, 6]);
    // While it is under way, with all before it, and it fails.
    rig.commit(4);
    let (ticket, seqs) = rig.post();
    assert_eq!(seqs, [7, 8]);
    let lost: Vec<_> = (5..=9).map(|seq| (seq, group("g"), Kind::Telemetry)).collect();
    rig.subscriber.write_off(5, 9, &lost, Cause::Full);
    rig.end(ticket, Outcome::Failed("down".to_owned(), None));
    rig.now += Duration::from_secs(600);
    assert_eq!(rig.drain(), [10], "what is gone is not sent after all");
    assert_eq!((rig.line().made_room, rig.line().waiting()), (7, 0));
    // Ahead of its turn, and still in memory.
    rig.commit(4);
    let lost = [(12, group("g"), Kind::Telemetry)];
    rig.subscriber.write_off(12, 12, &lost, Cause::Expired);
    assert_eq!(rig.drain(), [11, 13, 14]);
    assert_eq!((rig.line().expired, rig.line().waiting()), (1, 0));
}
