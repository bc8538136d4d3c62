//! Networks of IP addresses, for every `allow_from`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An IP network: "10.0.0.0/8", "fd00::/8", or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

/// Why a text is not a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkError {
    /// The part before the slash is not an IP address.
    Address,
    /// The prefix is not a number, or longer than the address.
    Prefix,
    /// Bits are set behind the prefix: most likely a typing error, so it is not guessed at.
    HostBits,
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "is not an IP address or network like 10.0.0.0/8",
            Self::Prefix => "has a prefix length that does not fit the address",
            Self::HostBits => "has address bits set behind its prefix",
        })
    }
}

impl std::error::Error for NetworkError {}

/// An IPv4 address that arrived on an IPv6 socket is the IPv4 address.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Whether an address is one that the public network does not lead to: of a private or local network, of this machine, of
/// none in particular, or of a group.
pub fn is_private(address: IpAddr) -> bool {
    match canonical(address) {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || a == 0
                || (a == 100 && b & 0xc0 == 64)
                || a >= 240
        }
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            // Addresses that stand for an IPv4 address are judged by that: the well-known prefix of NAT64.
            let embedded = (first == 0x64 && second == 0xff9b).then(|| v6.octets());
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || embedded.is_some_and(|[.., a, b, c, d]| is_private(IpAddr::from([a, b, c, d])))
        }
    }
}

fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(u32::from(128 - prefix)).unwrap_or(0)
}

impl Network {
    /// Whether the address lies in this network.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = canonical(address);
        let ((base, base_len), (value, value_len)) = (bits(self.base), bits(address));
        base_len == value_len && (base ^ value) & mask(self.prefix) == 0
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let base = canonical(address.parse().map_err(|_| NetworkError::Address)?);
        let (value, len) = bits(base);
        let prefix = match prefix {
            Some(prefix) => {
                prefix.parse().ok().filter(|prefix| *prefix <= len).ok_or(NetworkError::Prefix)?
            }
            None => len,
        };
        if value & !mask(prefix) != 0 {
            return Err(NetworkError::HostBits);
        }
        Ok(Self { base, prefix })
    }
}

/// A list of networks; the empty list allows every address, as the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowFrom(pub Vec<Network>);

impl AllowFrom {
    /// Whether a peer of this address may come in.
    pub fn allows(&self, address: IpAddr) -> bool {
        self.0.is_empty() || self.0.iter().any(|network| network.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_covers_its_network_and_nothing_else() {
        let network: Network = "10.0.0.0/8".parse().unwrap();
        assert!(network.contains(ip("10.255.255.255")));
        assert!(!network.contains(ip("11.0.0.0")));
        assert!(!network.contains(ip("::")));
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains(ip("192.0.2.1")));
        assert!("fd00::/8".parse::<Network>().unwrap().contains(ip("fdff::1")));
    }

    #[test]
    fn an_address_alone_is_a_network_of_one() {
        let network: Network = "192.0.2.1".parse().unwrap();
        assert!(network.contains(ip("192.0.2.1")));
        assert!(network.contains(ip("::ffff:192.0.2.1")));
        assert!(!network.contains(ip("192.0.2.2")));
    }

    #[test]
    fn addresses_that_the_public_network_does_not_lead_to() {
        for private in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "100.127.255.255",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
        ] {
            assert!(is_private(ip(private)), "{private}");
        }
        for public in [
            "9.9.9.9",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "2620:fe::fe",
            "64:ff9b::9.9.9.9",
        ] {
            assert!(!is_private(ip(public)), "{public}");
        }
    }

    #[test]
    fn mistakes_are_told_apart() {
        assert_eq!("10.0.0/8".parse::<Network>(), Err(NetworkError::Address));
        assert_eq!("10.0.0.0/33".parse::<Network>(), Err(NetworkError::Prefix));
        assert_eq!("10.0.0.1/8".parse::<Network>(), Err(NetworkError::HostBits));
    }

    #[test]
    fn the_empty_list_allows_all_and_any_other_only_its_own() {
        assert!(AllowFrom::default().allows(ip("192.0.2.1")));
        let list = AllowFrom(vec!["10.0.0.0/8".parse().unwrap()]);
        assert!(list.allows(ip("10.1.2.3")));
        assert!(!list.allows(ip("192.0.2.1")));
    }
}
