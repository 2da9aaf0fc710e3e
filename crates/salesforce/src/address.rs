//! Owns which addresses may be asked: an instance's or sign-on's host, and paths below it. What Salesforce, a customer
//! or a checkpoint hands in is hostile until it has passed here. Does not own what the names resolve to (`resolve`).

use reqwest::Url;

use crate::error::{Result, SalesforceError};

/// Below this path is everything that a session may be used for.
pub(crate) const DATA_PATH: &str = "/services/data/";
/// Domains whose hosts are all Salesforce's own. Not `force.com`: customers serve content of their own there.
const VENDOR_DOMAINS: [&str; 2] = [".salesforce.com", ".salesforce.mil"];
/// Longer than any that Salesforce sends; with the headers a request may have 16,384 bytes.
const ADDRESS_BYTES_MAX: usize = 16_384;

/// Which hosts a client may talk to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Hosts {
    /// Salesforce's own, by https on its usual port, at public addresses.
    #[default]
    Vendor,
    /// Any: for development and tests against a simulated Salesforce, never for a customer's data.
    Development {
        /// A certificate to trust besides the usual ones, in PEM.
        root_certificate_pem: Option<String>,
    },
}

impl Hosts {
    /// What a process was started with: `SERVANT_SALESFORCE_HOSTS`, and a certificate from the file that
    /// `SERVANT_SALESFORCE_CERTIFICATE_FILE` names. The environment is another's to read: `read` does. Hosts for
    /// development are worth a line in the log.
    ///
    /// # Errors
    /// `Rejected` as [`Hosts::from_setting`], and for a file that cannot be read.
    pub fn from_env(read: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let unreadable = |path: &str, error: std::io::Error| {
            let why = format!("SERVANT_SALESFORCE_CERTIFICATE_FILE: {path} cannot be read: {error}");
            SalesforceError::rejected("HOSTS", why)
        };
        let certificate = read("SERVANT_SALESFORCE_CERTIFICATE_FILE")
            .map(|path| std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error)))
            .transpose()?;
        let hosts = Self::from_setting(read("SERVANT_SALESFORCE_HOSTS").as_deref(), certificate)?;
        if hosts != Self::Vendor {
            tracing::warn!("any host is taken for salesforce's: for development only");
        }
        Ok(hosts)
    }

    /// What a setting says: nothing or `vendor`, or `development`, with a further certificate in PEM or without.
    ///
    /// # Errors
    /// `Rejected` for any other word, and for a certificate that Salesforce's own hosts do not need.
    pub fn from_setting(setting: Option<&str>, root_certificate_pem: Option<String>) -> Result<Self> {
        match (setting, root_certificate_pem) {
            (None | Some("vendor"), None) => Ok(Self::Vendor),
            (Some("development"), root_certificate_pem) => Ok(Self::Development { root_certificate_pem }),
            (None | Some("vendor"), Some(_)) => {
                Err(SalesforceError::rejected("HOSTS", "only hosts for development have a certificate of their own"))
            }
            (Some(_), _) => {
                Err(SalesforceError::rejected("HOSTS", "SERVANT_SALESFORCE_HOSTS is \"vendor\" or \"development\""))
            }
        }
    }

    /// The origin (scheme, host and port; nothing else) of an address that a token will be sent to.
    pub(crate) fn origin(&self, text: &str, code: &str) -> Result<Url> {
        let refused = |why: &str| SalesforceError::rejected(code, format!("the address {why}"));
        // Parsers forgive white space, line breaks and backslashes; each of them has led a check astray somewhere.
        if text.len() > ADDRESS_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return Err(refused("holds characters that no address of salesforce has"));
        }
        let mut url = Url::parse(text).map_err(|_| refused("is not a url"))?;
        if !url.username().is_empty() || url.password().is_some() || text.contains('@') {
            return Err(refused("names a user"));
        }
        let host = url.host_str().unwrap_or_default();
        let is_acceptable = match self {
            Self::Vendor => {
                let is_theirs = VENDOR_DOMAINS.iter().any(|domain| {
                    host.strip_suffix(domain)
                        .is_some_and(|name| !name.is_empty() && name.split('.').all(|label| !label.is_empty()))
                });
                url.scheme() == "https" && url.port_or_known_default() == Some(443) && is_theirs
            }
            Self::Development { .. } => matches!(url.scheme(), "https" | "http") && !host.is_empty(),
        };
        if !is_acceptable {
            return Err(refused("is not one of salesforce's"));
        }
        url.set_path("/");
        url.set_query(None);
        url.set_fragment(None);
        Ok(url)
    }
}

/// The host of an origin, with its port where that is not the usual one.
pub(crate) fn host_of(origin: &Url) -> String {
    let host = origin.host_str().unwrap_or_default();
    origin.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The address of `path`, which may hold a query, at `instance`.
pub(crate) fn join(instance: &Url, path: &str) -> Result<Url> {
    check_path(before_query(path))?;
    let mut url =
        instance.join(path).map_err(|error| SalesforceError::rejected("URL", format!("not an address: {error}")))?;
    // Joining normalises: look again at what came out.
    check_path(url.path())?;
    if url.origin() != instance.origin() {
        return Err(SalesforceError::rejected("URL", "the address is of another host"));
    }
    url.set_fragment(None);
    Ok(url)
}

/// Takes what Salesforce sent as the address of a further page: a path with or without a query, and nothing more.
pub(crate) fn checked_next(text: &str) -> Result<String> {
    if text.len() > ADDRESS_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(SalesforceError::rejected("URL", "the address of a page holds what no address does"));
    }
    check_path(before_query(text))?;
    Ok(text.to_owned())
}

/// A name that can stand in a path.
pub(crate) fn check_object(object: &str) -> Result<()> {
    if !object.is_empty() && object.len() <= 255 && object.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_') {
        return Ok(());
    }
    Err(SalesforceError::rejected("OBJECT_NAME", "the name of an object has letters, digits and _ only"))
}

fn before_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// Refuses all but plain paths below [`DATA_PATH`].
fn check_path(path: &str) -> Result<()> {
    let is_plain = path.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'/' | b'.' | b'-' | b'_'));
    let climbs = path.split('/').any(|part| matches!(part, ".." | "."));
    if path.starts_with(DATA_PATH) && is_plain && !climbs {
        return Ok(());
    }
    Err(SalesforceError::rejected("URL", "the address is not below /services/data/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for good in ["/services/data/v66.0/query/01gxx-2000", "/services/data/v66.0/sobjects/A__c/describe"] {
            assert!(check_path(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "//evil.example/services/data/",
            "https://evil.example/services/data/x",
            "/services/data/../oauth2/revoke",
            "/services/data/%2e%2e/x",
            "/services/data/./x",
            "/services/data/a\\b",
            "/services/data/a b",
            "/services/data",
            "/services/oauth2/token",
        ] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_are_salesforces_and_bare() {
        for (text, origin) in [
            ("https://login.salesforce.com", "https://login.salesforce.com/"),
            ("https://acme.my.salesforce.com/services?x=1#y", "https://acme.my.salesforce.com/"),
            ("https://ACME--box.sandbox.my.salesforce.com:443/", "https://acme--box.sandbox.my.salesforce.com/"),
            ("https://acme.my.salesforce.mil", "https://acme.my.salesforce.mil/"),
        ] {
            assert_eq!(Hosts::Vendor.origin(text, "X").unwrap().as_str(), origin);
        }
    }

    #[test]
    fn nothing_but_the_word_makes_it_development() {
        let pem = || Some("pem".to_owned());
        assert_eq!(Hosts::from_setting(None, None).unwrap(), Hosts::Vendor);
        assert_eq!(Hosts::from_setting(Some("vendor"), None).unwrap(), Hosts::Vendor);
        let development = Hosts::Development { root_certificate_pem: pem() };
        assert_eq!(Hosts::from_setting(Some("development"), pem()).unwrap(), development);
        for (setting, pem) in [(None, pem()), (Some("vendor"), pem()), (Some("Development"), None), (Some(""), None)] {
            assert!(Hosts::from_setting(setting, pem).is_err(), "{setting:?}");
        }
    }

    #[test]
    fn development_takes_what_the_simulation_has_and_no_more() {
        let hosts = Hosts::Development { root_certificate_pem: None };
        assert_eq!(hosts.origin("http://127.0.0.1:8080/x", "X").unwrap().as_str(), "http://127.0.0.1:8080/");
        for bad in ["file:///etc/passwd", "http://a:b@127.0.0.1", "ftp://127.0.0.1", "127.0.0.1:80", ""] {
            assert!(hosts.origin(bad, "X").is_err(), "{bad}");
        }
    }
}
