//! How a customer's records get from a vendor into typed tables: windows, pages, mapping.
//! Owns which part of an object is read next and what a value becomes in PostgreSQL. Does not own the vendor's wire
//! (`salesforce`), SQL (`store`), nor the transaction that a page is committed in: that is the running job's, so that a
//! page's rows, its mark and the job's checkpoint are one commit.

mod csv;
mod damage;
mod error;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod layout;
mod page;
mod pass;
mod soql;
mod split;
mod spool;
mod value;

pub use error::SyncError;
pub use page::{PageWriter, PageWritten};
pub use pass::{FetchedPage, Pass, Source, Written};
pub use spool::Spool;
