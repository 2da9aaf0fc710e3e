//! Owns the connection: configuration, client, queue creation and depth.
//! Does not own sending, receiving or redriving, which have files of their own.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, meta::region::RegionProviderChain};
use aws_sdk_sqs::{
    Client,
    config::{
        ConfigBag, Credentials, Intercept, RuntimeComponents, StalledStreamProtectionConfig,
        interceptors::BeforeTransmitInterceptorContextRef, retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::BoxError,
    types::QueueAttributeName,
};
use secrecy::{ExposeSecret, SecretString};

use crate::{QueueError, naming};

const CONNECT_SECS: u64 = 9;
/// An attempt lasts longer than the longest wait of a receive, or every empty long poll would be a failure.
const ATTEMPT_SECS_OVER_WAIT: u64 = 10;
const ATTEMPTS_MAX: u32 = 4;
/// SQS's longest long poll, in seconds.
const WAIT_SECS_MAX: u32 = 20;
/// SQS's longest visibility timeout, in seconds.
const VISIBILITY_SECS_MAX: u32 = 43_200;
/// Fourteen days, SQS's longest, so that a dead letter outlives a holiday.
const DEAD_RETENTION_SECS: u32 = 1_209_600;

/// Keys given by hand, for simulated servers that do not check them. Production leaves them out.
#[derive(Clone, Debug)]
pub struct StaticCredentials {
    /// The access key's id.
    pub access_key_id: String,
    /// The secret key; never printed.
    pub secret_access_key: SecretString,
    /// The region to sign for.
    pub region: String,
}

/// How to reach SQS and how to make queues there.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SqsConfig {
    /// A server other than Amazon's.
    pub endpoint_url: Option<String>,
    /// The first part of every queue's name.
    pub prefix: String,
    /// Whether messages carry the account as their message group, which makes a standard queue fair (and costs more).
    pub fair_groups: bool,
    /// How long a received message stays hidden, in seconds.
    pub visibility_secs: u32,
    /// After so many receives a message goes to the dead-letter queue (1 to 1000).
    pub receive_count_max: u32,
    /// How long a receive waits for a message, in seconds (0 to 20).
    pub wait_secs: u32,
    /// Replaces aws-config's ordinary chain (environment, profile, instance role) when given.
    #[serde(skip)]
    pub static_credentials: Option<StaticCredentials>,
}

impl Default for SqsConfig {
    fn default() -> Self {
        Self {
            endpoint_url: None,
            prefix: "servant".to_owned(),
            fair_groups: true,
            visibility_secs: 30,
            receive_count_max: 5,
            wait_secs: WAIT_SECS_MAX,
            static_credentials: None,
        }
    }
}

/// Depth of one kind's queues, as approximate as SQS gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueDepth {
    /// The queue's name.
    pub name: String,
    /// The kind of work.
    pub kind: String,
    /// Messages ready to be received.
    pub visible: u64,
    /// Messages received and not deleted.
    pub in_flight: u64,
    /// Messages not yet due.
    pub delayed: u64,
    /// Messages on the dead-letter queue.
    pub dead: u64,
}

#[derive(Debug)]
struct CountRequests(Arc<AtomicU64>);

impl Intercept for CountRequests {
    fn name(&self) -> &'static str {
        "count_requests"
    }

    fn read_before_attempt(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A connection to SQS; clones share it.
#[derive(Clone, Debug)]
pub struct Sqs {
    pub(crate) client: Client,
    pub(crate) config: Arc<SqsConfig>,
    /// Queue URLs by queue name.
    urls: Arc<Mutex<HashMap<String, String>>>,
    requests: Arc<AtomicU64>,
}

impl Sqs {
    /// Builds the client. Makes no call to SQS.
    ///
    /// # Errors
    /// [`QueueError::Config`] for numbers outside SQS's limits, a bad prefix, or when no region is found.
    pub async fn connect(config: SqsConfig) -> Result<Self, QueueError> {
        let refuse = |reason: String| Err(QueueError::Config { reason, source: None });
        naming::queue_name(&config.prefix, "kind")?;
        if config.wait_secs > WAIT_SECS_MAX {
            return refuse(format!("wait_secs is {}, SQS's limit is {WAIT_SECS_MAX}", config.wait_secs));
        }
        if config.visibility_secs > VISIBILITY_SECS_MAX {
            return refuse(format!(
                "visibility_secs is {}, the limit is {VISIBILITY_SECS_MAX}",
                config.visibility_secs
            ));
        }
        if !(1..=1_000).contains(&config.receive_count_max) {
            return refuse(format!("receive_count_max is {}, SQS takes 1 to 1000", config.receive_count_max));
        }
        let requests = Arc::new(AtomicU64::new(0));
        let attempt_secs = u64::from(config.wait_secs) + ATTEMPT_SECS_OVER_WAIT;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(CONNECT_SECS))
            .operation_attempt_timeout(Duration::from_secs(attempt_secs))
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
            // A long poll is a stream that stalls on purpose.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(url) = &config.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        loader = match &config.static_credentials {
            Some(keys) => {
                let secret = keys.secret_access_key.expose_secret();
                loader.region(Region::new(keys.region.clone())).credentials_provider(Credentials::new(
                    &keys.access_key_id,
                    secret,
                    None,
                    None,
                    "static",
                ))
            }
            None => loader.region(RegionProviderChain::default_provider()),
        };
        let shared = loader.load().await;
        if shared.region().is_none() {
            return refuse("no region is configured: set AWS_REGION".to_owned());
        }
        let sdk = aws_sdk_sqs::config::Builder::from(&shared).interceptor(CountRequests(Arc::clone(&requests))).build();
        let urls = Arc::default();
        Ok(Self { client: Client::from_conf(sdk), config: Arc::new(config), urls, requests })
    }

    /// Every HTTP request attempted so far, retries included, by this connection and its clones.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Creates the kind's queue and its dead-letter queue, or brings their settings up to date. Idempotent.
    ///
    /// # Errors
    /// Any [`QueueError`].
    pub async fn ensure(&self, kind: &str) -> Result<(), QueueError> {
        let name = naming::queue_name(&self.config.prefix, kind)?;
        let dead = naming::dead_letter_name(&self.config.prefix, kind)?;
        let dead_url = self.create(&dead).await?;
        let retention = DEAD_RETENTION_SECS.to_string();
        self.set_attributes(&dead, &dead_url, vec![(QueueAttributeName::MessageRetentionPeriod, retention)]).await?;
        let arn = self.arn(&dead, &dead_url).await?;
        let url = self.create(&name).await?;
        let redrive = serde_json::json!({
            "deadLetterTargetArn": arn,
            "maxReceiveCount": self.config.receive_count_max,
        });
        let settings = vec![
            (QueueAttributeName::VisibilityTimeout, self.config.visibility_secs.to_string()),
            (QueueAttributeName::ReceiveMessageWaitTimeSeconds, self.config.wait_secs.to_string()),
            (QueueAttributeName::RedrivePolicy, redrive.to_string()),
        ];
        self.set_attributes(&name, &url, settings).await?;
        self.remember(&dead, dead_url);
        self.remember(&name, url);
        Ok(())
    }

    /// Creates without attributes, which is idempotent whatever the attributes of an existing queue are.
    async fn create(&self, name: &str) -> Result<String, QueueError> {
        let made = self.client.create_queue().queue_name(name).send().await;
        let made = made.map_err(|error| QueueError::from_sdk(name, error))?;
        made.queue_url.ok_or_else(|| no_answer(name, "QueueUrl"))
    }

    async fn set_attributes(
        &self,
        name: &str,
        url: &str,
        settings: Vec<(QueueAttributeName, String)>,
    ) -> Result<(), QueueError> {
        let call =
            self.client.set_queue_attributes().queue_url(url).set_attributes(Some(settings.into_iter().collect()));
        call.send().await.map_err(|error| QueueError::from_sdk(name, error))?;
        Ok(())
    }

    pub(crate) async fn arn(&self, name: &str, url: &str) -> Result<String, QueueError> {
        let mut found = self.attributes(name, url, &[QueueAttributeName::QueueArn]).await?;
        found.remove(&QueueAttributeName::QueueArn).ok_or_else(|| no_answer(name, "QueueArn"))
    }

    async fn attributes(
        &self,
        name: &str,
        url: &str,
        wanted: &[QueueAttributeName],
    ) -> Result<HashMap<QueueAttributeName, String>, QueueError> {
        let call = self.client.get_queue_attributes().queue_url(url).set_attribute_names(Some(wanted.to_vec()));
        let answer = call.send().await.map_err(|error| QueueError::from_sdk(name, error))?;
        Ok(answer.attributes.unwrap_or_default())
    }

    /// Depth of every queue with our prefix, in order of name.
    ///
    /// # Errors
    /// Any [`QueueError`].
    pub async fn list(&self) -> Result<Vec<QueueDepth>, QueueError> {
        let prefix = format!("{}-", self.config.prefix);
        let mut urls = HashMap::new();
        let mut pages = self.client.list_queues().queue_name_prefix(&prefix).max_results(1_000).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| QueueError::from_sdk(&prefix, error))?;
            for url in page.queue_urls.unwrap_or_default() {
                let name = url.rsplit('/').next().unwrap_or_default().to_owned();
                urls.insert(name, url);
            }
        }
        let mut depths = Vec::new();
        for (name, url) in urls.iter().filter(|(name, _)| !name.ends_with("-dead")) {
            let (visible, in_flight, delayed) = self.counts(name, url).await?;
            let dead = match urls.get_key_value(&format!("{name}-dead")) {
                Some((dead, dead_url)) => {
                    let (visible, in_flight, delayed) = self.counts(dead, dead_url).await?;
                    visible + in_flight + delayed
                }
                None => 0,
            };
            let kind = name.strip_prefix(&prefix).unwrap_or(name).to_owned();
            depths.push(QueueDepth { name: name.clone(), kind, visible, in_flight, delayed, dead });
        }
        depths.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(depths)
    }

    async fn counts(&self, name: &str, url: &str) -> Result<(u64, u64, u64), QueueError> {
        use QueueAttributeName::{
            ApproximateNumberOfMessages as Visible, ApproximateNumberOfMessagesDelayed as Delayed,
            ApproximateNumberOfMessagesNotVisible as InFlight,
        };
        let found = self.attributes(name, url, &[Visible, InFlight, Delayed]).await?;
        let count = |key| found.get(&key).and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok((count(Visible), count(InFlight), count(Delayed)))
    }

    /// The queue's URL, from the cache or the server.
    pub(crate) async fn url(&self, name: &str) -> Result<String, QueueError> {
        if let Some(url) = self.urls().get(name) {
            return Ok(url.clone());
        }
        let answer = self.client.get_queue_url().queue_name(name).send().await;
        let answer = answer.map_err(|error| QueueError::from_sdk(name, error))?;
        let url = answer.queue_url.ok_or_else(|| no_answer(name, "QueueUrl"))?;
        self.remember(name, url.clone());
        Ok(url)
    }

    fn remember(&self, name: &str, url: String) {
        self.urls().insert(name.to_owned(), url);
    }

    pub(crate) fn forget(&self, name: &str) {
        self.urls().remove(name);
    }

    fn urls(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        // The map is whole after any single insert or remove, so a panic elsewhere cannot have broken it.
        self.urls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_answer(name: &str, field: &str) -> QueueError {
    QueueError::Rejected { reason: format!("the answer about {name} lacks {field}"), source: None }
}
