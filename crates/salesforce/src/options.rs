//! Owns how a client behaves: versions, time limits, repeats, sizes, and which hosts it may talk to.
//! Does not own what any of it means on the wire.

use crate::{address::Hosts, session::StoreRotated};

/// How a [`Client`](crate::Client) behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Such as `66.0`.
    pub api_version: String,
    /// For opening a connection.
    pub connect_timeout_secs: u64,
    /// For any silence while an answer is awaited.
    pub read_timeout_secs: u64,
    /// For one call from its first byte to its last, so that an answer that drips ends too; Salesforce itself gives up a
    /// call after 10 minutes.
    pub call_timeout_secs: u64,
    /// The same for a page of bulk results, whose reader may be slower than the network.
    pub page_timeout_secs: u64,
    /// Repeats of one call after transient failures.
    pub retries_max: u32,
    /// The limit of the first pause; it doubles with each further one.
    pub retry_base_ms: u64,
    /// The limit of any pause.
    pub retry_max_ms: u64,
    /// Records on a page of a REST query, 200 to 2,000; a hint. Without it Salesforce chooses.
    pub batch_size: Option<u32>,
    /// The most records on a page of bulk results that is asked for by the chain of locators. Without it Salesforce
    /// chooses.
    pub page_records_max: Option<u32>,
    /// A longer answer is not taken into memory. The largest page of a REST query has 2,000 records.
    pub answer_bytes_max: usize,
    /// A longer page of bulk results, unpacked, is given up: it is streamed, so this bounds time and disk, not memory.
    pub page_bytes_max: u64,
    /// How the client names itself.
    pub user_agent: String,
    /// What stores a rotated refresh token, for [`Client::connect`](crate::Client::connect).
    pub store_rotated: Option<StoreRotated>,
    /// Which hosts it may talk to.
    pub hosts: Hosts,
    /// The host of the instance that was registered when the connection was authorised, as
    /// [`Client::host`](crate::Client::host) tells it. A session for any other is refused.
    pub instance_host: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            api_version: "66.0".to_owned(),
            connect_timeout_secs: 10,
            read_timeout_secs: 130,
            call_timeout_secs: 660,
            page_timeout_secs: 1_800,
            retries_max: 5,
            retry_base_ms: 500,
            retry_max_ms: 30_000,
            batch_size: None,
            page_records_max: None,
            answer_bytes_max: 256 * 1024 * 1024,
            page_bytes_max: 2 * 1024 * 1024 * 1024,
            user_agent: concat!("servant/", env!("CARGO_PKG_VERSION")).to_owned(),
            store_rotated: None,
            hosts: Hosts::Vendor,
            instance_host: None,
        }
    }
}
