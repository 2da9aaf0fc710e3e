//! Which objects of a connection are followed: somebody's choice, kept with the connection's settings, from which servants
//! read it. Does not own what is followed where nobody chose (`servants`).

use crate::{
    Store, StoreError,
    audit::{Deed, note_each},
};
use domain::{ConnectionId, Granted, action};
use serde_json::json;

impl Store {
    /// Follows these objects from the next sync on; none of them: the usual ones. What is followed no more stays as it is.
    /// False: there is no such connection.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn choose_objects(
        &self,
        granted: &Granted<action::ChooseObjects>,
        id: ConnectionId,
        objects: &[String],
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let before = sqlx::query_scalar!(
            r#"-- choose_objects: before
            SELECT coalesce(settings -> 'objects', 'null') AS "objects!" FROM connections WHERE id = $1 FOR UPDATE"#,
            id.0,
        )
        .fetch_optional(&mut *tx.inner)
        .await?;
        let Some(before) = before else { return Ok(false) };
        sqlx::query!(
            "-- choose_objects
            UPDATE connections
            SET settings = CASE WHEN cardinality($2::text[]) = 0 THEN settings - 'objects'
                                ELSE settings || jsonb_build_object('objects', $2::text[]) END
            WHERE id = $1",
            id.0,
            objects,
        )
        .execute(&mut *tx.inner)
        .await?;
        let after = if objects.is_empty() { json!(null) } else { json!(objects) };
        let deed = Deed {
            key: id.to_string(),
            before: Some(json!({ "objects": before })),
            after: Some(json!({ "objects": after })),
        };
        note_each(&mut tx.inner, granted, "connection", vec![deed], self.clock.now()).await?;
        tx.commit().await?;
        Ok(true)
    }
}
