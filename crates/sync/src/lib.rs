//! How a customer's records get from a vendor into typed tables: windows, pages, mapping.
//! Owns which part of an object is read next and what a value becomes in PostgreSQL. Does not own the vendor's wire
//! (`salesforce`), SQL (`store`), nor the transaction that a page is committed in: that is the running job's, so that a
//! page's rows, its mark and the job's checkpoint are one commit.

pub mod bulk;
mod by_id;
mod by_key;
mod csv;
pub mod cursor;
mod damage;
mod deletions;
pub mod drift;
mod error;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod lateness;
mod layout;
mod page;
mod parts;
mod pass;
pub mod probe;
mod reconcile;
mod snapshot;
mod soql;
mod split;
mod spool;
mod thin;
mod value;
pub mod watch;

pub use by_id::{Asked, is_id};
pub use deletions::Deletions;
pub use error::SyncError;
pub use page::{PageWriter, PageWritten};
pub use pass::{FetchedPage, Pass, Source, Written};
pub use reconcile::{Absences, Gone, Outcome, Release};
pub use snapshot::{Begun, Snapshot, SnapshotPage, SnapshotSettings, SnapshotWritten, Step};
pub use spool::Spool;
