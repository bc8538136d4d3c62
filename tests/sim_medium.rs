//! The simulated medium loses what it may lose, and only that.
#![cfg(test)]

#[path = "support/medium/mod.rs"]
mod medium;

use std::collections::BTreeSet;

use iotsocketd::journal::medium::{Medium, MediumError, Operation};
use medium::{Disk, Failure, Fault, Image, Loss, Random, SimMedium, images};

fn medium_with(name: &str, bytes: &[u8]) -> SimMedium {
    let mut medium = SimMedium::new();
    let file = medium.create(name, bytes.len() as u64).unwrap();
    medium.write_at(file, 0, bytes).unwrap();
    medium.sync(file).unwrap();
    medium.sync_folder().unwrap();
    medium
}

/// The images of a power cut now by one way of losing.
fn images_of(medium: &SimMedium, loss: Loss) -> Vec<Image> {
    let all = (0..20).flat_map(|seed| images(&medium.disk(), &mut Random::new(seed)));
    all.filter(|(by, _)| *by == loss).map(|(_, image)| image).collect()
}

fn read(medium: &mut SimMedium, name: &str) -> Vec<u8> {
    let file = medium.open(name).unwrap();
    let mut bytes = vec![0; 1 << 16];
    let len = medium.read_at(file, 0, &mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

#[test]
fn what_is_synced_is_in_every_image() {
    let medium = medium_with("a", &[7; 3000]);
    let all = images(&medium.disk(), &mut Random::new(1));
    assert_eq!(all.len(), 1, "nothing is unsynced, so there is one image");
    assert_eq!(all[0].1["a"].as_slice(), [7; 3000]);
}

#[test]
fn an_unsynced_write_is_there_in_any_subset_of_its_sectors() {
    let mut medium = medium_with("a", &[0; 2048]);
    let file = medium.open("a").unwrap();
    medium.write_at(file, 0, &[1; 2048]).unwrap();
    let seen: BTreeSet<Vec<u8>> = images_of(&medium, Loss::SomeSectors)
        .into_iter()
        .map(|image| image["a"].chunks(512).map(|sector| sector[0]).collect())
        .collect();
    assert!(seen.len() > 8, "{seen:?}");
    for image in images_of(&medium, Loss::SomeSectors) {
        assert!(image["a"].chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
    }
    let torn: BTreeSet<usize> = images_of(&medium, Loss::TornWrite)
        .into_iter()
        .map(|image| image["a"].iter().filter(|byte| **byte == 1).count())
        .collect();
    assert!([512, 1024, 1536].iter().all(|len| torn.contains(len)), "{torn:?}");
    assert!(torn.iter().any(|len| len % 512 != 0), "{torn:?}");
    medium.sync(file).unwrap();
    assert_eq!(images(&medium.disk(), &mut Random::new(1)).len(), 1);
}

#[test]
fn a_name_without_a_sync_of_the_folder_can_be_lost_and_a_length_without_one_of_the_file() {
    let mut medium = SimMedium::new();
    medium.create("b", 10).unwrap();
    let file = medium.create("a", 1024).unwrap();
    medium.write_at(file, 0, &[1; 1024]).unwrap();
    medium.sync(file).unwrap();
    let lost = images_of(&medium, Loss::EntryLost);
    assert!(
        lost.iter().any(|image| image.keys().eq(["b"])) && lost.iter().any(|image| image.keys().eq(["a"]))
    );
    medium.sync_folder().unwrap();
    medium.write_at(file, 1024, &[2; 512]).unwrap();
    assert_eq!(images_of(&medium, Loss::DataOnly).len(), 0, "the same as losing everything");
    let grown = &images_of(&medium, Loss::MetadataOnly)[0]["a"];
    assert_eq!((grown.len(), grown[1023], grown[1024]), (1536, 1, 0));
}

#[test]
fn a_rename_or_a_removal_can_be_lost_alone() {
    let mut medium = medium_with("a", b"a");
    let other = medium.create("b", 1).unwrap();
    medium.sync(other).unwrap();
    medium.sync_folder().unwrap();
    medium.rename("a", "c").unwrap();
    medium.remove("b").unwrap();
    let names: BTreeSet<Vec<String>> = images_of(&medium, Loss::ChangeLost)
        .into_iter()
        .map(|image| image.keys().cloned().collect())
        .collect();
    let expected = [vec!["a".to_owned()], vec!["b".to_owned(), "c".to_owned()]];
    assert_eq!(names, expected.into_iter().collect());
}

#[test]
fn an_unsynced_shortening_leaves_the_old_length_or_the_new_one() {
    let mut medium = medium_with("a", &[1; 2048]);
    let file = medium.open("a").unwrap();
    medium.write_at(file, 1024, &[2; 512]).unwrap();
    medium.shrink(file, 1536).unwrap();
    assert_eq!(read(&mut medium, "a").len(), 1536);
    let all = Loss::ALL.into_iter().flat_map(|loss| images_of(&medium, loss));
    let seen: BTreeSet<(usize, u8)> = all.map(|image| (image["a"].len(), image["a"][1024])).collect();
    assert_eq!(seen, [(1536, 1), (1536, 2), (2048, 1), (2048, 2)].into());
    medium.sync(file).unwrap();
    assert_eq!(images_of(&medium, Loss::Everything)[0]["a"].len(), 1536);
}

#[test]
fn what_a_failed_sync_lost_stays_lost_though_reads_show_it_and_a_retry_says_ok() {
    let mut medium = medium_with("a", &[0; 4096]);
    let file = medium.open("a").unwrap();
    medium.write_at(file, 0, &[1; 4096]).unwrap();
    medium.inject(Fault { at: 0, lasting: false, failure: Failure::Error, only: Some(Operation::Sync) });
    assert!(matches!(medium.sync(file), Err(MediumError::Failed { operation: Operation::Sync, .. })));
    assert_eq!(medium.violations(), Vec::<String>::new());
    medium.sync(file).unwrap();
    assert_eq!(medium.violations().len(), 1);
    assert_eq!(read(&mut medium, "a"), [1; 4096]);
    for loss in Loss::ALL {
        for image in images_of(&medium, loss) {
            assert!(image["a"].contains(&0), "{loss:?}");
        }
    }
}

#[test]
fn replaying_the_record_leads_to_the_same_state() {
    let mut medium = medium_with("a", &[0; 100]);
    let file = medium.open("a").unwrap();
    medium.write_at(file, 50, &[9; 100]).unwrap();
    medium.rename("a", "b").unwrap();
    let mut disk = Disk::default();
    medium.ops().iter().for_each(|op| disk.apply(op));
    let of = |disk: &Disk| images(disk, &mut Random::new(3));
    assert_eq!(of(&disk), of(&medium.disk()));
}

#[test]
fn faults_strike_the_operation_they_name() {
    let mut medium = medium_with("a", &[0; 100]);
    medium.inject(Fault { at: 1, lasting: false, failure: Failure::NoSpace, only: Some(Operation::Write) });
    let file = medium.open("a").unwrap();
    medium.write_at(file, 0, &[1]).unwrap();
    assert_eq!(medium.write_at(file, 1, &[1]), Err(MediumError::NoSpace));
    assert_eq!(read(&mut medium, "a")[..2], [1, 0]);
    let mut medium = medium_with("a", &[0; 100]);
    medium.inject(Fault { at: 0, lasting: true, failure: Failure::Error, only: None });
    assert!(medium.list().is_err() && medium.open("a").is_err() && medium.sync_folder().is_err());
    medium.heal();
    assert!(medium.open("a").is_ok());
}
