//! People: who there are, what they are here for, who is out. A change of role and a disabling end the person's sessions in
//! the same transaction. Does not own how a password is kept (`vault`) nor what a provider says (`oidc`).

use crate::{
    PAGE_ROWS_MAX, Store, StoreError,
    audit::{Deed, note_by},
};
use chrono::{DateTime, Utc};
use domain::{Action, Granted, Principal, Role, action};
use serde_json::{Value, json};
use sqlx::PgConnection;

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    /// The id.
    pub id: i64,
    /// What people read.
    pub name: String,
    /// Empty where nobody said.
    pub email: String,
    /// viewer, support, operator or admin.
    pub role: String,
    /// The provider that vouches; none: a password.
    pub issuer: Option<String>,
    /// Whether there is a password.
    pub has_password: bool,
    /// Who made the user.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// The last sign-in.
    pub signed_in_at: Option<DateTime<Utc>>,
    /// Since when the person is out.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Sessions that have not ended.
    pub sessions: i64,
}

/// A person to be made, who signs in with a password that a one-time code sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewUser<'a> {
    /// What people read; no two have one.
    pub name: &'a str,
    /// May be empty.
    pub email: &'a str,
    /// What for.
    pub role: Role,
}

/// What a sign-in by name needs.
#[derive(Clone, PartialEq, Eq)]
pub struct LocalUser {
    /// The id.
    pub id: i64,
    /// What people read.
    pub name: String,
    /// What is kept of the password.
    pub password: Option<String>,
    /// Whether the person is out.
    pub is_disabled: bool,
}

/// What a provider says of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vouched<'a> {
    /// The provider.
    pub issuer: &'a str,
    /// Its own id of the person, which never changes.
    pub subject: &'a str,
    /// What people read.
    pub name: &'a str,
    /// May be empty.
    pub email: &'a str,
    /// What the provider's groups say; none: as it is, and whoever is new is refused.
    pub role: Option<Role>,
}

/// A change of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserChange {
    /// Here for something else.
    Role(Role),
    /// Out.
    Disable,
    /// In again.
    Enable,
    /// Every session ended.
    SignOut,
}

impl UserChange {
    const fn words(self) -> &'static str {
        match self {
            Self::Role(_) => "give another role",
            Self::Disable => "disable",
            Self::Enable => "let in again",
            Self::SignOut => "sign out everywhere",
        }
    }
}

impl Store {
    /// People, by name; `after` is the last id of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_users(&self, after: Option<i64>, limit: i64) -> Result<Vec<UserRow>, StoreError> {
        Ok(sqlx::query_as!(
            UserRow,
            r#"-- list_users
            SELECT id, name, email, role, issuer, password IS NOT NULL AS "has_password!", created_by, created_at,
                   signed_in_at, disabled_at, (SELECT count(*) FROM sessions
                                               WHERE user_id = users.id AND ends_at > $3) AS "sessions!"
            FROM users WHERE id > $1 ORDER BY id LIMIT $2"#,
            after.unwrap_or(0),
            limit.clamp(1, PAGE_ROWS_MAX),
            self.clock.now(),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// One person.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_user(&self, id: i64) -> Result<Option<UserRow>, StoreError> {
        Ok(sqlx::query_as!(
            UserRow,
            r#"-- find_user
            SELECT id, name, email, role, issuer, password IS NOT NULL AS "has_password!", created_by, created_at,
                   signed_in_at, disabled_at, (SELECT count(*) FROM sessions
                                               WHERE user_id = users.id AND ends_at > $2) AS "sessions!"
            FROM users WHERE id = $1"#,
            id,
            self.clock.now(),
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Whether there is any admin who can sign in.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_admin(&self) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"-- has_admin
            SELECT EXISTS (SELECT FROM users WHERE role = 'admin' AND disabled_at IS NULL
                           AND (password IS NOT NULL OR issuer IS NOT NULL)) AS "has!""#
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Makes a person; none when somebody has the name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_user(
        &self,
        user: NewUser<'_>,
        by: &Granted<action::ManagePeople>,
    ) -> Result<Option<i64>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let Some(id) = insert_user(&mut tx, user, by.by(), self.clock.now()).await? else { return Ok(None) };
        let after = json!({ "role": user.role.as_str() });
        let deed = Deed::told(id.to_string(), ("create", user.name), Value::Null, after);
        note(&mut tx, "user", deed, by.principal(), self.clock.now()).await?;
        tx.commit().await?;
        Ok(Some(id))
    }

    /// Changes a person, and ends the sessions where that must be; false when there is no such person.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_user(
        &self,
        id: i64,
        change: UserChange,
        by: &Granted<action::ManagePeople>,
    ) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await?;
        let now = self.clock.now();
        let role = if let UserChange::Role(role) = change { Some(role.as_str()) } else { None };
        let before = sqlx::query!(
            r#"-- user_before
            SELECT name, role, disabled_at IS NOT NULL AS "is_disabled!" FROM users WHERE id = $1 FOR UPDATE"#,
            id,
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(before) = before else { return Ok(false) };
        sqlx::query!(
            "-- change_user
            UPDATE users SET role = coalesce($2, role),
                             disabled_at = CASE WHEN $3 THEN coalesce(disabled_at, $5) WHEN $4 THEN NULL
                                                ELSE disabled_at END
            WHERE id = $1",
            id,
            role,
            change == UserChange::Disable,
            change == UserChange::Enable,
            now,
        )
        .execute(&mut *tx)
        .await?;
        let ended = if change == UserChange::Enable { 0 } else { end_sessions(&mut tx, id).await? };
        if change == UserChange::Disable {
            crate::sign_in_codes::forget_codes_of(&mut tx, id).await?;
        }
        let is_disabled = match change {
            UserChange::Disable => true,
            UserChange::Enable => false,
            UserChange::Role(_) | UserChange::SignOut => before.is_disabled,
        };
        let was = json!({ "role": before.role, "disabled": before.is_disabled, "sessions": ended });
        let is = json!({ "role": role.unwrap_or(&before.role), "disabled": is_disabled, "sessions": 0 });
        let deed = Deed::told(id.to_string(), (change.words(), &before.name), was, is);
        note(&mut tx, "user", deed, by.principal(), now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Who signs in with that name and a password.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_local_user(&self, name: &str) -> Result<Option<LocalUser>, StoreError> {
        Ok(sqlx::query_as!(
            LocalUser,
            r#"-- find_local_user
            SELECT id, name, password, disabled_at IS NOT NULL AS "is_disabled!"
            FROM users WHERE lower(name) = lower($1) AND issuer IS NULL"#,
            name,
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// The person for whom a provider vouches, made if new, with the role that the provider's groups say. None: new, and
    /// without a role; or out. Another role than before ends the sessions before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn admit_vouched(&self, vouched: Vouched<'_>) -> Result<Option<i64>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let now = self.clock.now();
        let known = sqlx::query!(
            r#"-- find_vouched
            SELECT id, role, disabled_at IS NOT NULL AS "is_disabled!" FROM users
            WHERE issuer = $1 AND subject = $2 FOR UPDATE"#,
            vouched.issuer,
            vouched.subject,
        )
        .fetch_optional(&mut *tx)
        .await?;
        let by = Principal::system(vouched.issuer);
        let id = match known {
            Some(known) if known.is_disabled => return Ok(None),
            Some(known) => {
                let role = vouched.role.map(Role::as_str).unwrap_or(&known.role);
                sqlx::query!(
                    "-- renew_vouched
                    UPDATE users SET name = $2, email = $3, role = $4 WHERE id = $1",
                    known.id,
                    vouched.name,
                    vouched.email,
                    role,
                )
                .execute(&mut *tx)
                .await?;
                if role != known.role {
                    let ended = end_sessions(&mut tx, known.id).await?;
                    let was = json!({ "role": known.role, "sessions": ended });
                    let is = json!({ "role": role, "sessions": 0 });
                    let deed = Deed::told(
                        known.id.to_string(),
                        ("give another role, as the provider says", vouched.name),
                        was,
                        is,
                    );
                    note(&mut tx, "user", deed, &by, now).await?;
                }
                known.id
            }
            None => {
                let Some(role) = vouched.role else { return Ok(None) };
                let id = sqlx::query_scalar!(
                    "-- create_vouched
                    INSERT INTO users (name, email, role, issuer, subject, created_by, created_at)
                    VALUES ($1, $2, $3, $4, $5, $4, $6)
                    ON CONFLICT (issuer, subject) WHERE issuer IS NOT NULL DO UPDATE SET name = excluded.name
                    RETURNING id",
                    vouched.name,
                    vouched.email,
                    role.as_str(),
                    vouched.issuer,
                    vouched.subject,
                    now,
                )
                .fetch_one(&mut *tx)
                .await?;
                let after = json!({ "role": role.as_str(), "issuer": vouched.issuer });
                let deed =
                    Deed::told(id.to_string(), ("create, as the provider vouches", vouched.name), Value::Null, after);
                note(&mut tx, "user", deed, &by, now).await?;
                id
            }
        };
        tx.commit().await?;
        Ok(Some(id))
    }
}

/// Inserts a person who will have a password; none when somebody has the name.
pub(crate) async fn insert_user(
    conn: &mut PgConnection,
    user: NewUser<'_>,
    by: &str,
    now: DateTime<Utc>,
) -> Result<Option<i64>, StoreError> {
    Ok(sqlx::query_scalar!(
        "-- insert_user
        INSERT INTO users (name, email, role, created_by, created_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (lower(name)) WHERE issuer IS NULL DO NOTHING RETURNING id",
        user.name,
        user.email,
        user.role.as_str(),
        by,
        now,
    )
    .fetch_optional(conn)
    .await?)
}

/// Ends all sessions of a person, and says how many there were.
pub(crate) async fn end_sessions(conn: &mut PgConnection, user: i64) -> Result<u64, StoreError> {
    let ended = sqlx::query!(
        "-- end_sessions
        DELETE FROM sessions WHERE user_id = $1",
        user,
    )
    .execute(conn)
    .await?;
    Ok(ended.rows_affected())
}

/// Notes what was done with a person, a token, a credential or a code, in the transaction of the deed.
pub(crate) async fn note(
    conn: &mut PgConnection,
    subject: &str,
    deed: Deed,
    by: &Principal,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    note_by(conn, by, Action::ManagePeople, subject, deed, now).await
}
