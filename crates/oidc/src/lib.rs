//! OpenID Connect: who a person is by the word of a provider. Authorisation code with PKCE, state and nonce (OpenID Connect
//! Core 1.0, RFC 6749, RFC 7636), and nothing besides. Owns the provider's wire and the check of what it says. Does not own
//! the browser's way there and back, nor what the person may do.

mod error;
mod metadata;
mod provider;
mod token;
mod transport;

pub use error::OidcError;
pub use provider::{Identity, Provider, ProviderConfig};
pub use token::LEEWAY_SECS;
