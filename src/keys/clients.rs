//! Clients as they are told apart: by address and User-Agent, up to a number.
//!
//! Never: memory or rows that grow with the number of names under which somebody calls.

use std::net::{IpAddr, Ipv4Addr};

/// Different clients of one key that are told apart in an hour; whoever holds a dead key shall not fill the disk by
/// calling under ever new names.
pub const CLIENTS_PER_KEY_AND_HOUR: usize = 64;
/// As what the calls of clients are counted that cannot be told apart any more, at [`LUMPED_ADDRESS`].
pub const LUMPED_USER_AGENT: &str = "(more clients than can be told apart)";
/// No client's address.
pub const LUMPED_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Whether these are not one client's calls but those of all that could not be told apart.
pub fn is_lump(address: &str, user_agent: &str) -> bool {
    user_agent == LUMPED_USER_AGENT && address == "0.0.0.0"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_told_apart_is_no_client() {
        let address = LUMPED_ADDRESS.to_string();
        assert!(is_lump(&address, LUMPED_USER_AGENT));
        assert!(
            !is_lump("10.0.0.1", LUMPED_USER_AGENT),
            "somebody calls itself so"
        );
        assert!(!is_lump(&address, "curl/8"));
    }
}
