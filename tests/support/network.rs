//! A network of the kernel's own between us and the concentrator, where we may make one: a good way and a bad way to it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::Site;

/// Bytes that a slow way takes at once, and how long what waits for it may wait.
const BURST: &str = "1600";
const LATENCY: &str = "4s";

/// The network, until dropped. The site in it listens on both ways.
pub struct Network {
    /// The name of the namespace that the concentrator is in.
    name: String,
    number: u32,
}

impl Network {
    /// None where we may not make one, which is told.
    pub fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Of the addresses that are meant for tests of networks, a few for each process.
        let number = (std::process::id() % 4096) * 4 + NEXT.fetch_add(1, Ordering::Relaxed) % 4;
        let network = Self { name: format!("iotsocketd-{number}"), number };
        let made = ip(&["netns", "add", &network.name]) && network.set_up();
        if !made {
            println!("no network of the kernel: that takes root, `ip`, `tc` and network namespaces");
        }
        made.then_some(network)
    }

    fn set_up(&self) -> bool {
        let name = &self.name;
        let is_up = ip(&["-n", name, "link", "set", "lo", "up"]);
        ["good", "bad"].iter().zip(0..).fold(is_up, |is_up, (way, which)| {
            let (ours, theirs) = (self.interface(way), format!("{way}0"));
            let [our_ip, their_ip] = [1, 2].map(|end| format!("{}/30", self.address(which, end)));
            is_up
                && ip(&["link", "add", &ours, "type", "veth", "peer", "name", &theirs, "netns", name])
                && ip(&["addr", "add", &our_ip, "dev", &ours])
                && ip(&["link", "set", &ours, "up"])
                && ip(&["-n", name, "addr", "add", &their_ip, "dev", &theirs])
                && ip(&["-n", name, "link", "set", &theirs, "up"])
        })
    }

    fn interface(&self, way: &str) -> String {
        format!("i{way}{}", self.number)
    }

    fn address(&self, way: u32, end: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + self.number * 8 + way * 4 + end)
    }

    /// Where the concentrator is reached over the good way, and over the bad one.
    pub fn ways(&self) -> [IpAddr; 2] {
        [0, 1].map(|way| self.address(way, 2).into())
    }

    /// A site that is to be started in it: the good way leads there.
    pub fn prepare(&self, site: &mut Site) {
        for (section, port) in [("sessions", 5505), ("telemetry", 5505), ("api", 5443)] {
            site.set(section, "listen", &format!("\"0.0.0.0:{port}\""));
        }
        site.ip = self.ways()[0];
    }

    pub fn start(&self, site: &Site) {
        site.start_under(&["ip", "netns", "exec", &self.name]);
    }

    /// The bad way takes so many kbit a second in each direction.
    pub fn slow_down(&self, kbit: u32) -> bool {
        let rate = format!("{kbit}kbit");
        let shape = ["tbf", "rate", &rate, "burst", BURST, "latency", LATENCY];
        let (ours, name) = (self.interface("bad"), &self.name);
        run("tc", &[&["qdisc", "replace", "dev", &ours, "root"][..], &shape].concat())
            && run("tc", &[&["-n", name, "qdisc", "replace", "dev", "bad0", "root"][..], &shape].concat())
    }

    /// Whether the bad way is there at all.
    pub fn set_up_or_down(&self, is_up: bool) {
        let state = if is_up { "up" } else { "down" };
        assert!(ip(&["link", "set", &self.interface("bad"), state]));
    }

    /// Whether what the concentrator says on the bad way gets lost; what is said to it does not.
    pub fn swallow_answers(&self, is_on: bool) {
        let ours = format!("{}/32", self.address(1, 1));
        let verb = if is_on { "add" } else { "del" };
        assert!(ip(&["-n", &self.name, "route", verb, "blackhole", &ours]));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The interfaces go with it.
        ip(&["netns", "del", &self.name]);
    }
}

fn ip(words: &[&str]) -> bool {
    run("ip", words)
}

fn run(program: &str, words: &[&str]) -> bool {
    Command::new(program).args(words).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The address with another host.
pub fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}
