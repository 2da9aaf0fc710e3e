//! Does nothing, or waits: what is left is the cost of the engine, which `bench` measures with it and tests crash.
//! Owns no effects.

use servant_loop::{Done, JobContext, JobError, Servant, Setup};
use std::{process::ExitCode, time::Duration};

fn main() -> ExitCode {
    servant_loop::main::<Noop>()
}

struct Noop;

/// `{"sleep_ms": 5}` waits so long, `{"tell_start": true}` has the progress say when it began, in microseconds since 1970;
/// everything else in it is the caller's own and ignored.
#[derive(Debug, serde::Deserialize)]
struct Payload {
    #[serde(default)]
    sleep_ms: u64,
    #[serde(default)]
    tell_start: bool,
}

/// It has no settings; an unknown one is refused.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

impl Servant for Noop {
    const KIND: &'static str = env!("CARGO_BIN_NAME");
    type Payload = Payload;
    type Config = Config;

    async fn connect(_: Config, _: &Setup) -> anyhow::Result<Self> {
        Ok(Self)
    }

    async fn run(&self, payload: Payload, job: &JobContext) -> Result<Done, JobError> {
        if payload.tell_start {
            let now = job.clock().now().timestamp_micros();
            job.progress(u64::try_from(now).unwrap_or(0), None, "began");
        }
        if payload.sleep_ms > 0 {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(payload.sleep_ms)) => {}
                () = job.cancelled().cancelled() => return Err(JobError::interrupted()),
            }
        }
        Ok(Done::without_effects())
    }
}
