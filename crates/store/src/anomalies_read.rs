//! Anomalies as they are read: one, and lists of them, each by an index in its order. What becomes of them is in
//! `anomalies`.

use crate::{AnomalyFilter, AnomalyRow, PAGE_ROWS_MAX, Store, StoreError, anomalies::RawAnomaly};
use domain::{AnomalyState, Severity};

/// One checked statement: the columns of a [`RawAnomaly`] from `$from`, which names `anomalies`.
macro_rules! anomalies {
    ($name:literal, $from:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            RawAnomaly,
            "-- " + $name + "\nSELECT id, account_id, connection_id, object, kind, subject, severity, state, summary, evidence,
                sightings, first_seen_at, last_seen_at, state_by, state_reason, state_since, assigned_to
            FROM " + $from,
            $($argument),*
        )
    };
}

impl Store {
    /// One anomaly.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_anomaly(&self, id: i64) -> Result<Option<AnomalyRow>, StoreError> {
        let raw = sqlx::query_as!(
            RawAnomaly,
            "-- find_anomaly
            SELECT id, account_id, connection_id, object, kind, subject, severity, state, summary, evidence, sightings,
                   first_seen_at, last_seen_at, state_by, state_reason, state_since, assigned_to
            FROM anomalies WHERE id = $1",
            id,
        )
        .fetch_optional(&self.pool)
        .await?;
        raw.map(RawAnomaly::check).transpose()
    }

    /// Anomalies, those that are new last first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_anomalies(&self, filter: &AnomalyFilter, limit: i64) -> Result<Vec<AnomalyRow>, StoreError> {
        let before = filter.before.unwrap_or(i64::MAX);
        let limit = limit.clamp(1, PAGE_ROWS_MAX);
        let states = filter.state.map_or(AnomalyState::ALL.to_vec(), |state| vec![state]);
        let states: Vec<String> = states.into_iter().map(|state| state.as_str().to_owned()).collect();
        let least = filter.severity.map_or(0, Severity::code);
        let severities: Vec<i16> = (least.max(1)..=Severity::Critical.code()).collect();
        // Each by an index in its order, of which nothing is passed over but what one customer or connection has.
        let rows = match (filter.account, filter.connection, filter.state) {
            (Some(account), connection, _) => {
                anomalies!(
                    "list_anomalies_of_account",
                    "unnest($4::text[]) AS wanted (one) CROSS JOIN LATERAL (
                        SELECT * FROM anomalies
                        WHERE (account_id, state, id) < ($1, wanted.one, $2) AND (account_id, state, id) >= ($1, wanted.one, 0)
                            AND severity >= $5 AND ($6::bigint IS NULL OR connection_id = $6)
                        ORDER BY account_id DESC, state DESC, id DESC LIMIT $3) AS anomalies
                    ORDER BY id DESC LIMIT $3",
                    account.0,
                    before,
                    limit,
                    &states,
                    least,
                    connection.map(|connection| connection.0),
                )
                .fetch_all(&self.pool)
                .await?
            }
            (None, Some(connection), _) => {
                anomalies!(
                    "list_anomalies_of_connection",
                    "(SELECT * FROM anomalies WHERE connection_id = $1 AND id < $2 AND severity >= $4 AND state = ANY($5)
                        OFFSET 0) AS anomalies
                    ORDER BY id DESC LIMIT $3",
                    connection.0,
                    before,
                    limit,
                    least,
                    &states,
                )
                .fetch_all(&self.pool)
                .await?
            }
            (None, None, Some(state)) => {
                anomalies!(
                    "list_anomalies_of_state",
                    "unnest($3::smallint[]) AS wanted (one) CROSS JOIN LATERAL (
                        SELECT * FROM anomalies
                        WHERE (state, severity, id) < ($4, wanted.one, $1) AND (state, severity, id) >= ($4, wanted.one, 0)
                        ORDER BY state DESC, severity DESC, id DESC LIMIT $2) AS anomalies
                    ORDER BY id DESC LIMIT $2",
                    before,
                    limit,
                    &severities,
                    state.as_str(),
                )
                .fetch_all(&self.pool)
                .await?
            }
            (None, None, None) => {
                anomalies!(
                    "list_anomalies",
                    "unnest($3::smallint[]) AS wanted (one) CROSS JOIN LATERAL (
                        SELECT * FROM anomalies
                        WHERE (severity, id) < (wanted.one, $1) AND (severity, id) >= (wanted.one, 0)
                        ORDER BY severity DESC, id DESC LIMIT $2) AS anomalies
                    ORDER BY id DESC LIMIT $2",
                    before,
                    limit,
                    &severities,
                )
                .fetch_all(&self.pool)
                .await?
            }
        };
        rows.into_iter().map(RawAnomaly::check).collect()
    }
}
