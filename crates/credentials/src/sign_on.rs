//! Sessions: the one that is kept, or a new one that one of all servants asks the vendor for while the others wait.
//! Owns the order of things: what a vendor gave is kept before anybody uses it. Does not know any vendor's tokens.
//!
//! Who may ask is a claim on the connection's row, taken by one statement and good for seconds; its holder renews it
//! while the vendor answers, so that no transaction stays open meanwhile and a dead one is followed soon. Within a
//! process those who wait for one connection stand in line and look at the row one after the other, so a thousand of
//! them ask the ledger no faster than one.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{AccountId, ConnectionId};
use secrecy::SecretString;
use store::{SealedSecrets, SecretsRow, SigningOn, Store, StoreError, credential_place, session_place};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;
use vault::{Vault, VaultError};

use crate::CredentialsError;

/// How long a vendor may take for a session.
const ASK_SECS_MAX: u64 = 40;
/// How long whoever asks is thought to be alive since it last said so, in seconds.
const CLAIM_SECS: i64 = 6;
/// How often whoever asks says that it is alive: a few times within a claim, so that a slow ledger costs no claim.
const RENEW_EVERY: Duration = Duration::from_millis(1_500);
/// How long a claim is seen to have lapsed before another takes it. After an outage of the ledger every claim has lapsed,
/// and its holder, who may hold the only token that is good any more, must be able to come first.
const LAPSED_FOR: Duration = Duration::from_secs(3);
/// How long a new session must have been there before another is asked for, in seconds: what refuses a session that fresh
/// will refuse the next one too.
const RENEW_SECS_MIN: i64 = 10;
/// How long nobody asks after a failure, in seconds.
const RETRY_SECS: i64 = 10;
/// The longest that a vendor's word makes everybody wait.
const RETRY_SECS_MAX: i64 = 3_600;
/// How long a caller waits for others.
const WAIT_SECS_MAX: u64 = 120;
/// How long what a vendor gave is held on to while the ledger does not answer.
const KEEP_SECS_MAX: u64 = 300;
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Connections in line before those are forgotten whom nobody waits for.
const LINES_MAX: usize = 1_000;

/// A session of a connection.
#[derive(Debug, Clone)]
pub struct Session {
    /// Counts the connection's sessions: say which one was refused to get a newer one.
    pub generation: i64,
    /// Whatever the vendor's client made of it.
    pub text: SecretString,
}

/// What a vendor gave.
#[derive(Debug)]
pub struct Granted {
    /// The session, as text that the same vendor's client reads again; or why it is of no use, which does not make what
    /// else was given worthless.
    pub session: Result<SecretString, Answer>,
    /// What to sign on with from now on, where the old one is good no more.
    pub credential: Option<SecretString>,
}

/// Why a vendor gave nothing.
#[derive(Debug)]
pub enum Answer {
    /// For good: the customer must authorise again.
    Refused(String),
    /// It may do so later.
    Unavailable {
        /// What was seen.
        reason: String,
        /// How long nobody should ask, if that is known.
        retry_secs: Option<u64>,
    },
}

impl Answer {
    /// It may do so later.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), retry_secs: None }
    }
}

/// Signs on, for all connections of a process. Share it.
pub struct SignOn {
    store: Store,
    vault: Arc<Vault>,
    lines: Mutex<HashMap<ConnectionId, Weak<tokio::sync::Mutex<Option<Session>>>>>,
}

impl fmt::Debug for SignOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignOn").finish_non_exhaustive()
    }
}

/// What one sign-on came to.
enum Flight {
    Landed(Session),
    /// Others were faster, or the claim was lost meanwhile: look again.
    Overtaken,
}

impl SignOn {
    /// Makes no call yet.
    #[must_use]
    pub fn new(store: Store, vault: Arc<Vault>) -> Arc<Self> {
        Arc::new(Self { store, vault, lines: Mutex::default() })
    }

    /// A session of the connection that is newer than `after` (0: any). `ask` is called, with the connection's credential,
    /// when there is none and nobody else asks. It goes on, and what it gave is kept, even when the caller is gone:
    /// a vendor that rotates has ended the old credential by then.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub async fn session<F, A>(
        self: &Arc<Self>,
        connection: ConnectionId,
        after: i64,
        ask: F,
    ) -> Result<Session, CredentialsError>
    where
        F: Fn(Option<SecretString>) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Granted, Answer>> + Send,
    {
        let this = self.clone();
        let flight = tokio::spawn(async move {
            let line = this.line(connection);
            let mut last = line.lock().await;
            // Whoever was before us in the line may have got what we want.
            if let Some(session) = last.as_ref().filter(|session| after > 0 && session.generation > after) {
                return Ok(session.clone());
            }
            let session = this.fly(connection, after, ask).await?;
            *last = Some(session.clone());
            Ok(session)
        });
        flight.await.map_err(|error| CredentialsError::Unavailable {
            reason: format!("the sign-on broke off: {error}"),
            retry_at: None,
        })?
    }

    /// Makes ready a connection whose sessions are had without anything that the customer granted to keep. Nothing is done
    /// where it is.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub async fn ensure(&self, connection: ConnectionId, account: AccountId) -> Result<(), CredentialsError> {
        if self.store.find_secrets(connection).await?.is_some() {
            return Ok(());
        }
        let make = || async { self.vault.new_key(account, 1).await.map_err(CredentialsError::from) };
        let key = self.store.newest_key_or(account, make).await?.ok_or_else(no_key)?;
        Ok(self.store.ensure_secrets(connection, key.version).await?)
    }

    fn line(&self, connection: ConnectionId) -> Arc<tokio::sync::Mutex<Option<Session>>> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(&connection).and_then(Weak::upgrade) {
            return line;
        }
        if lines.len() >= LINES_MAX {
            lines.retain(|_, line| line.strong_count() > 0);
        }
        let line = Arc::default();
        lines.insert(connection, Arc::downgrade(&line));
        line
    }

    async fn fly<F, A>(&self, connection: ConnectionId, after: i64, ask: F) -> Result<Session, CredentialsError>
    where
        F: Fn(Option<SecretString>) -> A,
        A: Future<Output = Result<Granted, Answer>>,
    {
        let patience = Instant::now() + Duration::from_secs(WAIT_SECS_MAX);
        let mut pause = PAUSE_FIRST;
        let mut lapsed: Option<(DateTime<Utc>, Instant)> = None;
        loop {
            let row = self.store.find_secrets(connection).await?.ok_or(CredentialsError::None(connection))?;
            if row.connection_state == "needs_reauth" {
                return Err(CredentialsError::Refused { reason: row.connection_reason.unwrap_or_default() });
            }
            if let Some(sealed) = row.session.as_ref().filter(|_| row.generation > after) {
                let text = self.vault.open(&row.key, &session_place(connection), sealed).await?;
                return Ok(Session { generation: row.generation, text });
            }
            let now = self.store.now();
            if let Some(retry_at) = row.retry_at.filter(|at| *at > now) {
                let reason = row.failure.unwrap_or_default();
                return Err(CredentialsError::Unavailable { reason, retry_at: Some(retry_at) });
            }
            // The same lapsed claim as at the last look, or one that has lapsed since.
            lapsed = row.signing_on_until.filter(|until| *until < now).map(|until| match lapsed {
                Some((seen, since)) if seen == until => (seen, since),
                _ => (until, Instant::now()),
            });
            let may_follow = lapsed.is_none_or(|(_, since)| since.elapsed() >= LAPSED_FOR);
            let is_fresh = row.signed_on_at.is_some_and(|at| now - at < TimeDelta::seconds(RENEW_SECS_MIN));
            let claim = SigningOn { connection, generation: row.generation, by: Uuid::new_v4() };
            if !is_fresh && may_follow && self.store.claim_sign_on(claim, now + TimeDelta::seconds(CLAIM_SECS)).await? {
                let flight = tokio::select! {
                    flight = self.sign_on(claim, &row, &ask) => flight?,
                    never = self.stay_alive(claim) => match never {},
                };
                if let Flight::Landed(session) = flight {
                    return Ok(session);
                }
                continue;
            }
            if Instant::now() >= patience {
                let reason = "another servant signs on and does not come to an end".to_owned();
                return Err(CredentialsError::Unavailable { reason, retry_at: None });
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Renews the claim for as long as this is polled. A claim that was lost is not taken back: who took it is told apart
    /// from us by whatever is written afterwards.
    async fn stay_alive(&self, claim: SigningOn) -> Infallible {
        loop {
            sleep(RENEW_EVERY).await;
            let until = self.store.now() + TimeDelta::seconds(CLAIM_SECS);
            if let Err(error) = self.store.renew_sign_on(claim, until).await {
                let words = domain::chain(&error);
                tracing::warn!(ConnectionId = claim.connection.0, error = words, "a sign-on's claim is not renewed");
            }
        }
    }

    async fn sign_on<F, A>(&self, claim: SigningOn, row: &SecretsRow, ask: &F) -> Result<Flight, CredentialsError>
    where
        F: Fn(Option<SecretString>) -> A,
        A: Future<Output = Result<Granted, Answer>>,
    {
        let opened = match &row.credential {
            Some(sealed) => match self.vault.open(&row.key, &credential_place(claim.connection), sealed).await {
                Ok(credential) => Some(credential),
                Err(error) => {
                    self.give_up(claim, &error.to_string(), None).await?;
                    return Err(error.into());
                }
            },
            None => None,
        };
        let asked = timeout(Duration::from_secs(ASK_SECS_MAX), ask(opened.clone())).await;
        let answer = asked.unwrap_or_else(|_| Err(Answer::unavailable(format!("no answer for {ASK_SECS_MAX} s"))));
        match answer {
            Ok(granted) => self.keep(claim, row.key.account, granted, opened).await,
            Err(Answer::Refused(reason)) => {
                if self.store.refuse_sign_on(claim, &reason).await? {
                    tracing::warn!(
                        ConnectionId = claim.connection.0,
                        reason,
                        "the connection must be authorised again"
                    );
                    return Err(CredentialsError::Refused { reason });
                }
                Ok(Flight::Overtaken)
            }
            Err(Answer::Unavailable { reason, retry_secs }) => {
                let retry_at = self.give_up(claim, &reason, retry_secs).await?;
                Err(CredentialsError::Unavailable { reason, retry_at: Some(retry_at) })
            }
        }
    }

    async fn give_up(
        &self,
        claim: SigningOn,
        reason: &str,
        retry_secs: Option<u64>,
    ) -> Result<DateTime<Utc>, CredentialsError> {
        let retry_at = self.retry_at(retry_secs);
        self.store.fail_sign_on(claim, reason, retry_at).await?;
        Ok(retry_at)
    }

    fn retry_at(&self, retry_secs: Option<u64>) -> DateTime<Utc> {
        let secs = retry_secs.and_then(|secs| i64::try_from(secs).ok()).unwrap_or(RETRY_SECS).clamp(1, RETRY_SECS_MAX);
        self.store.now() + TimeDelta::seconds(secs)
    }

    /// Keeps what the vendor gave. It may be the only thing that is good any more, so this tries for minutes.
    async fn keep(
        &self,
        claim: SigningOn,
        account: AccountId,
        granted: Granted,
        opened: Option<SecretString>,
    ) -> Result<Flight, CredentialsError> {
        let credential = granted.credential.or(opened);
        let patience = Instant::now() + Duration::from_secs(KEEP_SECS_MAX);
        let mut pause = PAUSE_FIRST;
        loop {
            let error = match self.try_to_keep(claim, account, &granted.session, credential.as_ref()).await {
                Ok(true) => return Self::landed(claim, granted.session),
                Ok(false) => return Ok(Flight::Overtaken),
                Err(error) => error,
            };
            // Refused: the key that sealed it was taken away meanwhile, and the next try takes the newest.
            let may_pass = error.is_transient() || matches!(error, CredentialsError::Store(StoreError::Rejected(_)));
            if !may_pass || Instant::now() >= patience {
                return Err(error);
            }
            let words = domain::chain(&error);
            tracing::warn!(ConnectionId = claim.connection.0, error = words, "a session is not kept yet; trying again");
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn landed(claim: SigningOn, session: Result<SecretString, Answer>) -> Result<Flight, CredentialsError> {
        let generation = claim.generation + 1;
        match session {
            Ok(text) => {
                tracing::debug!(ConnectionId = claim.connection.0, generation, "a new session is kept");
                Ok(Flight::Landed(Session { generation, text }))
            }
            Err(Answer::Refused(reason) | Answer::Unavailable { reason, .. }) => {
                Err(CredentialsError::Unavailable { reason, retry_at: None })
            }
        }
    }

    /// Both under the newest key, whichever sealed them before: so keys are renewed along with sessions.
    async fn try_to_keep(
        &self,
        claim: SigningOn,
        account: AccountId,
        session: &Result<SecretString, Answer>,
        credential: Option<&SecretString>,
    ) -> Result<bool, CredentialsError> {
        let key = self.store.newest_key(account).await?.ok_or_else(no_key)?;
        let sealed = SealedSecrets {
            key_version: key.version,
            credential: match credential {
                Some(text) => Some(self.vault.seal(&key, &credential_place(claim.connection), text).await?),
                None => None,
            },
            session: match session {
                Ok(text) => Some(self.vault.seal(&key, &session_place(claim.connection), text).await?),
                Err(_) => None,
            },
        };
        let failure = match session {
            Ok(_) => None,
            Err(Answer::Refused(reason)) => Some((reason.as_str(), self.retry_at(None))),
            Err(Answer::Unavailable { reason, retry_secs }) => Some((reason.as_str(), self.retry_at(*retry_secs))),
        };
        Ok(self.store.keep_session(claim, &sealed, failure).await?)
    }
}

fn no_key() -> VaultError {
    VaultError::Sealed { what: "an account whose keys were deleted" }
}
