//! What tests stand on: a database of their own, processes of this workspace, a wire that can be cut, and the one
//! place that waits. Does not own simulated vendors (`fakes`), nor anything that a program uses.

mod cluster;
mod database;
mod deployment;
mod digests;
mod effects;
mod eventually;
mod granted;
mod process;
mod proxy;
mod reads;
mod records;
mod seed;
mod server;
mod spoil;
mod turns;

pub use database::{TestDatabase, database};
pub use deployment::{Deployment, STUCK_SECS};
pub use digests::table_digests;
pub use effects::{
    CALLS_SINCE, INSERT_CALL, INSERT_EFFECT, INSERT_TRY, IS_DOWN, audit, create_effects_tables, tries_of, until_at_rest,
};
pub use eventually::eventually;
pub use granted::{change_connection, granted, granted_to};
pub use process::{Process, build_binaries};
pub use proxy::Proxy;
pub use reads::{Read, reads};
pub use records::{assert_records_equal, stored_records};
pub use seed::Seed;
pub use server::{IdleConnections, OwnServer};
pub use spoil::{spoil, spoil_each};
pub use turns::{claim, claim_queued, claim_ready, dispatch};
