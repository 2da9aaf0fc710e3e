//! New secrets that somebody shows to be let in: sessions, tokens, credentials, one-time codes. 256 bits each, so that of
//! what is kept of them (`digest`) nothing can be guessed. Does not own who is let in.

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;

/// What a secret is for: its first letters say so, to people and to whoever scans for secrets that got lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenFor {
    /// A browser's session.
    Session,
    /// A program that calls the API.
    Api,
    /// Servants' heartbeats.
    Servant,
    /// The first sign-in, or one without the old password.
    Code,
    /// One process, as long as it lives.
    Boot,
}

impl TokenFor {
    /// The first letters.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Session => "svs_",
            Self::Api => "svt_",
            Self::Servant => "svc_",
            Self::Code => "svo_",
            Self::Boot => "svb_",
        }
    }
}

/// A new secret, fit for a header, a cookie and an address.
///
/// # Panics
/// When the system has no randomness: nothing may go on then.
#[must_use]
pub fn new_token(is_for: TokenFor) -> SecretString {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).expect("the system gives randomness");
    SecretString::from(format!("{}{}", is_for.prefix(), URL_SAFE_NO_PAD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    #[test]
    fn no_two_secrets_are_the_same_and_each_says_what_it_is_for() {
        let (one, other) = (new_token(TokenFor::Session), new_token(TokenFor::Session));
        assert_ne!(one.expose_secret(), other.expose_secret());
        // 256 bits in letters of six.
        assert_eq!(one.expose_secret().len(), 4 + 43);
        assert!(one.expose_secret().starts_with("svs_"));
    }
}
