//! Who a request comes from, as handlers are given it, and from where. How it is found out who asks is decided before any
//! handler runs.

use crate::{error::ApiError, gate::RequestId, proxies::Proxies};
use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{Extensions, HeaderMap, StatusCode, header, request::Parts},
};
use domain::{Origin, Principal};
use std::net::SocketAddr;

/// Characters of what a program says of itself that are kept.
const AGENT_CHARS_MAX: usize = 200;

/// The one who asks.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Principal);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            ApiError::new(StatusCode::UNAUTHORIZED, "not_signed_in", "the manager does not know who asks")
                .hint("sign in at /login, or send a token as Authorization: Bearer …")
        })
    }
}

/// From where a request comes: the address is the connection's other end, or where that is a proxy of ours, what it says.
pub(crate) fn origin_of(headers: &HeaderMap, extensions: &Extensions, proxies: &Proxies) -> Origin {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    Origin {
        request_id: extensions.get::<RequestId>().map(|id| id.0),
        ip: peer.map(|peer| proxies.client_of(peer, headers)),
        agent: agent.chars().filter(|c| !c.is_control()).take(AGENT_CHARS_MAX).collect(),
    }
}
