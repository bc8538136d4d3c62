//! Whether the chain of audit records holds, from the oldest record that is there to the newest.

use super::seen::Seen;
use crate::hub::history::AuditReport;
use crate::journal::chain::{Fault, Link};
use crate::journal::error::JournalError;
use crate::journal::reader::{Query, Reader};
use crate::journal::record::Kind;
use crate::service::disk::Disk;

/// Faults that are told; there may be more.
const FAULTS_MAX: usize = 100;
/// Records that are looked at together.
const PAGE: usize = 1000;

/// Goes over the whole chain.
pub fn verify(reader: &mut Reader<Disk>, seen: &Seen) -> Result<AuditReport, JournalError> {
    let oldest = seen.catalog.segments.first();
    let anchor = oldest.map(|segment| reader.snapshot(segment)).transpose()?.flatten();
    let mut link = anchor.map_or(Link::default(), |small| small.audit());
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
            if let Err(fault) = link.step(message.uid, message.group, &message.payload) {
                tell(&mut report, fault);
            }
            report.records += 1;
        }
        let Some(next) = page.next else { break };
        query.from = next;
    }
    report.last = link.n;
    if link != seen.audit {
        tell(
            &mut report,
            Fault::Missing(link.n.saturating_add(1), seen.audit.n.max(link.n.saturating_add(1))),
        );
    }
    Ok(report)
}
