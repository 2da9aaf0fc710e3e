//! The proof that no row of the audit was edited, taken out or put in: both hashes computed again, here, from the columns.
//! A tail that was cut off, or a chain that was made anew, shows against a head that was remembered elsewhere.

use crate::{Store, StoreError};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr};

/// Rows read at a time.
const ROWS_MAX: i64 = 1_000;
/// What the first row is chained to.
pub(super) const ROOT: [u8; 32] = [0; 32];

/// The end of the chain, as it was told at some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditHead {
    /// The row.
    pub seq: i64,
    /// Its chain hash, in hex.
    pub hash: String,
}

impl fmt::Display for AuditHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for AuditHead {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "it is a row's number, a colon, and 64 hexadecimal digits";
        let (seq, hash) = text.split_once(':').ok_or(wrong)?;
        let is_hash =
            hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let seq = seq.parse().ok().filter(|_| is_hash).ok_or(wrong)?;
        Ok(Self { seq, hash: hash.to_owned() })
    }
}

/// A row with which something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadAuditRow {
    /// The row.
    pub seq: i64,
    /// What.
    pub what: String,
}

/// What verifying found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditVerdict {
    /// Rows that are as they were written, and sealed.
    pub sealed: u64,
    /// Rows that are as they were written, and wait for the seal.
    pub awaiting: u64,
    /// The last sealed row.
    pub head: Option<AuditHead>,
    /// The first row that is not what it was.
    pub bad: Option<BadAuditRow>,
}

/// A hash as text.
pub(super) fn hash_of(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hash that a text of hexadecimal digits is; what is none is empty.
fn bytes_of(hash: &str) -> Vec<u8> {
    (0..hash.len() / 2).filter_map(|at| u8::from_str_radix(hash.get(at * 2..at * 2 + 2)?, 16).ok()).collect()
}

/// The hash of a row that follows another.
pub(super) fn chain(before: &[u8], row: &[u8]) -> Vec<u8> {
    Sha256::new().chain_update(before).chain_update(row).finalize().to_vec()
}

/// Each column as text with its length before it, as `audit_row_hash` has it in the database.
fn row_hash(fields: &[Option<&str>]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for field in fields {
        match field {
            Some(text) => {
                hash.update(text.len().to_string());
                hash.update(":");
                hash.update(text);
            }
            None => hash.update("-"),
        }
    }
    hash.finalize().to_vec()
}

/// A row with its columns as the database writes them out.
struct Raw {
    seq: i64,
    fields: Vec<Option<String>>,
    row_hash: Vec<u8>,
    chain_hash: Option<Vec<u8>>,
}

/// How far verifying has come.
struct Walk {
    /// The last row.
    after: i64,
    /// The chain hash up to there.
    hash: Vec<u8>,
    /// The first row that has no seal yet, behind which no other has one.
    unsealed: Option<i64>,
    verdict: AuditVerdict,
}

impl Store {
    /// Reads the whole audit and computes its hashes again. `remembered` is a head that was told before.
    ///
    /// # Errors
    /// [`StoreError`]; a row that is wrong is no error but the answer.
    pub async fn verify_audit(&self, remembered: Option<&AuditHead>) -> Result<AuditVerdict, StoreError> {
        let noted = self.noted_head().await?;
        let wanted: Vec<&AuditHead> = noted.iter().chain(remembered).collect();
        let mut walk = Walk::from(None);
        while !self.verify_next(&mut walk, &wanted).await? {}
        Ok(walk.verdict)
    }

    /// The same for one page of rows behind `after`, whose hash is taken for right; also answers with where to go on, unless
    /// this was the last page or something is wrong.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn verify_audit_page(
        &self,
        after: Option<&AuditHead>,
    ) -> Result<(AuditVerdict, Option<AuditHead>), StoreError> {
        let noted = self.noted_head().await?;
        let mut walk = Walk::from(after);
        let is_over = self.verify_next(&mut walk, &noted.iter().collect::<Vec<_>>()).await?;
        let next = (!is_over).then(|| AuditHead { seq: walk.after, hash: hash_of(&walk.hash) });
        Ok((walk.verdict, next))
    }

    /// Verifies the next page; true: it was the last, or a row is wrong.
    async fn verify_next(&self, walk: &mut Walk, wanted: &[&AuditHead]) -> Result<bool, StoreError> {
        let page = self.audit_page(walk.after).await?;
        for row in &page {
            if let Some(what) = walk.step(row, wanted) {
                walk.verdict.bad = Some(BadAuditRow { seq: row.seq, what });
                return Ok(true);
            }
        }
        if i64::try_from(page.len()).is_ok_and(|rows| rows == ROWS_MAX) {
            return Ok(false);
        }
        let missing = wanted.iter().filter(|head| head.seq > walk.after).min_by_key(|head| head.seq);
        walk.verdict.bad = missing.map(|head| {
            let what = format!("the chain once ended here, and row {} is the last now", walk.after.max(0));
            BadAuditRow { seq: head.seq, what }
        });
        Ok(true)
    }

    /// The head as the sealer left it; none: nothing was sealed yet.
    async fn noted_head(&self) -> Result<Option<AuditHead>, StoreError> {
        let row = sqlx::query!("-- noted_head\nSELECT head_seq, head_hash FROM audit_seals WHERE head_seq > 0")
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| AuditHead { seq: row.head_seq, hash: hash_of(&row.head_hash) }))
    }

    async fn audit_page(&self, after: i64) -> Result<Vec<Raw>, StoreError> {
        let rows = sqlx::query!(
            r#"-- audit_page
            SELECT seq, (extract(epoch FROM at) * 1000000)::bigint::text AS "at!", actor_kind, actor_id, actor, role,
                   on_behalf_of::text, action, subject, key, before::text, after::text, reason, request_id::text, ip,
                   agent, outcome, row_hash, chain_hash
            FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2"#,
            after,
            ROWS_MAX,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Raw {
                seq: row.seq,
                fields: vec![
                    Some(row.seq.to_string()),
                    Some(row.at),
                    Some(row.actor_kind),
                    Some(row.actor_id),
                    Some(row.actor),
                    Some(row.role),
                    row.on_behalf_of,
                    Some(row.action),
                    Some(row.subject),
                    Some(row.key),
                    row.before,
                    row.after,
                    Some(row.reason),
                    row.request_id,
                    row.ip,
                    Some(row.agent),
                    Some(row.outcome),
                ],
                row_hash: row.row_hash,
                chain_hash: row.chain_hash,
            })
            .collect())
    }
}

impl Walk {
    fn from(head: Option<&AuditHead>) -> Self {
        Self {
            after: head.map_or(i64::MIN, |head| head.seq),
            hash: head.map_or_else(|| ROOT.to_vec(), |head| bytes_of(&head.hash)),
            unsealed: None,
            verdict: AuditVerdict { sealed: 0, awaiting: 0, head: None, bad: None },
        }
    }

    /// What is wrong with the next row; nothing: it counts.
    fn step(&mut self, row: &Raw, wanted: &[&AuditHead]) -> Option<String> {
        if let Some(gone) = wanted.iter().find(|head| self.after < head.seq && head.seq < row.seq) {
            return Some(format!("row {} before it is gone, with which the chain once ended", gone.seq));
        }
        let fields: Vec<Option<&str>> = row.fields.iter().map(Option::as_deref).collect();
        if row_hash(&fields) != row.row_hash {
            return Some("its columns are not those that were written".to_owned());
        }
        self.after = row.seq;
        let Some(sealed) = &row.chain_hash else {
            self.unsealed.get_or_insert(row.seq);
            self.verdict.awaiting += 1;
            let should = wanted.iter().any(|head| head.seq >= row.seq);
            return should.then(|| "its seal is gone, or it was put in behind the seal".to_owned());
        };
        if let Some(first) = self.unsealed {
            return Some(format!("it is sealed, and row {first} before it is not"));
        }
        self.hash = chain(&self.hash, &row.row_hash);
        if *sealed != self.hash {
            return Some("it does not follow the row before it: one was edited, put in or taken out".to_owned());
        }
        let hash = hash_of(&self.hash);
        if wanted.iter().any(|head| head.seq == row.seq && head.hash != hash) {
            return Some("the chain was made anew: it once ended here with another hash".to_owned());
        }
        self.verdict.sealed += 1;
        self.verdict.head = Some(AuditHead { seq: row.seq, hash });
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_is_written_and_nothing_else_is() {
        let head = AuditHead { seq: 7, hash: hash_of(&[0xab; 32]) };
        assert_eq!(head.to_string().parse(), Ok(head.clone()));
        assert_eq!(bytes_of(&head.hash), [0xab; 32]);
        for wrong in ["", "7", "7:ab", "x:", &head.to_string().to_uppercase(), &format!("{head}0")] {
            assert!(wrong.parse::<AuditHead>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_two_rows_read_the_same() {
        assert_ne!(row_hash(&[Some("a"), Some("b")]), row_hash(&[Some("ab"), Some("")]));
        assert_ne!(row_hash(&[Some("-")]), row_hash(&[None]));
        assert_ne!(row_hash(&[None, Some("")]), row_hash(&[Some(""), None]));
    }
}
