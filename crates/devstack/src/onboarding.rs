//! Owns the progress bar of the onboarding: the first sync, and the group of all that it has read by others.

use anyhow::Context;
use domain::{GroupId, JobId, JobState};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;
use store::{GroupRow, JobRow, Store, StoreError};

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What the bar shows.
#[derive(Debug, Default)]
struct Shown {
    done: u64,
    total: Option<u64>,
    message: String,
}

/// What an onboarding came to.
#[derive(Debug)]
pub(crate) struct Onboarded {
    /// Its first job.
    pub(crate) first: JobRow,
    /// The group that the first job made, as it ended; none if there was nothing to read for the first time.
    pub(crate) group: Option<GroupRow>,
}

impl Onboarded {
    /// Succeeded only if all did.
    pub(crate) fn state(&self) -> JobState {
        let counts = self.group.as_ref().map(|group| group.counts);
        let is_in = |state| counts.is_some_and(|counts| counts.of(state) > 0);
        match self.first.state {
            JobState::Succeeded if is_in(JobState::Failed) => JobState::Failed,
            JobState::Succeeded if is_in(JobState::Cancelled) => JobState::Cancelled,
            state => state,
        }
    }
}

/// Shows how far the onboarding is until its first job and all that belongs to it have ended.
pub(crate) async fn follow(store: &Store, first: JobId) -> anyhow::Result<Onboarded> {
    let bar = ProgressBar::new_spinner();
    let style = |template: &str| ProgressStyle::with_template(template);
    let counted = style("onboarding {bar:30} {pos}/{len} {msg}")?;
    let open = style("onboarding {spinner} {pos} {msg}")?;
    bar.set_style(open.clone());
    bar.enable_steady_tick(LOOK_EVERY);
    loop {
        // The database may be restarted under us; its rows will still be there.
        let (shown, ended) = match look(store, first).await {
            Ok(looked) => looked.context("the first sync is no longer in the ledger")?,
            Err(error) if error.is_transient() => {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        match shown.total {
            Some(total) => {
                bar.set_length(total);
                bar.set_style(counted.clone());
            }
            None => bar.set_style(open.clone()),
        }
        bar.set_position(shown.done);
        bar.set_message(shown.message);
        if let Some(onboarded) = ended {
            bar.finish_and_clear();
            return Ok(onboarded);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What there is to show, and the end, once it is there; none when the job is not in the ledger.
async fn look(store: &Store, first: JobId) -> Result<Option<(Shown, Option<Onboarded>)>, StoreError> {
    let Some(job) = store.find_job(first).await? else { return Ok(None) };
    let group = match job.group_id {
        Some(group) => store.find_group(group).await?,
        None => None,
    };
    let Some(group) = group else {
        let progress = job.progress.clone().unwrap_or_default();
        let message = progress["message"].as_str().unwrap_or_default();
        let shown = Shown {
            done: progress["done"].as_u64().unwrap_or(0),
            total: progress["total"].as_u64(),
            message: if job.state == JobState::Running { message.to_owned() } else { job.state.to_string() },
        };
        let ended = job.state.is_finished().then_some(Onboarded { first: job, group: None });
        return Ok(Some((shown, ended)));
    };
    let progress = store.group_progress(&group).await?;
    let left = progress
        .left
        .map_or_else(|| "time left unknown".to_owned(), |left| format!("{} left", domain::about(left.num_seconds())));
    let GroupId(id) = group.id;
    let shown = Shown {
        done: progress.done.unsigned_abs(),
        total: u64::try_from(progress.total).ok().filter(|total| *total > 0),
        message: format!("{left} (group {id})"),
    };
    let is_over = group.state.is_ended() && job.state.is_finished();
    let ended = is_over.then_some(Onboarded { first: job, group: Some(group) });
    Ok(Some((shown, ended)))
}
