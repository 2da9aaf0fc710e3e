//! From where a request comes where proxies stand before the manager. Owns which of them are believed, and what they say.
//! Does not own what follows from an address.
//!
//! Each proxy adds the address that it was asked from at the end of one header; what stands before that is as the client
//! sent it. So the header is read from its end, for as long as those who wrote it are ours: the first address that is not
//! is the client's. What cannot be read ends that, and what the last of ours was asked by is all that is known then.

use axum::http::{HeaderMap, HeaderName, header};
use daemon::ConfigError;
use ipnet::IpNet;
use serde::Deserialize;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const TRUSTED: &str = "configuration key access.proxies.trusted";

/// `[access.proxies]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxiesConfig {
    /// The networks that our own proxies ask from; empty = there are none, and no header is believed.
    pub trusted: Vec<String>,
    /// What they all write.
    pub header: ProxyHeader,
}

/// The one header that is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ProxyHeader {
    /// Addresses, with commas between them.
    #[serde(rename = "x-forwarded-for")]
    XForwardedFor,
    /// That of RFC 7239.
    #[serde(rename = "forwarded")]
    Forwarded,
}

/// Our own proxies.
#[derive(Debug, Clone)]
pub(crate) struct Proxies {
    trusted: Vec<IpNet>,
    header: ProxyHeader,
}

impl Proxies {
    /// There are none.
    pub(crate) const fn none() -> Self {
        Self { trusted: Vec::new(), header: ProxyHeader::XForwardedFor }
    }

    /// From the configuration.
    ///
    /// # Errors
    /// [`ConfigError`]: a network that is none, or that is everything.
    pub(crate) fn new(config: &ProxiesConfig) -> Result<Self, ConfigError> {
        let wrong = |what: String| ConfigError::new(TRUSTED, what, "list networks as \"10.1.0.0/16\" or \"::1/128\"");
        let network = |text: &String| {
            let network: Option<IpNet> = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            let network = network.ok_or_else(|| wrong(format!("'{text}' is no network")))?;
            if network.prefix_len() == 0 {
                return Err(wrong(format!("'{text}' is everything: whoever asks could say from where")));
            }
            Ok(network)
        };
        Ok(Self { trusted: config.trusted.iter().map(network).collect::<Result<_, _>>()?, header: config.header })
    }

    /// Whose request came to us from `peer`.
    pub(crate) fn client_of(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let name = match self.header {
            ProxyHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            ProxyHeader::Forwarded => header::FORWARDED,
        };
        // Whoever adds to a header adds behind it: to its last line, or as a line of its own.
        let lines: Vec<_> = headers.get_all(name).iter().collect();
        for line in lines.into_iter().rev() {
            let line = String::from_utf8_lossy(line.as_bytes());
            for hop in split(&line, ',').into_iter().rev() {
                let Some(address) = self.address_of(hop.trim()) else { return client };
                client = address.to_canonical();
                if !self.trusts(client) {
                    return client;
                }
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// What one proxy wrote; none: it is no address.
    fn address_of(&self, hop: &str) -> Option<IpAddr> {
        match self.header {
            ProxyHeader::XForwardedFor => node(hop),
            ProxyHeader::Forwarded => {
                let pairs = split(hop, ';').into_iter().filter_map(|pair| pair.split_once('='));
                let mut said = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
                // Who says it twice says nothing.
                let (_, value) = said.next().filter(|_| said.next().is_none())?;
                let value = value.trim();
                node(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
            }
        }
    }
}

/// Whose sign-ins are counted together: of IPv4 an address, of IPv6 a network of 64 bits, since whoever has one address of
/// it has all.
pub(crate) fn neighbourhood(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// An address, with or without a port.
fn node(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
}

/// The parts of a header between separators that are not within quotation marks. Those are told from the end: what a proxy
/// has written there is well formed, whatever the client sent before it.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut end, mut is_quoted) = (Vec::new(), text.len(), false);
    for (at, letter) in text.char_indices().rev() {
        let is_escaped = || text[..at].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
        if letter == '"' && !(is_quoted && is_escaped()) {
            is_quoted = !is_quoted;
        } else if letter == separator && !is_quoted {
            parts.push(&text[at + letter.len_utf8()..end]);
            end = at;
        }
    }
    parts.push(&text[..end]);
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn proxies(header: ProxyHeader) -> Proxies {
        let trusted = ["10.0.0.0/8", "127.0.0.1", "fd00::/8"].map(str::to_owned).into();
        Proxies::new(&ProxiesConfig { trusted, header }).unwrap()
    }

    /// Whose request it is that comes from the proxy 10.0.0.1 with those lines.
    fn client(header: ProxyHeader, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            for name in ["x-forwarded-for", "forwarded"] {
                let is_meant = (name == "forwarded") == (header == ProxyHeader::Forwarded);
                let value = if is_meant { line } else { "for=198.51.100.66" };
                headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
        }
        proxies(header).client_of("10.0.0.1".parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_client_is_the_last_who_is_not_ours() {
        let of = |lines: &[&str]| client(ProxyHeader::XForwardedFor, lines);
        assert_eq!(of(&[]), "10.0.0.1");
        assert_eq!(of(&["203.0.113.9"]), "203.0.113.9");
        assert_eq!(of(&["203.0.113.9, 10.2.3.4"]), "203.0.113.9");
        assert_eq!(of(&["203.0.113.9:4711,fd00::7"]), "203.0.113.9", "behind two of ours, of which one tells ports");
        assert_eq!(of(&["[2001:db8::7]:443"]), "2001:db8::7");
        assert_eq!(of(&["::ffff:203.0.113.9"]), "203.0.113.9");
        assert_eq!(of(&["10.9.9.9, 10.8.8.8"]), "10.9.9.9", "one of ours itself");
    }

    #[test]
    fn what_a_client_sent_before_that_counts_for_nothing() {
        let of = |lines: &[&str]| client(ProxyHeader::XForwardedFor, lines);
        assert_eq!(of(&["198.51.100.1, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(of(&["198.51.100.1", "203.0.113.9"]), "203.0.113.9", "a line of its own");
        assert_eq!(of(&["127.0.0.1, 203.0.113.9, 10.0.0.2"]), "203.0.113.9");
        assert_eq!(of(&["\u{fc}\", 203.0.113.9"]), "203.0.113.9", "whatever letters those are");
        for nothing in ["nobody", "", "999.1.1.1", "203.0.113.9,", "for=203.0.113.9", "203.0.113.9 198.51.100.1"] {
            assert_eq!(of(&[nothing]), "10.0.0.1", "{nothing}");
            assert_eq!(of(&[&format!("{nothing},10.7.7.7")]), "10.7.7.7", "{nothing}: as far as it is known");
        }
    }

    #[test]
    fn the_standard_header_is_read_by_its_grammar() {
        let of = |lines: &[&str]| client(ProxyHeader::Forwarded, lines);
        assert_eq!(of(&["for=203.0.113.9"]), "203.0.113.9");
        assert_eq!(of(&["For=\"[2001:db8::7]:443\";proto=https, for=10.1.1.1;by=10.0.0.1"]), "2001:db8::7");
        assert_eq!(of(&["for=198.51.100.1", "proto=https;for=\"203.0.113.9:80\""]), "203.0.113.9");
        // A proxy quotes the host that the client asked for: what is within is the client's word.
        assert_eq!(of(&[r#"for=203.0.113.9;host="evil, for=198.51.100.1;x=""#]), "203.0.113.9");
        assert_eq!(of(&[r#"for=203.0.113.9;host="evil\", for=198.51.100.1;x=\"""#]), "203.0.113.9");
        // A quotation that the client opened and never closed.
        assert_eq!(of(&[r#"for="198.51.100.1, for=203.0.113.9"#]), "203.0.113.9");
        for nothing in
            ["for=unknown", "for=_hidden", "by=203.0.113.9", "for=203.0.113.9;for=198.51.100.1", "203.0.113.9"]
        {
            assert_eq!(of(&[nothing]), "10.0.0.1", "{nothing}");
        }
    }

    #[test]
    fn who_is_none_of_ours_is_not_believed() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "198.51.100.1".parse().unwrap());
        for (trusted, peer) in [(&[][..], "127.0.0.1"), (&["10.0.0.0/8".to_owned()], "203.0.113.9")] {
            let config = ProxiesConfig { trusted: trusted.to_vec(), header: ProxyHeader::XForwardedFor };
            let peer: IpAddr = peer.parse().unwrap();
            assert_eq!(Proxies::new(&config).unwrap().client_of(peer, &headers), peer);
        }
    }

    #[test]
    fn whoever_has_an_address_of_a_network_has_all_of_it() {
        let of = |text: &str| neighbourhood(text.parse().unwrap());
        assert_eq!(of("203.0.113.9"), "203.0.113.9");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:3::1"), of("2001:db8:1:2::1"));
    }

    #[test]
    fn networks_that_are_none_or_everything_are_refused() {
        for text in ["10.0.0.0/33", "proxy.example", "", "0.0.0.0/0", "::/0"] {
            let config = ProxiesConfig { trusted: vec![text.to_owned()], header: ProxyHeader::Forwarded };
            let error = Proxies::new(&config).unwrap_err().to_string();
            assert!(error.contains("access.proxies.trusted") && error.contains(text), "{error}");
        }
    }
}
