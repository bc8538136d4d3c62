//! Bytes of a journal, whatever a medium made of them: read, or told to be damaged; never believed, never a panic.

use iotsocketd::journal::Seq;
use iotsocketd::journal::backup;
use iotsocketd::journal::front::{Bounds, Front};
use iotsocketd::journal::index::{decode_blocks, decode_postings};
use iotsocketd::journal::reader::{Query, Reader};
use iotsocketd::journal::record::{Kind, Message, Records, State, Via};
use iotsocketd::journal::recovery::recover;
use iotsocketd::journal::scrub::scrub;
use iotsocketd::journal::segment::{self, BATCH_HEAD_LEN, BatchHead, Header, Trailer};
use iotsocketd::journal::stamp::{Clock, Stamp};
use iotsocketd::journal::state::Small;
use iotsocketd::journal::writer::{Settings, Writer};
use iotsocketd::wire::{Format, GroupName, Uid};

use super::medium::{Image, SimMedium};

const EPOCH: u64 = 7;
const MESSAGES: u64 = 40;
/// What is changed of a journal at once.
const EDIT_LEN: usize = 6;
const BACKUP: &str = "copy.backup";

/// The parts of a segment, each as if it began here.
pub fn segment(data: &[u8]) {
    if let Ok(header) = Header::decode(data) {
        assert_eq!(Header::decode(&header.encode()), Ok(header));
    }
    if let Some(head) = BatchHead::decode(data, EPOCH) {
        let batch = usize::try_from(head.total_len()).ok().and_then(|len| data.get(..len));
        if let Some(batch) = batch.filter(|batch| head.is_intact(batch, EPOCH, 0)) {
            let mut again = Vec::new();
            assert_eq!(head.encode(&batch[BATCH_HEAD_LEN..], EPOCH, 0, &mut again), head.crc);
            assert_eq!(again, batch);
        }
    }
    if let Some(at) = BatchHead::find(data) {
        assert!(at < data.len());
    }
    if let Some(trailer) = Trailer::decode(data, EPOCH) {
        assert_eq!(Trailer::decode(&trailer.encode(EPOCH), EPOCH), Some(trailer));
    }
    if let Some(blocks) = decode_blocks(data) {
        assert!(blocks.len() <= data.len());
    }
    assert!(decode_postings(data).len() <= data.len());
    if let Some(small) = Small::decode(data) {
        assert!(Small::decode(&small.encode()).is_some());
    }
    let (mut len, mut small) = (0, Small::default());
    for raw in Records::new(data) {
        len += raw.bytes.len();
        assert!(len <= data.len());
        if let Some(record) = raw.decode() {
            small.apply(record);
        }
    }
}

fn stamp(mono_us: u64) -> Stamp {
    Stamp { mono_us, wall_us: 1_800_000_000_000_000 + mono_us as i64, clock: Clock::Synced }
}

fn settings(seed: u64) -> Settings {
    Settings {
        segment_len: segment::SEGMENT_LEN_MIN,
        fresh_id: [7; 16],
        seed,
        boot_id: [seed as u8; 16],
        environment: *b"test\0\0\0\0\0\0\0\0\0\0\0\0",
        now: stamp(seed),
        restored: false,
    }
}

fn message(number: u64) -> Message<'static> {
    Message {
        uid: Uid::parse(["Pump", "Valve"][number as usize % 2]).expect("a UID"),
        group: GroupName::parse("Devices").expect("a group"),
        kind: Kind::ALL[number as usize % Kind::ALL.len()],
        via: Via::Udp,
        format: Format::Binary,
        state: State::Waiting,
        network: None,
        source: None,
        payload: vec![number as u8; 8 + number as usize * 7 % 300].into(),
    }
}

/// A journal of several segments, and a backup of it beside them.
fn at_rest() -> Image {
    let medium = SimMedium::default();
    let (mut writer, _) = Writer::open(medium.clone(), &settings(1)).expect("an empty medium");
    let mut front = Front::new(writer.start(), Bounds { pending_max: 1 << 20, tail_max: 0 });
    for number in 1..=MESSAGES {
        front.append(message(number), stamp(number)).expect("there is room");
        if number % 3 == 0 {
            let batch = front.take_batch().expect("what was appended");
            writer.commit(&batch).expect("a medium that works");
            front.committed(&batch);
            writer.upkeep().expect("a medium that works");
        }
    }
    let catalog = writer.catalog();
    backup::backup(&mut medium.clone(), &catalog, &[], &mut medium.clone(), BACKUP).expect("there is room");
    let disk = medium.disk();
    disk.names.iter().map(|(name, file)| (name.clone(), disk.files[*file].cached.clone())).collect()
}

thread_local! {
    static AT_REST: Image = at_rest();
}

/// The journal with these edits: file and place, then a byte, zeros, another place's bytes, or an end.
fn edited(image: &Image, edits: &[u8]) -> Image {
    let mut image = image.clone();
    for edit in edits.chunks_exact(EDIT_LEN) {
        let [file, what, high, low, value, len] = *edit else { continue };
        let Some(name) = image.keys().nth(usize::from(file) % image.len()).cloned() else { continue };
        let mut bytes = image[&name].to_vec();
        let at = usize::from(u16::from_be_bytes([high, low])) % bytes.len().max(1);
        let end = (at + usize::from(len)).min(bytes.len());
        match what % 7 {
            0 => bytes[at..end].fill(value),
            1 => bytes[at..end].iter_mut().for_each(|byte| *byte ^= value),
            2 => bytes.truncate(at),
            3 => bytes.extend(std::iter::repeat_n(value, len.into())),
            4 => bytes
                .copy_within(usize::from(value) % (at + 1)..usize::from(value) % (at + 1) + (end - at), at),
            5 => _ = image.remove(&name),
            _ => _ = image.insert(segment::name(u64::from(value) + 1), bytes.clone().into()),
        }
        if what % 7 != 5 {
            image.insert(name, bytes.into());
        }
        if image.is_empty() {
            break;
        }
    }
    image
}

/// A journal of which a medium lost or changed something, or a file that is no journal: it starts, twice the same; what is
/// read comes in order; and it goes on.
pub fn recovery(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    let image = AT_REST.with(|image| match how % 4 {
        0 => Image::from([(segment::name(1), rest.to_vec().into())]),
        _ => edited(image, rest),
    });
    let mut medium = SimMedium::from_image(&image);
    let Ok(first) = recover(&mut medium) else { return };
    let again = recover(&mut medium).expect("nothing changed since");
    assert_eq!((first.next_seq(), &first.report), (again.next_seq(), &again.report));
    let Ok((mut writer, report)) = Writer::open(medium.clone(), &settings(2)) else { return };
    assert_eq!(report, first.report);
    let before = read(&medium, &writer);
    for segment in &writer.catalog().segments {
        let _damaged = scrub(&mut medium, segment);
    }
    let mut front = Front::new(writer.start(), Bounds { pending_max: 1 << 20, tail_max: 0 });
    let Ok(seq) = front.append(message(MESSAGES + 1), stamp(1_000)) else { return };
    assert!(before.last().is_none_or(|last| *last < seq), "{seq} is there already");
    while let Some(batch) = front.take_batch() {
        if writer.commit(&batch).is_err() {
            return;
        }
        front.committed(&batch);
    }
    let _tidied = writer.upkeep();
    let after = read(&medium, &writer);
    assert_eq!(after.last(), Some(&seq));
    assert!(after.starts_with(&before), "{before:?} was read, then {after:?}");
}

fn read(medium: &SimMedium, writer: &Writer<SimMedium>) -> Vec<Seq> {
    let (mut reader, catalog) = (Reader::new(medium.clone()), writer.catalog());
    let (mut next, mut found) = (Some(0), Vec::<Seq>::new());
    while let Some(from) = next {
        let query = Query { limit: 7, ..Query::from(from) };
        let page = reader.read(&catalog, &query).expect("a medium that works");
        for stored in page.messages {
            assert!(found.last().is_none_or(|last| *last < stored.seq));
            found.push(stored.seq);
        }
        assert!(page.next.is_none_or(|next| next > from), "it does not get on");
        next = page.next;
    }
    found
}

/// A backup, changed: whole, or refused. What is whole can be restored.
pub fn backup_file(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    let bytes = AT_REST.with(|image| match how % 4 {
        0 => rest.to_vec(),
        _ => {
            let whole = Image::from([(BACKUP.to_owned(), image[BACKUP].clone())]);
            edited(&whole, rest).remove(BACKUP).map(|bytes| bytes.to_vec()).unwrap_or_default()
        }
    });
    let mut medium = SimMedium::from_image(&Image::from([(BACKUP.to_owned(), bytes.into())]));
    let Ok((contents, _)) = backup::check(&mut medium, BACKUP) else { return };
    let restored = backup::restore(&mut medium, BACKUP, &mut SimMedium::default());
    let (again, _) = restored.expect("it was looked at, and is whole");
    assert_eq!(
        (again.messages, again.segments, again.next_seq),
        (contents.messages, contents.segments, contents.next_seq)
    );
}
