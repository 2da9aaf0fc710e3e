//! The errors that attempts of a seed ended with: as many for each kind, each with the group that it belongs to.

use super::{Seed, run};
use domain::{ErrorClass, Fingerprint, error_title};
use sqlx::PgConnection;

/// Different errors of each kind.
pub(super) const ERRORS_OF_KIND: usize = 40;

impl Seed {
    /// A table to join with; it is in nobody's way.
    pub(super) async fn errors(&self, sql: &mut PgConnection) -> anyhow::Result<()> {
        run(
            sql,
            "CREATE TABLE seeded_errors (kind text, no int, class text, error text, title text, fingerprint text,
                PRIMARY KEY (kind, no))",
        )
        .await?;
        let mut columns: [Vec<String>; 5] = Default::default();
        let mut numbers: Vec<i32> = Vec::new();
        for kind in &self.kinds {
            for no in 0..ERRORS_OF_KIND {
                // The last class is of the rarest errors only.
                let classes = ErrorClass::ALL.len() - usize::from(no + 2 < ERRORS_OF_KIND);
                let class = ErrorClass::ALL[no % classes].as_str();
                let words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"];
                let place = format!("{} {}", words[no % words.len()], words[no / words.len()]);
                let error =
                    format!("the vendor refused {place}\nPOST /services/data\nHTTP 500: {place} of {kind} is locked");
                let fingerprint = Fingerprint::of(kind, class, &error);
                let row = [kind.clone(), class.to_owned(), error.clone(), error_title(&error), fingerprint.to_string()];
                for (column, value) in columns.iter_mut().zip(row) {
                    column.push(value);
                }
                numbers.push(i32::try_from(no)?);
            }
        }
        let [kinds, classes, errors, titles, fingerprints] = columns;
        sqlx::query(
            "INSERT INTO seeded_errors (kind, no, class, error, title, fingerprint)
             SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[])",
        )
        .bind(kinds)
        .bind(numbers)
        .bind(classes)
        .bind(errors)
        .bind(titles)
        .bind(fingerprints)
        .execute(&mut *sql)
        .await?;
        run(sql, "ANALYZE seeded_errors").await
    }
}
