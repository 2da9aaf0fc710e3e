//! Lists of records in quarantine, by every filter that people have for them. Owns that each goes by an index.

use super::{QuarantineRow, Raw};
use crate::{PAGE_ROWS_MAX, Store, StoreError};
use domain::{AccountId, ConnectionId, QuarantineState};

/// Which records in quarantine.
#[derive(Debug, Clone, Default)]
pub struct QuarantineFilter {
    /// In this state.
    pub state: Option<QuarantineState>,
    /// Of this account.
    pub account: Option<AccountId>,
    /// Of this connection.
    pub connection: Option<ConnectionId>,
    /// Of this object of the connection; without one it is not asked.
    pub object: Option<String>,
    /// Of this record of the object, in all its versions; without an object it is not asked.
    pub record: Option<String>,
    /// Numbers below this one.
    pub before: Option<i64>,
}

impl Store {
    /// Records in quarantine, those that are new last first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn search_quarantine(
        &self,
        filter: &QuarantineFilter,
        limit: i64,
    ) -> Result<Vec<QuarantineRow>, StoreError> {
        let before = filter.before.unwrap_or(i64::MAX);
        let limit = limit.clamp(1, PAGE_ROWS_MAX);
        let states = filter.state.map_or(QuarantineState::ALL.to_vec(), |state| vec![state]);
        let states: Vec<String> = states.into_iter().map(|state| state.as_str().to_owned()).collect();
        // Each by an index in its order, of which nothing is passed over.
        let rows = match (filter.connection, filter.account) {
            (Some(connection), account) => {
                let (connection, account) = (connection.0, account.map(|account| account.0));
                match (&filter.object, &filter.record) {
                    (Some(object), Some(record)) => {
                        quarantined!(
                            "search_quarantine_of_record",
                            "quarantined_records q
                            WHERE q.connection_id = $1 AND q.object = $5 AND q.record_id = $7 AND q.state = ANY($4)
                                AND q.id < $2
                                AND ($6::bigint IS NULL
                                     OR $6 = (SELECT account_id FROM connections WHERE connections.id = $1))
                            ORDER BY q.id DESC LIMIT $3",
                            connection,
                            before,
                            limit,
                            &states,
                            object,
                            account,
                            record,
                        )
                        .fetch_all(&self.pool)
                        .await?
                    }
                    (Some(object), None) => {
                        quarantined!(
                            "search_quarantine_of_object",
                            "unnest($4::text[]) AS wanted (one) CROSS JOIN LATERAL (
                                SELECT * FROM quarantined_records
                                WHERE connection_id = $1 AND object = $5 AND state = wanted.one AND id < $2
                                    AND ($6::bigint IS NULL
                                         OR $6 = (SELECT account_id FROM connections WHERE connections.id = $1))
                                ORDER BY connection_id DESC, object DESC, state DESC, id DESC LIMIT $3) AS q
                            ORDER BY q.id DESC LIMIT $3",
                            connection,
                            before,
                            limit,
                            &states,
                            object,
                            account,
                        )
                        .fetch_all(&self.pool)
                        .await?
                    }
                    (None, _) => {
                        quarantined!(
                            "search_quarantine_of_connection",
                            "unnest($4::text[]) AS wanted (one) CROSS JOIN LATERAL (
                                SELECT * FROM quarantined_records
                                WHERE connection_id = $1 AND state = wanted.one AND id < $2
                                    AND ($5::bigint IS NULL
                                         OR $5 = (SELECT account_id FROM connections WHERE connections.id = $1))
                                ORDER BY connection_id DESC, state DESC, id DESC LIMIT $3) AS q
                            ORDER BY q.id DESC LIMIT $3",
                            connection,
                            before,
                            limit,
                            &states,
                            account,
                        )
                        .fetch_all(&self.pool)
                        .await?
                    }
                }
            }
            (None, Some(account)) => {
                quarantined!(
                    "search_quarantine_of_account",
                    "unnest($4::text[]) AS wanted (one) CROSS JOIN LATERAL (
                        SELECT * FROM quarantined_records
                        WHERE account_id = $1 AND state = wanted.one AND id < $2
                        ORDER BY account_id DESC, state DESC, id DESC LIMIT $3) AS q
                    ORDER BY q.id DESC LIMIT $3",
                    account.0,
                    before,
                    limit,
                    &states,
                )
                .fetch_all(&self.pool)
                .await?
            }
            (None, None) => {
                quarantined!(
                    "search_quarantine",
                    "unnest($3::text[]) AS wanted (one) CROSS JOIN LATERAL (
                        SELECT * FROM quarantined_records
                        WHERE state = wanted.one AND id < $1
                        ORDER BY state DESC, id DESC LIMIT $2) AS q
                    ORDER BY q.id DESC LIMIT $2",
                    before,
                    limit,
                    &states,
                )
                .fetch_all(&self.pool)
                .await?
            }
        };
        rows.into_iter().map(Raw::check).collect()
    }
}
