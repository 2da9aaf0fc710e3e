//! Who asks: people by their session, programs by their token, servants by their credential. Owns how that is found out,
//! the cookie, the pages to sign in, and how much anybody may ask. What a role may do is decided elsewhere; what is known
//! of anybody is the ledger's, and is asked at every request, so that whoever is out is out at once.

mod access;
mod codes;
mod cookie;
mod identify;
mod password;
mod provider;
mod sign_in;
mod throttle;

pub use access::{Access, AccessConfig, OidcConfig, SignOn};
pub use throttle::{LimitConfig, LimitsConfig};

pub(crate) use cookie::{cookie_of, set as set_cookie};
pub(crate) use identify::{BeatingServant, identify, may, me};
pub(crate) use password::change_password;

use crate::App;
use axum::Router;

pub(crate) fn routes() -> Router<App> {
    Router::new().merge(sign_in::routes()).merge(codes::routes()).merge(password::routes()).merge(provider::routes())
}
