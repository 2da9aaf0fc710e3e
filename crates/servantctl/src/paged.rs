//! What every list that runs by ids takes on the command line: where its page begins, and how long it is.

use clap::Args;
use manager_api::PageQuery;

/// Which page of a list.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Paged {
    /// Ids below this one.
    #[arg(long)]
    pub(crate) before: Option<i64>,
    /// Rows, 200 at the most.
    #[arg(long)]
    pub(crate) limit: Option<i64>,
}

impl From<Paged> for PageQuery {
    fn from(Paged { before, limit }: Paged) -> Self {
        Self { before, limit }
    }
}
