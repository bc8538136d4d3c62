//! The file of the access list: what is read, what is refused, and that nothing is lost.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Barrier;
use std::thread;

use tempfile::TempDir;

use super::*;

const KEY: &str = "8f3c1d5e7a9b0c2d4e6f8091a2b3c4d5";

fn known(group: &GroupName) -> bool {
    ["Devices", "Stations"].contains(&group.as_str())
}

fn item(uid: &str) -> AclItem {
    AclItem {
        group: GroupName::parse("Devices").unwrap(),
        uid: Uid::parse(uid).unwrap(),
        key: AuthKey::parse(KEY).unwrap(),
    }
}

fn list(uids: &[&str]) -> AccessList {
    AccessList::build(uids.iter().map(|uid| item(uid)), known).unwrap()
}

fn refused(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("acl.json");
    fs::write(&path, text).unwrap();
    let error = load(&path, known).unwrap_err().to_string();
    assert!(error.starts_with(&format!("access list {}: ", path.display())), "{error}");
    error.rsplit_once("acl.json: ").unwrap().1.to_owned()
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("state/acl.json")
}

#[test]
fn a_missing_file_is_the_empty_list_and_an_unreadable_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    assert!(load(&file(&folder), known).unwrap().is_empty());
    assert!(load(folder.path(), known).is_err(), "a folder");
}

#[test]
fn what_is_stored_is_read_again_sorted_and_for_the_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    let stored = list(&["b", "a \"q\"", "long-uid-16bytes", "é"]);
    store(&path, &stored).unwrap();
    assert_eq!(load(&path, known).unwrap(), stored);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    let uids: Vec<_> = text.lines().filter_map(|line| line.split("\": {").nth(1).map(|_| line)).collect();
    assert_eq!(uids.len(), 4);
    assert!(uids.is_sorted(), "{uids:?}");
    assert_eq!(uids[1], format!("  \"b\": {{\"GroupName\": \"Devices\", \"AuthKey\": \"{KEY}\"}},"));
    store(&path, &stored).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    store(&path, &AccessList::default()).unwrap();
    assert!(load(&path, known).unwrap().is_empty());
}

#[test]
fn the_public_concentrators_file_is_read() {
    let text = "{\n\t\"Obj\" :\n\t{\n\t\t\"GroupName\"\t\t: \"Devices\",\n\t\t\"AuthKey\" : \"8F3C1D5E7A9B0C2D4E6F8091A2B3C4D5\"\n\t}\n}";
    assert_eq!(parse(text.as_bytes(), known).unwrap(), list(&["Obj"]));
}

#[test]
fn every_wrong_object_gets_its_sentence_and_no_key_is_shown() {
    let text = format!(
        r#"{{"a": {{"GroupName": "Nobody", "AuthKey": "{KEY}"}},
            "b": {{"GroupName": "Devices", "AuthKey": "5ec4e7"}},
            "c": {{"GroupName": "Devices", "AuthKey": 555555}},
            "d": {{"GroupName": "Devices"}},
            "e": {{"AuthKey": "{KEY}"}},
            "f": 5,
            "g": {{"GroupName": "Devices", "AuthKey": "{KEY}", "AuthKey": "{KEY}"}},
            "h": {{"GroupName": "Devices", "Authkey": "{KEY}"}},
            "12345678901234567": {{"GroupName": "Devices", "AuthKey": "{KEY}"}},
            "": {{"GroupName": "Devices", "AuthKey": "{KEY}"}},
            "i": {{"GroupName": "Devices", "AuthKey": "{KEY}"}},
            "i": {{"GroupName": "Devices", "AuthKey": "{KEY}"}}}}"#
    );
    let sentence = refused(&text);
    let parts: Vec<_> = sentence.split("; ").collect();
    assert_eq!(
        parts,
        [
            "object \"a\": GroupName `Nobody` is not a configured group",
            "object \"b\": AuthKey must be 32 hex digits",
            "object \"c\": AuthKey must be a text",
            "object \"d\": AuthKey is missing",
            "object \"e\": GroupName is missing",
            "object \"f\": must be an object with GroupName and AuthKey",
            "object \"g\": AuthKey stands there twice",
            "object \"h\": `Authkey` is neither GroupName nor AuthKey",
            "object \"12345678901234567\": UID is longer than 16 bytes of UTF-8",
            "object \"\": UID `` is the central's, no object can have it",
            "object \"i\": UID `i` stands in the list twice",
        ]
    );
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    assert!(refused("{\"a\": ").contains("line 1 column"));
    assert!(refused("").contains("is not JSON"));
    assert!(refused("[]").contains("must be an object"));
    assert!(refused("{} {}").contains("trailing characters"));
    assert!(refused(&"{\"a\":".repeat(100_000)).contains("recursion limit"));
    let many = (0..100).map(|n| format!("\"{n}\": 1")).collect::<Vec<_>>().join(",");
    assert!(refused(&format!("{{{many}}}")).ends_with("; and perhaps more"));
    assert!(refused(&" ".repeat(ACL_FILE_MAX + 1)).contains("is larger than"));
}

#[test]
fn the_largest_list_fits_its_file() {
    let folder = tempfile::tempdir().unwrap();
    // Control characters take six bytes each in JSON.
    let uids = (0..crate::limits::ACL_ITEMS_MAX).map(|number| format!("{}{number:05}", "\u{1}".repeat(11)));
    let stored = AccessList::build(uids.map(|uid| item(&uid)), known).unwrap();
    store(&file(&folder), &stored).unwrap();
    assert_eq!(load(&file(&folder), known).unwrap().len(), stored.len());
}

#[test]
fn left_overs_of_a_crash_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    store(&path, &list(&["a"])).unwrap();
    let left_over = beside(&path, ".tmp");
    fs::write(&left_over, "{\"half\": {\"Gro").unwrap();
    fs::set_permissions(&left_over, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(load(&path, known).unwrap(), list(&["a"]));
    store(&path, &list(&["b"])).unwrap();
    assert_eq!(load(&path, known).unwrap(), list(&["b"]));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!left_over.exists());
}

#[test]
fn links_beside_the_file_give_nobody_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    store(&path, &list(&["a"])).unwrap();
    let theirs = folder.path().join("shadow");
    fs::write(&theirs, "root:x").unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o640)).unwrap();
    let add = |uid| {
        edit(&path, known, |list| {
            list.add(item(uid), known).unwrap();
            Ok::<(), AccessFileError>(())
        })
    };
    symlink(&theirs, beside(&path, ".tmp")).unwrap();
    add("b").unwrap();
    fs::remove_file(beside(&path, ".lock")).unwrap();
    symlink(&theirs, beside(&path, ".lock")).unwrap();
    let refused = add("c").unwrap_err().to_string();
    assert!(refused.contains(".lock is a link or no file") && refused.contains("remove it"), "{refused}");
    assert_eq!(load(&path, known).unwrap(), list(&["a", "b"]));
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "root:x");
    assert_eq!(fs::metadata(&theirs).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn an_edit_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    store(&path, &list(&["a"])).unwrap();
    let before = fs::read(&path).unwrap();
    let failed = edit(&path, known, |list| {
        list.remove(&Uid::parse("a").unwrap());
        Err::<(), _>(AccessFileError { path: PathBuf::new(), cause: AccessFileCause::TooLarge })
    });
    assert!(failed.is_err());
    assert_eq!(fs::read(&path).unwrap(), before);
    // A broken file is not replaced by an edit either.
    fs::write(&path, "{").unwrap();
    let failed = edit(&path, known, |_| Ok::<(), AccessFileError>(()));
    assert!(failed.is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "{");
}

#[test]
fn edits_at_the_same_time_do_not_lose_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    let (writers, edits) = (4, 10);
    let barrier = Barrier::new(writers);
    thread::scope(|scope| {
        for writer in 0..writers {
            let (path, barrier) = (&path, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for number in 0..edits {
                    let added = edit(path, known, |list| {
                        list.add(item(&format!("{writer}-{number}")), known).unwrap();
                        Ok::<(), AccessFileError>(())
                    });
                    added.unwrap();
                }
            });
        }
    });
    assert_eq!(load(&path, known).unwrap().len(), writers * edits);
}
