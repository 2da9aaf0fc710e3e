//! Owns the progress bar of the first sync: reads the job's row, which is where progress is kept.

use anyhow::Context;
use domain::{JobId, JobState};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;
use store::{JobRow, Store};

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Shows the job's progress until it is finished.
pub(crate) async fn follow(store: &Store, id: JobId) -> anyhow::Result<JobRow> {
    let bar = ProgressBar::new_spinner();
    let style = |template: &str| ProgressStyle::with_template(template);
    let counted = style("onboarding {bar:30} {pos}/{len} {msg}")?;
    let open = style("onboarding {spinner} {pos} {msg}")?;
    bar.set_style(open.clone());
    bar.enable_steady_tick(LOOK_EVERY);
    loop {
        // The database may be restarted under us; its row will still be there.
        let job = match store.find_job(id).await {
            Ok(job) => job.context("the first sync is no longer in the ledger")?,
            Err(error) if error.is_transient() => {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let progress = job.progress.clone().unwrap_or_default();
        match progress["total"].as_u64() {
            Some(total) => {
                bar.set_length(total);
                bar.set_style(counted.clone());
            }
            None => bar.set_style(open.clone()),
        }
        bar.set_position(progress["done"].as_u64().unwrap_or(0));
        let message = progress["message"].as_str().unwrap_or_default();
        bar.set_message(if job.state == JobState::Running { message.to_owned() } else { job.state.to_string() });
        if matches!(job.state, JobState::Succeeded | JobState::Failed | JobState::Cancelled) {
            bar.finish_and_clear();
            return Ok(job);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
