//! What tests stand on: a database of their own, processes of this workspace, a wire that can be cut, and the one
//! place that waits. Does not own simulated vendors (`fakes`), nor anything that a program uses.

mod cluster;
mod database;
mod eventually;
mod process;
mod proxy;
mod records;

pub use database::{TestDatabase, database};
pub use eventually::eventually;
pub use process::{Process, build_binaries};
pub use proxy::Proxy;
pub use records::{assert_records_equal, stored_records};
