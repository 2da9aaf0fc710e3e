//! People who look: each has an overview open, which asks for itself again every two seconds as the page's script does,
//! and goes through all other pages and lists in an order of its own.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use testkit::Read;
use tokio::{sync::Mutex, task::JoinSet};

/// How often an open page asks for itself.
const LIVE_EVERY: Duration = Duration::from_secs(2);
/// What an open overview is called.
const OVERVIEW: &str = "GET / (live)";

/// How long one page took, each time.
pub(super) struct Timing {
    pub(super) page: String,
    pub(super) millis: Vec<f64>,
}

type Timings = Arc<Mutex<BTreeMap<String, Vec<f64>>>>;

/// All of them.
pub(super) struct Viewers {
    tasks: JoinSet<anyhow::Result<()>>,
    timings: Timings,
}

impl Viewers {
    /// Without `samples` they look at their overviews only.
    pub(super) fn start(url: &str, viewers: u32, samples: &[Vec<Read>], think: Duration) -> anyhow::Result<Self> {
        let (mut tasks, timings) = (JoinSet::new(), Timings::default());
        let samples = Arc::new(samples.to_vec());
        for viewer in 0..viewers {
            let client = reqwest::Client::builder().build()?;
            let get = Get { client, url: url.to_owned(), timings: timings.clone() };
            // They have not opened it at the same moment.
            let first = LIVE_EVERY * viewer / viewers.max(1);
            tasks.spawn(watch(get.clone(), first));
            if !samples.is_empty() {
                tasks.spawn(click(get, samples.clone(), viewer, think));
            }
        }
        Ok(Self { tasks, timings })
    }

    /// Answers with the time of every answer.
    pub(super) async fn stop(mut self) -> anyhow::Result<Vec<Timing>> {
        // They look until they are told to leave: one that has ended has met an error.
        while let Some(ended) = self.tasks.try_join_next() {
            ended??;
        }
        self.tasks.shutdown().await;
        let timings = std::mem::take(&mut *self.timings.lock().await);
        Ok(timings.into_iter().map(|(page, millis)| Timing { page, millis }).collect())
    }
}

#[derive(Clone)]
struct Get {
    client: reqwest::Client,
    url: String,
    timings: Timings,
}

impl Get {
    /// From the request to the last byte of the answer.
    async fn get(&self, page: &str, address: &str) -> anyhow::Result<()> {
        let start = Instant::now();
        let request = self.client.get(format!("{}{address}", self.url)).header("accept", "text/html");
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.bytes().await?;
        let millis = start.elapsed().as_secs_f64() * 1_000.0;
        // What was sampled may have ended and be pruned: nothing else may go wrong.
        anyhow::ensure!(
            status.is_success() || status.as_u16() == 404,
            "{address}: {status} {}",
            String::from_utf8_lossy(&text)
        );
        self.timings.lock().await.entry(page.to_owned()).or_default().push(millis);
        Ok(())
    }
}

async fn watch(get: Get, first: Duration) -> anyhow::Result<()> {
    tokio::time::sleep(first).await;
    let mut tick = tokio::time::interval(LIVE_EVERY);
    loop {
        tick.tick().await;
        get.get(OVERVIEW, "/").await?;
    }
}

async fn click(get: Get, samples: Arc<Vec<Vec<Read>>>, viewer: u32, think: Duration) -> anyhow::Result<()> {
    let mut random = StdRng::seed_from_u64(u64::from(viewer));
    loop {
        let mut order: Vec<usize> = (0..samples.first().map_or(0, Vec::len)).collect();
        while !order.is_empty() {
            // Half of the average to one and a half times that.
            tokio::time::sleep(think.mul_f64(random.random_range(0.5..1.5))).await;
            let at = order.swap_remove(random.random_range(0..order.len()));
            let of = random.random_range(0..samples.len());
            let read = &samples[of][at];
            get.get(&read.page, &read.address).await?;
        }
    }
}
