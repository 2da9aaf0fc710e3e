//! `throughput`.

use crate::{output, refusal::Refusal};
use clap::Args;
use manager_api::{ManagerClient, ThroughputQuery};

/// Which stretch of time, and of what.
#[derive(Debug, Args)]
pub(crate) struct Throughput {
    /// 1h (by minute), 24h (by quarter of an hour) or 7d (by hour).
    #[arg(long, default_value = "1h")]
    span: String,
    /// Of this kind.
    #[arg(long)]
    kind: Option<String>,
}

pub(crate) async fn run(client: &ManagerClient, of: &Throughput, json: bool) -> anyhow::Result<()> {
    let query = ThroughputQuery { span: Some(of.span.clone()), kind: of.kind.clone() };
    let throughput = client.throughput(&query).await.map_err(Refusal::from)?;
    let rows = throughput.points.iter().map(|point| {
        vec![
            output::time(Some(point.at)),
            point.succeeded.to_string(),
            point.failed.to_string(),
            point.cancelled.to_string(),
            point.waited_ms_mean.to_string(),
            point.waited_ms_max.to_string(),
            point.ran_ms_mean.to_string(),
        ]
    });
    let head = ["FROM", "SUCCEEDED", "FAILED", "CANCELLED", "WAITED MS", "LONGEST MS", "RAN MS"];
    output::table(json, &throughput, &head, rows.collect())
}
