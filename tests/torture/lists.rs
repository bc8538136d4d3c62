//! An access list that changes all the time, in good ways and bad ones, while everybody works and the process is killed.

use std::time::{Duration, Instant};

use iotsocketd::hub::access_file::key_to_hex;
use iotsocketd::wire::{AclItem, AuthKey, GroupName, Transmission, Uid};
use serde_json::{Value, json};

use crate::links::log_in;
use crate::support::chaos::Random;
use crate::support::crowd::{Crowd, Plan, prepare};
use crate::support::{Device, Said, Site, eventually};
use crate::watch::{Bounds, watched};
use crate::{is_full, seed};

const PLAN: Plan = Plan { sessions: 20, datagrams: 50, calls: 20, brought: 10 };
/// Objects of the list besides those: a part of `cargo test`, and all of it.
const ITEMS: [usize; 2] = [500, 10_000];
const TIMES: [Duration; 2] = [Duration::from_secs(8), Duration::from_secs(120)];
/// Lists a second, and every so many of them a kill.
const PAUSE: Duration = Duration::from_millis(100);
const KILL_EVERY: u64 = 25;

fn item(uid: &str, group: &str, key: &str) -> Value {
    json!({"UID": uid, "GroupName": group, "AuthKey": key})
}

/// What is wrong with a list that is to be refused.
fn spoiled(random: &mut Random, mut list: Vec<Value>) -> String {
    let key = "00112233445566778899aabbccddee01";
    match random.below(5) {
        0 => list.push(item("x", "Nowhere", key)),
        1 => list.push(list[0].clone()),
        2 => list.push(item("", "Devices", key)),
        3 => list = (0..20_001).map(|number| item(&format!("n{number}"), "Devices", key)).collect(),
        _ => {
            let mut text = Value::from(list).to_string();
            text.truncate(text.len() / 2);
            return text;
        }
    }
    Value::from(list).to_string()
}

/// What is taken holds at once and over kills, what is refused changes nothing, and who stays in the list notices nothing.
#[test]
fn lists_that_change_all_the_time_hold_at_once_and_disturb_nobody_who_stays() {
    let (full, mut random) = (usize::from(is_full()), Random::new(seed()));
    let site = Site::new();
    site.set("sessions", "max_unauthenticated_per_source", "1024");
    let devices = prepare(&site, PLAN);
    let near = site.device("near", "Devices");
    let guest = site.stranger("guest");
    site.start();
    let of_file: Value = serde_json::from_str(&site.read("state/acl.json")).unwrap();
    let mut base: Vec<_> = of_file
        .as_object()
        .unwrap()
        .iter()
        .map(|(uid, entry)| json!({"UID": uid, "GroupName": entry["GroupName"], "AuthKey": entry["AuthKey"]}))
        .collect();
    let filler = |number: usize| format!("{number:032x}");
    base.extend((0..ITEMS[full]).map(|n| item(&format!("filler-{n}"), "Devices", &filler(n + 1_000_000))));
    let with = [&base[..], &[item("guest", "Devices", &key_to_hex(&guest.key))]].concat();
    let (mut near, _) = site.login_with_token(near);
    let bounds = Bounds { memory_kib: 96 * 1024, files: 400 };
    let (mut taken, mut refused, mut kills, mut revoked) = (0_u64, 0_u64, 0_u64, Vec::new());
    let ((), seen) = watched(&site, bounds, |watch| {
        let crowd = Crowd::start(&site, PLAN, devices);
        let began = Instant::now();
        while began.elapsed() < TIMES[full] {
            std::thread::sleep(PAUSE);
            watch.check();
            let mut http = site.http();
            match random.below(4) {
                0 => {
                    let text = spoiled(&mut random, base.clone());
                    let reply = http.post("/acl", text.as_bytes());
                    assert!([400, 413].contains(&reply.status), "{} {}", reply.status, reply.text());
                    refused += 1;
                }
                1 => {
                    cut(&site, base.len());
                    refused += 1;
                }
                _ => {
                    let reply = http.post("/acl", Value::from(with.clone()).to_string().as_bytes());
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    let mut peer = site.login(guest);
                    peer.token();
                    let asked = Instant::now();
                    let reply = http.post("/acl", Value::from(base.clone()).to_string().as_bytes());
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    taken += 2;
                    if taken % KILL_EVERY < 2 {
                        // What was acknowledged holds, whatever comes right behind it.
                        site.kill();
                        eventually("everybody notices", || !crowd.is_whole());
                        site.start();
                        eventually("all sessions are back", || crowd.is_whole());
                        near = site
                            .login_with_token(Device { uid: Uid::parse("near").unwrap(), key: key_of(&base) })
                            .0;
                        crowd.tally.refused.take();
                        crowd.tally.broken.take();
                        kills += 1;
                    } else {
                        while !matches!(peer.next(), Said::Close(_) | Said::End) {}
                        revoked.push(asked.elapsed());
                    }
                    assert!(log_in(&site, guest, site.sessions()).is_none(), "who was removed got in");
                }
            }
            near.is_alive();
            for (what, met) in [("refused", &crowd.tally.refused), ("broken", &crowd.tally.broken)] {
                assert_eq!(met.take(), (0, String::new()), "{what}");
            }
        }
        let (_, lost) = crowd.lost(&site);
        assert_eq!(lost, Vec::<String>::new());
    });
    revoked.sort();
    let most = revoked.last().copied().unwrap_or_default();
    println!(
        "{taken} lists of {} objects taken, {refused} refused, {kills} kills; revoked within {most:.1?} at most; {} KiB at most",
        base.len(),
        seen.memory_kib
    );
    assert!(taken > 0 && refused > 0);
    let on_disk: Value = serde_json::from_str(&site.read("state/acl.json")).unwrap();
    assert_eq!(on_disk.as_object().unwrap().len(), base.len());
}

fn key_of(base: &[Value]) -> AuthKey {
    let near = base.iter().find(|item| item["UID"] == "near").unwrap();
    AuthKey::parse(near["AuthKey"].as_str().unwrap()).unwrap()
}

/// A central that begins a list and is gone.
fn cut(site: &Site, count: usize) {
    let mut central = site.login(site.central());
    let mut bytes = Vec::new();
    Transmission::AclHead { count: u32::try_from(count).unwrap() }.encode(&mut bytes);
    let stranger = AclItem {
        group: GroupName::parse("Devices").unwrap(),
        uid: Uid::parse("stranger").unwrap(),
        key: AuthKey([9; 16]),
    };
    (0..count / 2).for_each(|_| bytes.extend_from_slice(&stranger.encode()));
    central.send_raw(&bytes);
}
