//! What `[network]` and `[time] ntp` ask of the machine, as files that systemd and an SSH server read: the start of an image
//! puts them where they belong.

use std::fs;
use std::path::Path;

use crate::service::config::{Config, ImageAddress};

/// Writes them into a folder, which is made if it is missing. What is not asked for is an empty file.
pub(super) fn write(config: &Config, folder: &Path) -> Result<(), String> {
    let network = &config.network;
    let files = [
        ("network", link(config)),
        ("timesyncd", time(&config.time.ntp)),
        ("hostname", network.hostname.iter().map(|name| format!("{name}\n")).collect()),
        ("authorized_keys", network.ssh_keys.iter().map(|key| format!("{key}\n")).collect()),
    ];
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// The wired network, for systemd-networkd.
fn link(config: &Config) -> String {
    let network = &config.network;
    let mut text = "[Match]\nName=e*\n\n[Network]\n".to_owned();
    text += &match network.address {
        ImageAddress::Dhcp => "DHCP=yes\n".to_owned(),
        ImageAddress::Fixed(address, prefix) => format!("Address={address}/{prefix}\n"),
    };
    text.extend(network.gateway.iter().map(|gateway| format!("Gateway={gateway}\n")));
    text.extend(network.dns.iter().map(|server| format!("DNS={server}\n")));
    // Servers that are named count, whatever the network gives.
    if !config.time.ntp.is_empty() {
        text += "\n[DHCPv4]\nUseNTP=no\n";
    }
    text
}

/// Time servers, for systemd-timesyncd; without any its own count.
fn time(servers: &[String]) -> String {
    match servers {
        [] => String::new(),
        _ => format!("[Time]\nNTP={}\n", servers.join(" ")),
    }
}
