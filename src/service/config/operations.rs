//! Running for years: `[alerts]`, `[upgrade]`, `[time]`, and the image's `[network]`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::Folders;
use super::central::{outgoing_url, read_ca_file};
use super::partners::read_signing_secrets;
use super::reader::{Table, list};
use super::secrets::SigningSecrets;
use super::units::{Url, duration, ip, name, network, one_of, percent, text};
use crate::net::Network;

/// Who is told when something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alerts {
    /// A signed webhook.
    pub webhook: Option<AlertWebhook>,
    /// A name under /sys/class/leds; `None`: no light.
    pub led: Option<String>,
    /// The disk is nearly full.
    pub disk_percent: u8,
    /// The queue is nearly full.
    pub queue_percent: u8,
}

/// Where alerts are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertWebhook {
    /// Where.
    pub url: Url,
    /// What signs.
    pub secrets: SigningSecrets,
    /// PEM of the only authorities to trust; otherwise the system's.
    pub ca_file: Option<PathBuf>,
    /// Private networks that its name may lead to.
    pub allow_to: Vec<Network>,
}

/// Signed new versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// The key that signs versions; a missing file: no version is taken.
    pub public_key_file: PathBuf,
    /// Folder of versions.
    pub dir: PathBuf,
    /// How long a new version must hold.
    pub confirm_after: Duration,
}

/// Wall time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Time {
    /// Time servers of the image.
    pub ntp: Vec<String>,
    /// When wall time counts as true.
    pub trust: TimeTrust,
}

/// When wall time counts as true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeTrust {
    /// When the kernel says that it is synchronised.
    Auto,
    /// Always.
    Always,
}

/// Network of the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageNetwork {
    /// Name of the machine.
    pub hostname: Option<String>,
    /// Its address.
    pub address: ImageAddress,
    /// Where everything else is.
    pub gateway: Option<IpAddr>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Who may log in; empty: nobody.
    pub ssh_keys: Vec<String>,
}

/// Address of the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ImageAddress {
    /// From the network.
    #[default]
    Dhcp,
    /// Fixed, with the length of its network's prefix.
    Fixed(IpAddr, u8),
}

pub(super) fn read_alerts(mut table: Table<'_>, folders: &Folders) -> Alerts {
    let webhook = outgoing_url(&mut table, "webhook");
    let webhook = if table.has("webhook") {
        let secrets = read_signing_secrets(&mut table, folders);
        let ca_file = read_ca_file(&mut table, folders);
        let allow_to = list(&mut table, "allow_to", network).unwrap_or_default();
        webhook.zip(secrets).map(|(url, secrets)| AlertWebhook { url, secrets, ca_file, allow_to })
    } else {
        for key in ["secret", "secret_file", "ca_file", "allow_to"] {
            if table.item(key).is_some() {
                table.mistake(key, "belongs to a `webhook` that is not there");
            }
        }
        None
    };
    let led = table.read("led", "ACT".to_owned(), led);
    let alerts = Alerts {
        webhook,
        led: (!led.is_empty()).then_some(led),
        disk_percent: table.read("disk_percent", 90, percent),
        queue_percent: table.read("queue_percent", 80, percent),
    };
    table.finish();
    alerts
}

pub(super) fn read_upgrade(mut table: Table<'_>, folders: &Folders) -> Upgrade {
    let key = table.read("public_key_file", "upgrade.pub".to_owned(), name);
    let upgrade = Upgrade {
        public_key_file: folders.config.join(key),
        dir: folders.state.join(table.read("dir", "versions".to_owned(), name)),
        confirm_after: table.read("confirm_after", Duration::from_secs(60), duration),
    };
    table.finish();
    upgrade
}

pub(super) fn read_time(mut table: Table<'_>) -> Time {
    let trust = [("auto", TimeTrust::Auto), ("always", TimeTrust::Always)];
    let time = Time {
        ntp: list(&mut table, "ntp", host).unwrap_or_default(),
        trust: table.read("trust", TimeTrust::Auto, one_of(&trust)),
    };
    table.finish();
    time
}

pub(super) fn read_network(mut table: Table<'_>) -> ImageNetwork {
    let network = ImageNetwork {
        hostname: table.optional("hostname", hostname),
        address: table.read("address", ImageAddress::Dhcp, address),
        gateway: table.optional("gateway", ip),
        dns: list(&mut table, "dns", ip).unwrap_or_default(),
        ssh_keys: list(&mut table, "ssh_keys", ssh_key).unwrap_or_default(),
    };
    table.finish();
    network
}

/// A name under /sys/class/leds, never a path out of it.
fn led(value: &DeValue<'_>) -> Result<String, String> {
    let led = text(value)?;
    match led.contains(['/', '\0']) || led == ".." || led == "." {
        false => Ok(led),
        true => Err("must be a name under /sys/class/leds, or empty".to_owned()),
    }
}

/// A name or address without blanks.
fn host(value: &DeValue<'_>) -> Result<String, String> {
    let host = name(value)?;
    match host.contains(char::is_whitespace) {
        false => Ok(host),
        true => Err("must be one host name or address".to_owned()),
    }
}

fn hostname(value: &DeValue<'_>) -> Result<String, String> {
    let hostname = text(value)?;
    let plain = hostname.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match plain && (1..=63).contains(&hostname.len()) && !hostname.starts_with('-') {
        true => Ok(hostname),
        false => Err("must be 1 to 63 letters, digits and `-`".to_owned()),
    }
}

fn address(value: &DeValue<'_>) -> Result<ImageAddress, String> {
    let text = text(value)?;
    if text == "dhcp" {
        return Ok(ImageAddress::Dhcp);
    }
    let fixed = text.split_once('/').and_then(|(address, prefix)| {
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= longest)?;
        Some(ImageAddress::Fixed(address, prefix))
    });
    fixed
        .ok_or_else(|| "must be \"dhcp\", or an address with its network like \"192.168.1.10/24\"".to_owned())
}

/// One line as in authorized_keys.
fn ssh_key(value: &DeValue<'_>) -> Result<String, String> {
    let key = text(value)?;
    let kind = key.split(' ').next().unwrap_or_default();
    let known = kind.starts_with("ssh-") || kind.starts_with("ecdsa-") || kind.starts_with("sk-");
    match known && key.contains(' ') && !key.chars().any(char::is_control) {
        true => Ok(key),
        false => Err("must be a public key as in authorized_keys".to_owned()),
    }
}
