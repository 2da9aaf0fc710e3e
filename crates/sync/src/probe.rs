//! What there is to read, found out without reading it: sizes of objects, and which of them had changes or deletions.
//! Owns how many questions go into one call. Does not own what follows from the answers (`servants`).

use crate::{SyncError, soql};
use chrono::{DateTime, Utc};
use salesforce::{Answer, Changed, Client, Deleted, QUERIES_MAX, QUESTIONS_MAX, Question, SalesforceError};

/// An object that was read before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// It.
    pub object: String,
    /// Changes from this time on.
    pub changed_from: DateTime<Utc>,
    /// Deletions from this time on.
    pub deleted_from: DateTime<Utc>,
    /// Deletions have to be asked for now. Else they are where a call has room for it.
    pub deletions_are_due: bool,
}

/// What Salesforce says of it.
#[derive(Debug)]
pub struct Looked {
    /// The object.
    pub object: String,
    /// Its changes; an error is the object's own.
    pub changed: Result<Changed, SyncError>,
    /// Its deletions, if they were asked for.
    pub deleted: Option<Result<Deleted, SyncError>>,
}

/// How many records objects hold, deleted ones included, in their order; a fifth of a call each. An inner error is the
/// object's own.
///
/// # Errors
/// The outer one is of the call.
pub async fn sizes(client: &Client, objects: &[String]) -> Result<Vec<Result<u64, SyncError>>, SyncError> {
    let mut sizes = Vec::with_capacity(objects.len());
    for some in objects.chunks(QUERIES_MAX) {
        let questions: Vec<_> = some.iter().map(|object| Question::query_all(&soql::count(object))).collect();
        for answer in client.composite(&questions).await? {
            sizes.push(of_one(answer.and_then(Answer::page))?.map(|page| page.total_size));
        }
    }
    Ok(sizes)
}

/// What happened to objects until `until`: 25 questions a call. Whether there were changes is always asked; whether there
/// were deletions when it is due, or costs nothing.
///
/// # Errors
/// The outer one is of the calls; each inner one is an object's own.
pub async fn look(client: &Client, looks: &[Look], until: DateTime<Utc>) -> Result<Vec<Looked>, SyncError> {
    let (due, others): (Vec<_>, Vec<_>) = (0..looks.len()).partition(|at| looks[*at].deletions_are_due);
    let needed = looks.len() + due.len();
    let room = needed.next_multiple_of(QUESTIONS_MAX) - needed;
    let deletions: Vec<usize> = due.into_iter().chain(others.into_iter().take(room)).collect();
    let mut questions = Vec::with_capacity(needed + room);
    for look in looks {
        questions.push(Question::changed(&look.object, look.changed_from, until)?);
    }
    for at in &deletions {
        questions.push(Question::deleted(&looks[*at].object, looks[*at].deleted_from, until)?);
    }
    let mut answers = Vec::with_capacity(questions.len());
    for some in questions.chunks(QUESTIONS_MAX) {
        answers.extend(client.composite(some).await?);
    }
    let mut answers = answers.into_iter();
    let mut looked = Vec::with_capacity(looks.len());
    for (look, answer) in looks.iter().zip(answers.by_ref()) {
        let changed = of_one(answer.and_then(Answer::changed))?;
        looked.push(Looked { object: look.object.clone(), changed, deleted: None });
    }
    for (at, answer) in deletions.into_iter().zip(answers) {
        looked[at].deleted = Some(of_one(answer.and_then(Answer::deleted))?);
    }
    Ok(looked)
}

/// What stops all questions, apart from what is wrong with one.
fn of_one<T>(answer: salesforce::Result<T>) -> Result<Result<T, SyncError>, SyncError> {
    match answer {
        Err(error @ (SalesforceError::QuotaExhausted | SalesforceError::AuthBroken { .. })) => Err(error.into()),
        answer => Ok(answer.map_err(SyncError::from)),
    }
}
