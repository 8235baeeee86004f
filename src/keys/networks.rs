//! The networks from which an account's key is accepted, if its people have named some.
//!
//! Never: an address outside of the list let in because the list could not be read.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use ipnet::{IpNet, Ipv4Net};

/// Networks in one list at most.
pub const NETWORKS_MAX: usize = 50;
/// Bytes of a list's text at most.
const TEXT_BYTES_MAX: usize = 4096;

/// A list of networks that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(Arc<[IpNet]>);

/// Why a text is no such list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworksError {
    /// Nothing in it.
    #[error("the list names no network")]
    Empty,
    /// Too much in it.
    #[error("a list has {NETWORKS_MAX} networks at most")]
    TooMany,
    /// One of them is none.
    #[error(
        "{0} is neither an address nor a network: write 203.0.113.7, 203.0.113.0/24 or 2001:db8::/48"
    )]
    NotOne(String),
}

impl Networks {
    /// Whether an address is in one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// A network as addresses are looked for in it: of IPv4, if it is spelt as a part of what IPv6 maps from there. `None` if it
/// reaches beyond that, where it would have no meaning for either.
fn canonical(network: IpNet) -> Option<IpNet> {
    const MAPPED: u8 = 96;
    let IpNet::V6(own) = network else {
        return Some(network);
    };
    let Some(address) = own.addr().to_ipv4_mapped() else {
        return Some(network);
    };
    let prefix = own.prefix_len().checked_sub(MAPPED)?;
    Ipv4Net::new(address, prefix).ok().map(IpNet::V4)
}

impl FromStr for Networks {
    type Err = NetworksError;

    /// Addresses and networks, separated by spaces, commas or line ends. Bits behind a network's prefix are dropped.
    fn from_str(text: &str) -> Result<Self, NetworksError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(NetworksError::TooMany);
        }
        let mut networks = Vec::new();
        for word in text.split(|c: char| c.is_whitespace() || c == ',') {
            if word.is_empty() {
                continue;
            }
            let network = word.parse::<IpNet>().or_else(|_| {
                let address = word.parse::<IpAddr>();
                address.map(|address| IpNet::from(address.to_canonical()))
            });
            let network = network
                .ok()
                .and_then(canonical)
                .ok_or_else(|| NetworksError::NotOne(word.chars().take(50).collect()))?
                .trunc();
            if !networks.contains(&network) {
                networks.push(network);
            }
        }
        match networks.len() {
            0 => Err(NetworksError::Empty),
            1..=NETWORKS_MAX => Ok(Self(networks.into())),
            _ => Err(NetworksError::TooMany),
        }
    }
}

impl fmt::Display for Networks {
    /// As it is stored: separated by one space.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, network) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{network}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_are_read_as_people_write_them() {
        let list: Networks = " 203.0.113.7, 198.51.100.9/24\n2001:db8::1/48 203.0.113.7"
            .parse()
            .expect("a list");
        assert_eq!(
            list.to_string(),
            "203.0.113.7/32 198.51.100.0/24 2001:db8::/48"
        );
        let has = |address: &str| list.contain(address.parse().expect("an address"));
        assert!(has("203.0.113.7") && has("::ffff:203.0.113.7") && has("198.51.100.255"));
        assert!(has("2001:db8:0:ffff::1"));
        assert!(!has("203.0.113.8") && !has("2001:db8:1::1") && !has("::1"));
        assert_eq!("  ,\n".parse::<Networks>(), Err(NetworksError::Empty));
        for bad in ["office", "203.0.113.0/33", "203.0.113", "*"] {
            assert!(
                matches!(bad.parse::<Networks>(), Err(NetworksError::NotOne(_))),
                "{bad}"
            );
        }
        // As IPv6 maps it; an address is looked for as what it is.
        let mapped: Networks = "::ffff:203.0.113.9/120, ::ffff:198.51.100.7"
            .parse()
            .expect("a list");
        assert_eq!(mapped.to_string(), "203.0.113.0/24 198.51.100.7/32");
        assert!(mapped.contain("203.0.113.200".parse().expect("an address")));
        assert!("::ffff:203.0.113.0/95".parse::<Networks>().is_err());
        let many: Vec<String> = (0..51).map(|n| format!("10.0.0.{n}")).collect();
        assert_eq!(
            many.join(" ").parse::<Networks>(),
            Err(NetworksError::TooMany)
        );
    }

    proptest! {
        #[test]
        fn whatever_is_read_reads_back(text in "[0-9a-f.:/, ]{0,80}") {
            if let Ok(list) = text.parse::<Networks>() {
                prop_assert_eq!(list.to_string().parse::<Networks>(), Ok(list));
            }
        }
    }
}
