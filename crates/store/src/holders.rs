//! Who holds a limit: the jobs that are queued or running and count under it. Owns no limit; which one counts for a job,
//! `domain` says.

use crate::{JobFilter, JobRow, PAGE_ROWS_MAX, Store, StoreError, kinds::kinds_known, limits::limits_in_force};
use domain::{AccountId, ConnectionId, JobState, Kind, Limits, Scope};
use sqlx::PgConnection;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

/// Jobs that count under a limit, of one kind, account and connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderRow {
    /// Their kind.
    pub kind: Kind,
    /// Whose they are.
    pub account: AccountId,
    /// The connection they work on.
    pub connection: Option<ConnectionId>,
    /// How many.
    pub jobs: i64,
}

/// Who holds a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    /// Those with the most jobs first.
    pub rows: Vec<HolderRow>,
    /// There were more jobs than are looked at.
    pub is_partial: bool,
}

/// What decides under which limits a job is, besides the limits.
struct Vendors {
    of_connections: HashMap<i64, String>,
    of_kinds: HashMap<Kind, String>,
}

impl Vendors {
    /// Whom the job calls: its connection's vendor, else what its kind says.
    fn of(&self, job: &JobRow) -> Option<&str> {
        let of_connection = job.connection_id.and_then(|id| self.of_connections.get(&id.0));
        of_connection.or_else(|| self.of_kinds.get(&job.kind)).map(String::as_str)
    }
}

impl Store {
    /// Who holds the limit on `scope`, of the newest [`PAGE_ROWS_MAX`] jobs that are queued or running: of that kind or
    /// account alone, where it is on one. Nobody does where there is no such limit.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn holders_of(&self, scope: &Scope) -> Result<Holders, StoreError> {
        let account = match scope {
            Scope::Account(id) => Some(*id),
            Scope::Connection(id) => match self.find_connection(*id).await? {
                Some(row) => Some(AccountId(row.account_id)),
                None => return Ok(Holders::default()),
            },
            _ => None,
        };
        let kind = if let Scope::Kind(kind) = scope { Some(kind.clone()) } else { None };
        let states = vec![JobState::Queued, JobState::Running];
        let found =
            self.search_jobs(&JobFilter { states, kind, account, ..JobFilter::default() }, PAGE_ROWS_MAX).await?;

        let mut conn = self.pool.acquire().await?;
        let of = |ids: Vec<i64>| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let accounts: Vec<i64> = found.jobs.iter().map(|job| job.account_id.0).collect();
        let connections: Vec<i64> = found.jobs.iter().filter_map(|job| Some(job.connection_id?.0)).collect();
        let vendors = Vendors {
            of_connections: vendors_of(&mut conn, &connections).await?,
            of_kinds: kinds_known(&mut conn)
                .await?
                .into_iter()
                .filter_map(|(kind, facts)| Some((Kind::new(kind).ok()?, facts.vendor?)))
                .collect(),
        };
        let limits = limits_in_force(&mut conn, &of(accounts), &of(connections)).await?;
        let mut counted: BTreeMap<(Kind, AccountId, Option<ConnectionId>), i64> = BTreeMap::new();
        for job in found.jobs.iter().filter(|job| is_under(scope, job, vendors.of(job), &limits)) {
            *counted.entry((job.kind.clone(), job.account_id, job.connection_id)).or_default() += 1;
        }
        let row = |((kind, account, connection), jobs)| HolderRow { kind, account, connection, jobs };
        let mut rows: Vec<HolderRow> = counted.into_iter().map(row).collect();
        rows.sort_by_key(|row| Reverse(row.jobs));
        Ok(Holders { rows, is_partial: found.next_before.is_some() })
    }
}

/// What is said of one account or connection replaces what is said of each.
fn is_under(scope: &Scope, job: &JobRow, vendor: Option<&str>, limits: &Limits) -> bool {
    let counting = match scope {
        Scope::Kind(_) => limits.of_kind(&job.kind),
        Scope::Account(_) | Scope::EachAccount => limits.of_account(job.account_id),
        Scope::Connection(_) | Scope::EachConnection(_) => {
            job.connection_id.and_then(|id| limits.of_connection(id, vendor))
        }
        Scope::Vendor(_) => vendor.and_then(|vendor| limits.of_vendor(vendor)),
        Scope::Unknown { .. } => None,
    };
    counting.is_some_and(|(of, _)| of == *scope)
}

async fn vendors_of(conn: &mut PgConnection, connections: &[i64]) -> Result<HashMap<i64, String>, StoreError> {
    let rows = sqlx::query!("-- vendors_of\nSELECT id, vendor FROM connections WHERE id = ANY($1)", connections)
        .fetch_all(conn)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.vendor)).collect())
}
