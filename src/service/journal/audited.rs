//! Whether the chain of audit records holds, from the oldest record that is there to the newest.

use std::collections::VecDeque;
use std::sync::Arc;

use super::seen::Seen;
use crate::hub::history::AuditReport;
use crate::journal::catalog::SegmentInfo;
use crate::journal::chain::{Fault, Link};
use crate::journal::error::JournalError;
use crate::journal::medium::Medium;
use crate::journal::reader::{Query, Reader};
use crate::journal::record::Kind;

/// Faults that are told; there may be more.
const FAULTS_MAX: usize = 100;
/// Records that are looked at together.
const PAGE: usize = 1000;

/// Goes over the whole chain.
pub fn verify<M: Medium>(reader: &mut Reader<M>, seen: &Seen) -> Result<AuditReport, JournalError> {
    let oldest = seen.catalog.segments.first();
    let anchor = oldest.map(|segment| reader.snapshot(segment)).transpose()?.flatten();
    let mut link = anchor.map_or(Link::default(), |small| small.audit());
    // Where segments were deleted the chain goes on with what the next one says.
    let is_behind_hole = |segment: &&Arc<SegmentInfo>| seen.behind_holes.contains(&segment.number());
    let mut anchors = VecDeque::new();
    for segment in seen.catalog.segments.iter().filter(is_behind_hole) {
        anchors.extend(reader.snapshot(segment)?.map(|small| (segment.summary.first_seq, small.audit())));
    }
    let mut report = AuditReport { after: link.n, ..AuditReport::default() };
    let tell = |report: &mut AuditReport, fault: Fault| {
        report.faults += 1;
        if report.sentences.len() < FAULTS_MAX {
            report.sentences.push(fault.to_string());
        }
    };
    let mut query = Query { kinds: vec![Kind::Audit], limit: PAGE, ..Query::from(0) };
    loop {
        let page = reader.read(&seen.catalog, &query)?;
        for stored in &page.messages {
            let message = &stored.message;
            while anchors.front().is_some_and(|(first, _)| *first <= stored.seq)
                && let Some((_, anchor)) = anchors.pop_front()
            {
                link = anchor;
            }
            if let Err(fault) = link.step(message.uid, message.group, &message.payload) {
                tell(&mut report, fault);
            }
            report.records += 1;
        }
        let Some(next) = page.next else { break };
        query.from = next;
    }
    link = anchors.pop_back().map_or(link, |(_, anchor)| anchor);
    report.last = link.n;
    if link != seen.audit {
        tell(
            &mut report,
            Fault::Missing(link.n.saturating_add(1), seen.audit.n.max(link.n.saturating_add(1))),
        );
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::Message;
    use crate::journal::retention::Plan;
    use crate::journal::tests::{Memory, Rig, message, stamp};

    /// Audit records in several segments.
    fn world(medium: &Memory) -> Rig {
        let mut rig = Rig::open(medium);
        let mut link = Link::default();
        for round in 0..100 {
            let about = message("a", "g", b"");
            let (payload, next) = link.forge(about.uid, about.group, &format!("\"round\":{round}"));
            link = next;
            let record = Message { kind: Kind::Audit, payload: payload.into_bytes().into(), ..about };
            rig.now_us += 10;
            rig.front.append(record, stamp(rig.now_us)).unwrap();
            if rig.commit().unwrap().turned {
                rig.writer.upkeep().unwrap();
            }
        }
        rig
    }

    fn report(medium: &Memory) -> AuditReport {
        let rig = Rig::open(medium);
        verify(&mut Reader::new(medium.clone()), &Seen::of(&rig.writer)).unwrap()
    }

    #[test]
    fn what_was_deleted_out_of_the_middle_is_no_fault_and_what_was_taken_is() {
        let medium = Memory::default();
        let mut rig = world(&medium);
        let plan = Plan { segments: vec![2, 3], ..Plan::default() };
        rig.writer.retire(stamp(rig.now_us), &plan).unwrap();
        drop(rig);
        let kept = report(&medium);
        assert_eq!((kept.faults, kept.after), (0, 0), "{:?}", kept.sentences);
        assert!(kept.records < 100 && kept.last == 100, "{} of 100", kept.records);
        let taken = crate::journal::segment::name(5);
        medium.clone().remove(&taken).unwrap();
        assert!(report(&medium).faults > 0);
    }
}
