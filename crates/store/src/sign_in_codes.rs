//! One-time codes: what a new person, or one without the old password, signs in with once. Deleted by whoever uses it, in
//! the transaction of what it is used for. Does not own how a code looks.

use crate::{
    Store, StoreError,
    audit::Deed,
    sessions::role_of,
    users::{NewUser, end_sessions, insert_user, note},
};
use chrono::{DateTime, Utc};
use domain::{Granted, Principal, Role, action};
use serde_json::{Value, json};
use sqlx::PgConnection;

/// A code to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewCode<'a> {
    /// What is kept of it.
    pub digest: &'a [u8],
    /// Whose; none: whoever has it becomes a person.
    pub user: Option<i64>,
    /// What that person is here for then.
    pub role: Role,
    /// Whether a password is set with it; else it signs in as it is.
    pub sets_password: bool,
    /// Until when it is good.
    pub expires_at: DateTime<Utc>,
}

/// A code that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeRow {
    /// Whose.
    pub user: Option<i64>,
    /// The person's name, where there is one.
    pub name: Option<String>,
    /// The role of a new person.
    pub role: Role,
    /// Whether a password is set with it.
    pub sets_password: bool,
}

/// What a person says with a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewPerson<'a> {
    /// The name of a new person.
    pub name: &'a str,
    /// What is kept of the password.
    pub password: Option<&'a str>,
}

impl Store {
    /// Makes a code; of a person's codes only the newest is good.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_code(&self, code: NewCode<'_>, by: &Granted<action::ManagePeople>) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let now = self.clock.now();
        crate::expired::forget_expired!(
            "forget_expired_codes",
            "one_time_codes",
            "digest",
            "expires_at",
            now,
            &mut *tx
        );
        let after = json!({ "role": code.role.as_str(), "expires_at": code.expires_at });
        match code.user {
            Some(user) => {
                forget_codes_of(&mut tx, user).await?;
                let name = name_of(&mut tx, user).await?;
                let deed = Deed::told(user.to_string(), ("make a one-time code", &name), Value::Null, after);
                note(&mut tx, "user", deed, by.principal(), now).await?;
            }
            None => {
                let key = format!("of a new {}", code.role);
                let deed = Deed::told(key, ("make a one-time code", ""), Value::Null, after);
                note(&mut tx, "code", deed, by.principal(), now).await?;
            }
        }
        sqlx::query!(
            "-- create_code
            INSERT INTO one_time_codes (digest, user_id, role, sets_password, created_by, created_at, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7)",
            code.digest,
            code.user,
            code.role.as_str(),
            code.sets_password,
            by.by(),
            now,
            code.expires_at,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// A code that is good; changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_code(&self, digest: &[u8]) -> Result<Option<CodeRow>, StoreError> {
        let row = sqlx::query!(
            r#"-- find_code
            SELECT one_time_codes.user_id, users.name AS "name?", one_time_codes.role, one_time_codes.sets_password
            FROM one_time_codes LEFT JOIN users ON users.id = one_time_codes.user_id
            WHERE one_time_codes.digest = $1 AND one_time_codes.expires_at > $2 AND users.disabled_at IS NULL"#,
            digest,
            self.clock.now(),
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let role = role_of("one_time_codes", row.user_id.unwrap_or(0), &row.role)?;
        Ok(Some(CodeRow { user: row.user_id, name: row.name, role, sets_password: row.sets_password }))
    }

    /// Uses a code, once: makes the person where it is nobody's, sets the password, ends the sessions before. Answers with
    /// the person; none when the code is no longer good, or somebody has the name (the code is good still).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn use_code(&self, digest: &[u8], person: NewPerson<'_>) -> Result<Option<i64>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let now = self.clock.now();
        let code = sqlx::query!(
            "-- use_code
            DELETE FROM one_time_codes WHERE digest = $1 AND expires_at > $2
            RETURNING user_id, role, sets_password, created_by",
            digest,
            now,
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(code) = code else { return Ok(None) };
        let user = match code.user_id {
            Some(user) => user,
            None => {
                let role = role_of("one_time_codes", 0, &code.role)?;
                let new = NewUser { name: person.name, email: "", role };
                let Some(user) = insert_user(&mut tx, new, &code.created_by, now).await? else { return Ok(None) };
                let after = json!({ "role": role.as_str() });
                let deed =
                    Deed::told(user.to_string(), ("create with a one-time code", person.name), Value::Null, after);
                note(&mut tx, "user", deed, &Principal::system(&code.created_by), now).await?;
                user
            }
        };
        let mut ended = 0;
        if code.sets_password {
            sqlx::query!(
                "-- set_password
                UPDATE users SET password = $2 WHERE id = $1 AND issuer IS NULL",
                user,
                person.password,
            )
            .execute(&mut *tx)
            .await?;
            ended = end_sessions(&mut tx, user).await?;
        }
        let by = Principal::system(if person.name.is_empty() { &code.created_by } else { person.name });
        let what =
            if code.sets_password { "set a password with a one-time code" } else { "sign in with a one-time code" };
        let name = name_of(&mut tx, user).await?;
        let deed = Deed::told(user.to_string(), (what, &name), json!({ "sessions": ended }), json!({ "sessions": 0 }));
        note(&mut tx, "user", deed, &by, now).await?;
        tx.commit().await?;
        Ok(Some(user))
    }
}

/// What people read of a person; empty where there is none.
async fn name_of(conn: &mut PgConnection, user: i64) -> Result<String, StoreError> {
    let name = sqlx::query_scalar!(
        "-- name_of
        SELECT name FROM users WHERE id = $1",
        user,
    )
    .fetch_optional(conn)
    .await?;
    Ok(name.unwrap_or_default())
}

/// Makes a person's codes good no more.
pub(crate) async fn forget_codes_of(conn: &mut PgConnection, user: i64) -> Result<(), StoreError> {
    sqlx::query!(
        "-- forget_codes_of
        DELETE FROM one_time_codes WHERE user_id = $1",
        user,
    )
    .execute(conn)
    .await?;
    Ok(())
}
