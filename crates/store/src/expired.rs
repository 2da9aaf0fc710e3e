//! What is good until a moment only: sessions, codes, links, authorisations. Owns how rows past theirs are forgotten: by
//! whoever enters another, a bounded number at a time. Does not own until when anything is good; each reader asks for that.

/// Rows that one entering forgets at the most: more than it enters, few enough to take no time.
pub(crate) const EXPIRED_MAX: i64 = 1_000;

/// Forgets rows of `$table`, whose key is `$key`, that were good until `$until`, in the statement called `$name`.
macro_rules! forget_expired {
    ($name:literal, $table:literal, $key:literal, $until:literal, $now:expr, $executor:expr) => {
        sqlx::query!(
            "-- "
                + $name
                + "\nDELETE FROM "
                + $table
                + " WHERE "
                + $key
                + " IN (SELECT "
                + $key
                + " FROM "
                + $table
                + " WHERE "
                + $until
                + " < $1 ORDER BY "
                + $until
                + " LIMIT $2)",
            $now,
            $crate::expired::EXPIRED_MAX,
        )
        .execute($executor)
        .await?
    };
}
pub(crate) use forget_expired;
