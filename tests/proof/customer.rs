//! One customer: an organisation at a simulated Salesforce of its own, its connection, and the jobs that keep it up to date.
//! Does not own what goes wrong (`harm`) nor what must be true in the end (`ledger`).

use crate::world::{CLIENT_ID, CLIENT_SECRET, RECONCILE, SECRET_REF, SYNC, World};
use chrono::Utc;
use domain::{AccountId, ConnectionId, JobId, JobState};
use fakes::salesforce::{Content, FakeSalesforce, Kind, Mutations, Options};
use reqwest::{header, redirect};
use salesforce::{ConnectedApp, Hosts, OAuth, SecretString, new_secret};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use store::{Authorised, Inserted, NewJob, SealedSecrets, credential_place};
use testkit::eventually;
use tokio::sync::Semaphore;
use vault::ExposeSecret as _;

/// Where the vendor sends a browser back to; nobody listens there.
const CALLBACK: &str = "http://127.0.0.1:9/back";
/// How far a change by dice is late or dated back, at the most.
const LATE_SECS_MAX: u32 = 4;
/// From one look at a customer's jobs to the next.
const LOOK_AFTER: Duration = Duration::from_millis(60);
/// Changes that every engine sees by their stamp.
const STAMPED: [Kind; 8] = [
    Kind::Insert,
    Kind::Update,
    Kind::Delete,
    Kind::Undelete,
    Kind::Merge,
    Kind::EqualStamps,
    Kind::Late,
    Kind::BackDated,
];

/// A customer.
pub(crate) struct Customer {
    pub(crate) fake: Arc<FakeSalesforce>,
    pub(crate) account: AccountId,
    pub(crate) connection: ConnectionId,
    pub(crate) objects: Vec<String>,
}

/// How a round of jobs ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With this state of the job that was asked for, and nothing else left to do.
    Done(JobState),
    /// The connection must be authorised again.
    Parked,
}

impl Customer {
    /// A new one, whose organisation holds `records` and of it `objects` are synced.
    pub(crate) async fn new(world: &World, records: u64, seed: u64, objects: &[&str], options: Options) -> Self {
        let content = Content::Generated { records, seed };
        let options =
            Options { content, approve_at_once: true, require_pkce: true, rotate_refresh_tokens: true, ..options };
        let fake = FakeSalesforce::start(options).await.unwrap();
        let account = world.store.create_account(&format!("customer {seed}")).await.unwrap();
        let objects: Vec<String> = objects.iter().map(|object| (*object).to_owned()).collect();
        let settings = json!({ "login_url": fake.url(), "client_id": CLIENT_ID, "objects": objects });
        let connection =
            world.store.create_connection(account, "salesforce", &settings, Some(SECRET_REF)).await.unwrap();
        let customer = Self { fake: Arc::new(fake), account, connection, objects };
        customer.authorise(world).await;
        customer
    }

    /// Consents, again if need be: what is granted is sealed and kept.
    pub(crate) async fn authorise(&self, world: &World) {
        let app = ConnectedApp {
            login_url: self.fake.url(),
            client_id: CLIENT_ID.to_owned(),
            client_secret: Some(SecretString::from(CLIENT_SECRET)),
        };
        let hosts = Hosts::Development { root_certificate_pem: None };
        let oauth = OAuth::new(app, &salesforce::Options { hosts, ..salesforce::Options::default() }).unwrap();
        let (state, verifier) = (new_secret(), new_secret());
        let consent = oauth.authorize_url(CALLBACK, state.expose_secret(), &verifier);
        let browser = reqwest::Client::builder().redirect(redirect::Policy::none()).build().unwrap();
        let answer = browser.get(consent).send().await.unwrap();
        let back: reqwest::Url = answer.headers()[header::LOCATION].to_str().unwrap().parse().unwrap();
        let code = back.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
        let grant = oauth.exchange_code(&code, CALLBACK, &verifier).await.unwrap();
        if world.store.newest_key(self.account).await.unwrap().is_none() {
            world.store.keep_keys(&[world.vault.new_key(self.account, 1).await.unwrap()]).await.unwrap();
        }
        let key = world.store.newest_key(self.account).await.unwrap().unwrap();
        let token = grant.refresh_token.as_ref().unwrap();
        let credential = world.vault.seal(&key, &credential_place(self.connection), token).await.unwrap();
        let authorised = Authorised {
            connection: self.connection,
            account: self.account,
            vendor: "salesforce",
            settings: &json!({ "instance_host": grant.instance_host().unwrap() }),
            secret_ref: SECRET_REF,
            sealed: SealedSecrets { key_version: key.version, credential: Some(credential), session: None },
        };
        world.store.authorise_connection(&testkit::granted_to("customer", "consented"), &authorised).await.unwrap();
    }

    /// One job of a kind.
    pub(crate) async fn enqueue(&self, world: &World, kind: &str) -> JobId {
        let mut job = NewJob::new(World::kind(kind), json!({}));
        (job.account, job.connection, job.attempts_max) = (self.account, Some(self.connection), 60);
        match world.store.insert_jobs(&[job]).await.unwrap()[0] {
            Inserted::New(id) => id,
            Inserted::Duplicate(_) => panic!("a duplicate"),
        }
    }

    /// Whether a job of this customer is left, whatever made it.
    pub(crate) async fn has_jobs(&self, world: &World) -> Option<bool> {
        let sql = "SELECT EXISTS (SELECT FROM jobs WHERE account_id = $1)";
        sqlx::query_scalar(sql).bind(self.account.0).fetch_one(&world.sql).await.ok()
    }

    /// A job of that kind and all that it leads to.
    pub(crate) async fn run(&self, world: &World, kind: &str) -> End {
        let id = self.enqueue(world, kind).await;
        self.until_at_rest(world, id).await
    }

    pub(crate) async fn until_at_rest(&self, world: &World, id: JobId) -> End {
        let what = format!("the jobs of account {} to end", self.account);
        let sql = "SELECT EXISTS (SELECT FROM jobs WHERE account_id = c.account_id), state = 'needs_reauth'
                   FROM connections c WHERE id = $1";
        eventually(crate::world::LIMIT, &what, async || {
            // Many cases look at one ledger, which has better things to do than to answer.
            tokio::time::sleep(LOOK_AFTER).await;
            let look = sqlx::query_as::<_, (bool, bool)>(sql).bind(self.connection.0).fetch_one(&world.sql);
            match look.await.ok()? {
                (true, is_parked) => is_parked.then_some(End::Parked),
                (false, _) => world.store.find_job(id).await.ok()?.map(|job| End::Done(job.state)),
            }
        })
        .await
    }

    /// The same, authorised again as often as it takes.
    pub(crate) async fn run_whatever_comes(&self, world: &World, kind: &str) -> JobState {
        let id = self.enqueue(world, kind).await;
        loop {
            match self.until_at_rest(world, id).await {
                End::Done(state) => return state,
                End::Parked => self.authorise(world).await,
            }
        }
    }

    /// A sync, and a reconciliation where there is a servant for that.
    pub(crate) async fn settle(&self, world: &World) -> Result<(), String> {
        self.until_old_enough().await;
        for kind in [SYNC, RECONCILE].into_iter().filter(|kind| world.has(kind)) {
            match self.run(world, kind).await {
                End::Done(JobState::Succeeded) => {}
                end => return Err(format!("with nothing wrong any more, {kind} ends as {end:?}")),
            }
        }
        Ok(())
    }

    /// Stamps are whole seconds, and a window ends before the present one.
    async fn until_old_enough(&self) {
        let now = Utc::now().timestamp();
        eventually(crate::world::LIMIT, "the next second", async || (Utc::now().timestamp() > now).then_some(())).await;
    }

    /// Changes by dice, in the background, as many as are granted.
    pub(crate) fn mutate(&self, world: &World, seed: u64, every: Duration) -> Mutator {
        let (fake, turns) = (self.fake.clone(), Arc::new(Semaphore::new(0)));
        let only = if world.has(RECONCILE) { Vec::new() } else { STAMPED.to_vec() };
        let granted = turns.clone();
        let task = tokio::spawn(async move {
            let mut turn = 0;
            while let Ok(permit) = granted.acquire().await {
                permit.forget();
                turn += 1;
                let asked = Mutations {
                    seed: seed.wrapping_mul(1_000_003) + turn,
                    count: 2,
                    late_secs_max: LATE_SECS_MAX,
                    only: only.clone(),
                };
                drop(fake.mutate_by_dice(&asked));
                tokio::time::sleep(every).await;
            }
        });
        Mutator { turns, task }
    }
}

/// Changes by dice that go on while there are turns left. They are counted, not timed: a machine that syncs slowly has no
/// more of them to sync, and no more records that vanish without a trace than may be marked deleted without a person.
pub(crate) struct Mutator {
    turns: Arc<Semaphore>,
    task: tokio::task::JoinHandle<()>,
}

impl Mutator {
    pub(crate) fn grant(&self, turns: usize) {
        self.turns.add_permits(turns);
    }

    /// Waits until all that was granted has been used.
    pub(crate) async fn until_spent(&self) {
        eventually(crate::world::LIMIT, "the changes to be made", async || {
            (self.turns.available_permits() == 0).then_some(())
        })
        .await;
    }

    /// Ends it, whatever is left.
    pub(crate) async fn stop(self) {
        self.turns.close();
        self.task.await.unwrap();
    }
}
