//! A person's own password, changed by that person. Does not own how a password is kept (`vault`), nor the one that a
//! one-time code sets (`sign_in_codes`).

use crate::{
    Store, StoreError,
    audit::{Deed, note_each},
    sign_in_codes::forget_codes_of,
};
use domain::{Granted, Principal, PrincipalKind, action};
use serde_json::json;

/// What takes the place of what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NewPassword<'a> {
    /// What was kept of the one before, as it was read to be compared.
    pub old: &'a str,
    /// What is kept of the new one.
    pub new: &'a str,
    /// The session that goes on, by what is kept of its secret.
    pub session: &'a [u8],
}

/// The row of `users` of whoever is a person.
#[must_use]
pub fn person_of(principal: &Principal) -> Option<i64> {
    (principal.kind() == PrincipalKind::User).then(|| principal.id().parse().ok()).flatten()
}

impl Store {
    /// Puts a password of one's own in the place of the one before, ends one's other sessions and makes one's one-time codes
    /// good no more. Answers with how many sessions ended; none: the password is another one already, or there is none here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_password(
        &self,
        password: NewPassword<'_>,
        by: &Granted<action::ChangePassword>,
    ) -> Result<Option<u64>, StoreError> {
        let Some(user) = person_of(by.principal()) else { return Ok(None) };
        let mut tx = self.pool.begin().await?;
        let changed = sqlx::query_scalar!(
            "-- change_password
            UPDATE users SET password = $3
            WHERE id = $1 AND password = $2 AND issuer IS NULL AND disabled_at IS NULL RETURNING name",
            user,
            password.old,
            password.new,
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(name) = changed else { return Ok(None) };
        let ended = sqlx::query!(
            "-- end_other_sessions
            DELETE FROM sessions WHERE user_id = $1 AND digest <> $2",
            user,
            password.session,
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        forget_codes_of(&mut tx, user).await?;
        let (before, after) = (json!({ "other_sessions": ended }), json!({ "other_sessions": 0 }));
        let deed = Deed::told(user.to_string(), ("change the own password", &name), before, after);
        note_each(&mut tx, by, "user", vec![deed], self.clock.now()).await?;
        tx.commit().await?;
        Ok(Some(ended))
    }
}
