//! Traffic of every partner network, built from its documented fields, against a concentrator that is killed in the middle:
//! every message arrives, once by its id, in the order of its object.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ingest::{events, message, messages, take_all};
use crate::support::receiver::{Receiver as Endpoint, SECRET};
use crate::support::{Act, Hook, Hooks, Http, PATIENCE, Site, eventually};

/// Messages of each network; every third is delivered twice by it, as after an answer that was lost.
const MESSAGES: u64 = 30;
/// How often it is killed.
const KILLS: usize = 2;

/// What a receiver got.
pub struct Arrived {
    /// The message's id, if the receiver is told.
    pub id: Option<String>,
    pub uid: String,
    pub payload: Value,
}

/// Who gets the messages in the end.
pub trait Receiver: Sync {
    /// Adds itself to the configuration of a site that does not run yet.
    fn configure(&self, site: &Site);
    /// Everything that came so far, in its order; what came again may be there again.
    fn arrived(&self) -> Vec<Arrived>;
}

/// A post of a network.
struct Post {
    tail: &'static str,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// A network: its name and format, what else its section says, its nth post and what the device sent with it.
struct Network {
    name: &'static str,
    format: &'static str,
    more: &'static str,
    post: fn(u64) -> Post,
    /// Of the nth message, as the central sees it.
    sent: fn(u64) -> (String, Value),
}

fn of_json(body: &Value) -> Post {
    Post { tail: "", headers: vec![("Content-Type", "application/json".to_owned())], body: body.to_string() }
}

/// The payload of a LoRaWAN device.
fn three(number: u64) -> [u8; 3] {
    [7, (number >> 8) as u8, number as u8]
}

fn base64(bytes: [u8; 3]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = bytes.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte));
    [18, 12, 6, 0].iter().map(|shift| char::from(DIGITS[bits >> shift & 63])).collect()
}

fn hex(bytes: [u8; 3]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One of two objects of a network.
fn eui(network: u64, number: u64) -> String {
    format!("0018B2000000{network:02X}{:02X}", number % 2)
}

const NETWORKS: [Network; 10] = [
    Network {
        name: "own",
        format: "plain",
        more: "",
        post: |n| {
            let mut post =
                of_json(&json!({"UID": format!("own-{}", n % 2), "Payload": {"n": n}, "Format": "JSON"}));
            post.headers.push(("Idempotency-Key", format!("own {n}")));
            post
        },
        sent: |n| (format!("own-{}", n % 2), json!({"n": n})),
    },
    Network {
        name: "sigfox",
        format: "sigfox",
        more: "",
        post: |n| {
            let device = format!("1b4c{:02x}", n % 2);
            of_json(&json!({"device": device, "time": (1_795_287_162 + n).to_string(), "data": hex(three(n)),
                "seqNumber": n.to_string(), "rssi": "-121.00", "snr": 9.5, "station": "3AF2"}))
        },
        sent: |n| (format!("1B4C{:02X}", n % 2), json!(three(n))),
    },
    Network {
        name: "sigform",
        format: "sigfox",
        more: "",
        post: |n| Post {
            tail: "",
            headers: vec![("Content-Type", "application/x-www-form-urlencoded".to_owned())],
            body: format!(
                "device=2B4C{:02x}&time={}&data={}&seqNumber={n}&station=null",
                n % 2,
                1_795_287_162 + n,
                hex(three(n))
            ),
        },
        sent: |n| (format!("2B4C{:02X}", n % 2), json!(three(n))),
    },
    Network {
        name: "tts",
        format: "tts",
        more: "",
        post: |n| {
            let up = json!({"session_key_id": "AZqm", "f_port": 2, "frm_payload": base64(three(n)),
                "rx_metadata": [{"gateway_ids": {"gateway_id": "roof"}, "rssi": -97, "snr": 7.2}]});
            let mut body = json!({"end_device_ids": {"device_id": "t", "dev_eui": eui(1, n)}, "uplink_message": up,
                "correlation_ids": [format!("as:up:01KA{n}")], "received_at": "2026-11-21T18:52:42.123456789Z"});
            // Zero values are left out.
            if n > 0 {
                body["uplink_message"]["f_cnt"] = json!(n);
            }
            Post { tail: "/uplink", ..of_json(&body) }
        },
        sent: |n| (eui(1, n), json!(three(n))),
    },
    Network {
        name: "chirpstack",
        format: "chirpstack",
        more: "",
        post: |n| {
            let body = json!({"deduplicationId": format!("5e6f7a80-1b2c-4d3e-8f90-{n:012}"), "time": "2026-11-21T18:52:42.5+00:00",
                "deviceInfo": {"deviceName": "t", "devEui": eui(2, n).to_lowercase()}, "devAddr": "01a2b3c4", "fCnt": n, "fPort": 2,
                "data": base64(three(n)), "rxInfo": [{"gatewayId": "aa555a0000000001", "rssi": -97, "snr": 7.2}]});
            Post { tail: "?event=up", ..of_json(&body) }
        },
        sent: |n| (eui(2, n), json!(three(n))),
    },
    Network {
        name: "thingpark",
        format: "thingpark",
        more: "",
        post: |n| {
            of_json(
                &json!({"DevEUI_uplink": {"Time": "2026-11-21T19:52:42.123+01:00", "DevEUI": eui(3, n), "FPort": "2",
                "FCntUp": n.to_string(), "payload_hex": hex(three(n)), "mic_hex": format!("{n:08x}"), "LrrRSSI": "-97.0"}}),
            )
        },
        sent: |n| (eui(3, n), json!(three(n))),
    },
    Network {
        name: "1nce",
        format: "1nce",
        more: "basic_user = \"nce\"\nbasic_password = \"sesame\"\n",
        post: |n| {
            of_json(
                &json!({"id": format!("8c1e9f10-33a7-4c55-9a10-{n:012}"), "type": "TELEMETRY_DATA", "version": "1.0.0",
                "source": "UDP", "received": "1795287162123", "payload": {"type": "JSON", "value": {"n": n}},
                "device": {"iccid": "8988280666000000042", "ip": "100.64.3.9", "imsi": format!("90140510000004{}", n % 2)}}),
            )
        },
        sent: |n| (format!("90140510000004{}", n % 2), json!({"n": n})),
    },
    Network {
        name: "beam",
        format: "soracom",
        more: "",
        post: |n| Post {
            tail: "",
            headers: vec![
                ("Content-Type", "text/plain".to_owned()),
                ("x-soracom-imsi", format!("44010310000004{}", n % 2)),
                ("x-soracom-timestamp", (1_795_287_162_123 + n).to_string()),
            ],
            body: format!("number {n}"),
        },
        sent: |n| (format!("44010310000004{}", n % 2), json!(format!("number {n}"))),
    },
    Network {
        name: "live",
        format: "liveobjects",
        more: "uid = \"source\"\n",
        post: |n| {
            let urn = format!("urn:lo:nsid:lora:{}", eui(4, n));
            of_json(&json!({"streamId": urn, "timestamp": "2026-11-21T18:52:42.123Z", "model": "lora_v0",
                "value": {"payload": hex(three(n))}, "metadata": {"source": urn, "connector": "lora",
                "network": {"lora": {"devEUI": eui(4, n), "port": 2, "fcnt": n}}}}))
        },
        sent: |n| (eui(4, n), json!(three(n))),
    },
    Network {
        name: "any",
        format: "generic",
        more: "map = { uid = \"/d\", payload = \"/p\", id = \"/meta/n\" }\n",
        post: |n| of_json(&json!({"d": format!("boiler-{}", n % 2), "p": {"n": n}, "meta": {"n": n}})),
        sent: |n| (format!("boiler-{}", n % 2), json!({"n": n})),
    },
];

impl Network {
    fn add(&self, site: &Site) {
        let Self { name, format, more, .. } = self;
        site.append(&format!("[ingest.{name}]\nformat = \"{format}\"\ngroup = \"Devices\"\n{more}"));
    }

    /// Posts until it is answered 200, as the network would, and gives the id.
    fn bring(&self, site: &Site, connection: &mut Option<Http>, post: &Post) -> String {
        let begun = Instant::now();
        let path = format!("/v1/ingest/{}{}", self.name, post.tail);
        let mut headers: Vec<_> = post.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let is_basic = self.more.contains("basic_user");
        if is_basic {
            headers.push(("Authorization", "Basic bmNlOnNlc2FtZQ=="));
        }
        loop {
            if connection.is_none() {
                *connection = Http::connect(site, None).ok();
            }
            let asked = connection.as_mut().map(|http| {
                http.bearer = http.bearer.take().filter(|_| !is_basic);
                http.post_with(&path, &headers, post.body.as_bytes())
            });
            match asked {
                Some(Ok(reply)) if reply.status == 200 => {
                    return reply.json()["id"].as_str().unwrap().to_owned();
                }
                Some(Ok(reply)) => assert_eq!(reply.status, 503, "{path}: {}", reply.text()),
                // It was killed.
                Some(Err(_)) | None => *connection = None,
            }
            assert!(begun.elapsed() < 3 * PATIENCE, "{path}: not taken");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything that this network has to say; the ids.
    fn play(&self, site: &Site, taken: &AtomicUsize) -> Vec<String> {
        let mut connection = None;
        let numbers = 0..MESSAGES;
        let ids = numbers.map(|number| {
            let post = (self.post)(number);
            let id = self.bring(site, &mut connection, &post);
            if number % 3 == 0 {
                assert_eq!(self.bring(site, &mut connection, &post), id, "{} {number}", self.name);
            }
            if self.name == "sigfox" {
                let time = 1_795_287_162 + number;
                let later = json!({"device": format!("1B4C{:02X}", number % 2), "time": time, "seqNumber": number,
                    "lqi": "GOOD", "computedLocation": {"lat": 48.85, "lng": 2.35}});
                assert_eq!(self.bring(site, &mut connection, &of_json(&later)), id, "more about {number}");
            }
            taken.fetch_add(1, Ordering::Relaxed);
            id
        });
        ids.collect()
    }
}

/// Plays all of it for a receiver, with kills in the middle, and looks at what arrived.
pub fn every_message_arrives_once_in_order(receiver: &impl Receiver) {
    let site = Site::new();
    NETWORKS.iter().for_each(|network| network.add(&site));
    receiver.configure(&site);
    site.start();
    let (taken, ids) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let total = NETWORKS.len() * usize::try_from(MESSAGES).unwrap();
    std::thread::scope(|scope| {
        for network in &NETWORKS {
            scope.spawn(|| {
                let own = network.play(&site, &taken);
                ids.lock().unwrap().insert(network.name, own);
            });
        }
        for kill in 1..=KILLS {
            eventually("a part of it is taken", || {
                taken.load(Ordering::Relaxed) >= kill * total / (KILLS + 1)
            });
            site.kill();
            site.start();
        }
    });
    let ids = ids.into_inner().unwrap();
    let mut wanted = BTreeMap::new();
    for network in &NETWORKS {
        for (number, id) in (0..).zip(&ids[network.name]) {
            wanted.insert(id.clone(), (network.sent)(number));
        }
    }
    assert_eq!(wanted.len(), total, "each message has an id of its own");
    eventually("everything arrived", || {
        let arrived: HashSet<_> =
            receiver.arrived().iter().map(|one| (one.uid.clone(), one.payload.to_string())).collect();
        arrived.len() == total
    });
    check_arrived(&receiver.arrived(), &wanted);
    let kept = messages(&site, "kind=telemetry");
    let kept_ids: Vec<_> = kept.iter().map(|message| message["id"].as_str().unwrap()).collect();
    assert_eq!(kept_ids.len(), total);
    assert_eq!(kept_ids.iter().collect::<HashSet<_>>().len(), total, "once by id");
    for network in &NETWORKS {
        let of_network = kept.iter().filter(|message| message["source"] == network.name);
        let in_order: Vec<_> = of_network.map(|message| message["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(in_order, ids[network.name], "{} is in the order of its arrival", network.name);
    }
    let merged = message(&site, &ids["sigfox"][1]);
    assert!(events(&merged).contains(&"merged"), "{merged:#}");
}

/// Each message is what its device sent, it is once by id where there is one, and each object's are in order.
fn check_arrived(arrived: &[Arrived], wanted: &BTreeMap<String, (String, Value)>) {
    let mut seen = HashSet::new();
    let mut objects: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for Arrived { id, uid, payload } in arrived {
        if let Some(id) = id {
            assert_eq!(wanted.get(id), Some(&(uid.clone(), payload.clone())), "{id}");
        }
        // At least once: what came again is known by its id, or by what it says.
        if seen.insert(id.clone().unwrap_or_else(|| format!("{uid} {payload}"))) {
            objects.entry(uid).or_default().push(payload);
        }
    }
    assert_eq!(seen.len(), wanted.len());
    for network in &NETWORKS {
        for object in 0..2 {
            let numbers = (0..MESSAGES).filter(|number| number % 2 == object);
            let in_order: Vec<Value> = numbers.map(|number| (network.sent)(number).1).collect();
            let uid = (network.sent)(object).0;
            assert_eq!(objects[uid.as_str()], in_order.iter().collect::<Vec<_>>(), "{uid}");
        }
    }
}

/// The telemetry webhook of the central.
struct Central(Hooks);

impl Receiver for Central {
    fn configure(&self, site: &Site) {
        site.set("central.webhooks", "telemetry", &self.0.url("/telemetry"));
    }

    fn arrived(&self) -> Vec<Arrived> {
        let one = |body: &Value| Arrived {
            id: None,
            uid: body["UID"].as_str().unwrap().to_owned(),
            payload: body["Payload"].clone(),
        };
        self.0.seen().iter().map(|hook| one(&hook.body)).collect()
    }
}

/// A subscriber that believes what is signed only, is busy now and then, and has this in its section.
struct Signed {
    endpoint: Endpoint,
    more: &'static str,
}

impl Signed {
    fn new(more: &'static str) -> Self {
        let is_busy = |calls: u64| calls % 40 == 7;
        let refuse = move |_: &_, calls| is_busy(calls).then(|| Act::Answer(503, String::new()));
        Self { endpoint: Endpoint::start_with(SECRET, refuse), more }
    }
}

impl Receiver for Signed {
    fn configure(&self, site: &Site) {
        site.keep_secret(SECRET.to_owned());
        site.append(&self.endpoint.table("erp", self.more));
    }

    fn arrived(&self) -> Vec<Arrived> {
        let one = |(id, uid, payload)| Arrived { id: Some(id), uid, payload };
        self.endpoint.all().into_iter().map(one).collect()
    }
}

#[test]
fn a_subscriber_that_checks_signatures_gets_every_message_of_every_network_over_kills() {
    let subscriber = Signed::new("order = \"strict\"");
    every_message_arrives_once_in_order(&subscriber);
    assert!(subscriber.endpoint.seqs().is_sorted(), "everything is in the order of its arrival");
}

#[test]
fn a_subscriber_of_batches_gets_every_message_of_every_network_over_kills() {
    let subscriber = Signed::new("order = \"strict\"\nbatch_max = 20\nbatch_wait = \"20ms\"");
    every_message_arrives_once_in_order(&subscriber);
    assert!(subscriber.endpoint.seqs().is_sorted(), "everything is in the order of its arrival");
    let seen = subscriber.endpoint.hooks.seen();
    let of_several = |hook: &Hook| hook.body["messages"].as_array().is_some_and(|list| list.len() > 1);
    assert!(seen.iter().any(of_several), "batches are batches");
}

#[test]
fn the_central_gets_every_message_of_every_network_over_kills() {
    every_message_arrives_once_in_order(&Central(Hooks::start(take_all)));
}
