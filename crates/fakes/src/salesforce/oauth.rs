//! Owns who may come in: grants with their refresh tokens, authorisation codes, sessions, and the token requests that
//! make them. Does not own the pages a person sees, nor HTTP.

use std::{
    collections::{HashMap, VecDeque},
    sync::{MutexGuard, PoisonError},
};

use aws_lc_rs::{digest, hmac};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use chrono::{DateTime, Duration, Utc};
use serde_json::{Value as Json, json};

use super::{Options, fault::Fault, ids::id_for, jwt, reply::Refusal, service::Service};

/// A token request refused: the code and the description.
pub(super) type TokenRefusal = (&'static str, &'static str);

pub(super) const ORGANISATION_ID: &str = "00DFAKE00000001EAA";
/// The user of the grant that is there at the start.
pub(super) const DEFAULT_USER: &str = "admin@fake.example";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Grants of one user for one application; one more ends the oldest, and says nothing.
const GRANTS_MAX: usize = 5;
const CODE_SECS: i64 = 900;
/// Used refresh tokens of a grant that are known again.
const SPENT_MAX: usize = 100;
const EXPIRED: TokenRefusal = ("invalid_grant", "expired access/refresh token");

struct Grant {
    number: u64,
    user: String,
    scope: String,
    refresh_token: String,
    /// Refresh tokens that were good before.
    spent: VecDeque<String>,
}

struct Session {
    until: DateTime<Utc>,
    grant: Option<u64>,
    user: String,
}

/// What a person agreed to, until the application takes it up.
pub(super) struct Consent {
    pub(super) user: String,
    pub(super) scope: String,
    pub(super) redirect_uri: String,
    /// The SHA-256 of the verifier, as PKCE has it.
    pub(super) challenge: Option<String>,
}

/// All grants, codes and sessions.
pub(super) struct Grants {
    /// Tells the tokens of one run from those of another.
    run: String,
    /// Oldest first.
    grants: VecDeque<Grant>,
    codes: HashMap<String, (Consent, DateTime<Utc>)>,
    sessions: HashMap<String, Session>,
    numbers: u64,
    sessions_issued: u64,
}

impl Grants {
    /// With the grant that `options` names.
    pub(super) fn new(options: &Options) -> Self {
        let mut grants = Self {
            run: uuid::Uuid::new_v4().simple().to_string(),
            grants: VecDeque::new(),
            codes: HashMap::new(),
            sessions: HashMap::new(),
            numbers: 0,
            sessions_issued: 0,
        };
        let number = grants.grant(DEFAULT_USER, "refresh_token api");
        if let Some(grant) = grants.find(number) {
            grant.refresh_token.clone_from(&options.refresh_token);
        }
        grants
    }

    fn secret(&mut self, prefix: &str) -> String {
        self.numbers += 1;
        format!("{prefix}{}.{}.{}", self.run, self.numbers, uuid::Uuid::new_v4().simple())
    }

    fn find(&mut self, number: u64) -> Option<&mut Grant> {
        self.grants.iter_mut().find(|grant| grant.number == number)
    }

    fn grant(&mut self, user: &str, scope: &str) -> u64 {
        let refresh_token = self.secret("5Aep861");
        let number = self.numbers;
        let (user, scope) = (user.to_owned(), scope.to_owned());
        self.grants.push_back(Grant { number, user: user.clone(), scope, refresh_token, spent: VecDeque::new() });
        let of_user: Vec<u64> =
            self.grants.iter().filter(|grant| grant.user == user).map(|grant| grant.number).collect();
        if of_user.len() > GRANTS_MAX {
            self.end(of_user[0]);
        }
        number
    }

    fn end(&mut self, number: u64) {
        self.grants.retain(|grant| grant.number != number);
        self.sessions.retain(|_, session| session.grant != Some(number));
    }

    fn session(&mut self, user: &str, grant: Option<u64>, options: &Options, now: DateTime<Utc>) -> String {
        self.sessions_issued += 1;
        let token = self.secret("00DFAKE00000001!");
        let life = Duration::seconds(i64::try_from(options.token_secs).unwrap_or(i32::MAX.into()));
        self.sessions.retain(|_, session| session.until > now);
        self.sessions.insert(token.clone(), Session { until: now + life, grant, user: user.to_owned() });
        token
    }

    /// The grant with that refresh token. One that was used before may be stolen: its grant ends.
    fn by_refresh_token(&mut self, token: &str) -> Result<u64, TokenRefusal> {
        if let Some(grant) = self.grants.iter().find(|grant| grant.refresh_token == token) {
            return Ok(grant.number);
        }
        let reused = self.grants.iter().find(|grant| grant.spent.iter().any(|spent| spent == token));
        if let Some(number) = reused.map(|grant| grant.number) {
            self.end(number);
        }
        Err(EXPIRED)
    }

    fn rotate(&mut self, number: u64) -> Option<String> {
        let fresh = self.secret("5Aep861");
        let grant = self.find(number)?;
        let spent = std::mem::replace(&mut grant.refresh_token, fresh.clone());
        grant.spent.push_back(spent);
        if grant.spent.len() > SPENT_MAX {
            grant.spent.pop_front();
        }
        Some(fresh)
    }

    /// A code for what a person agreed to.
    pub(super) fn code(&mut self, consent: Consent, now: DateTime<Utc>) -> String {
        let code = self.secret("aPrx");
        self.codes.retain(|_, (_, until)| *until > now - Duration::seconds(CODE_SECS));
        self.codes.insert(code.clone(), (consent, now + Duration::seconds(CODE_SECS)));
        code
    }

    /// Access tokens issued so far.
    pub(super) fn sessions_issued(&self) -> u64 {
        self.sessions_issued
    }

    /// Ends the grant or session that `token` belongs to; false if there is none.
    pub(super) fn revoke(&mut self, token: &str) -> bool {
        if let Some(number) = self.grants.iter().find(|grant| grant.refresh_token == token).map(|grant| grant.number) {
            self.end(number);
            return true;
        }
        match self.sessions.remove(token) {
            Some(Session { grant, .. }) => {
                if let Some(number) = grant {
                    self.end(number);
                }
                true
            }
            None => false,
        }
    }
}

/// A token reply in the making.
struct Issued {
    user: String,
    scope: String,
    grant: Option<u64>,
    refresh_token: Option<String>,
}

type Form = HashMap<String, String>;

fn field<'a>(form: &'a Form, name: &str) -> &'a str {
    form.get(name).map_or("", String::as_str)
}

/// The id of a user.
pub(super) fn user_id(user: &str) -> String {
    if user == DEFAULT_USER { "005000000000001AAA".to_owned() } else { id_for("User", user) }
}

impl Service {
    pub(super) fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_client(&self, form: &Form) -> Result<(), TokenRefusal> {
        if field(form, "client_id") != self.options.client_id {
            return Err(("invalid_client_id", "client identifier invalid"));
        }
        if field(form, "client_secret") != self.options.client_secret {
            return Err(("invalid_client", "invalid client credentials"));
        }
        Ok(())
    }

    /// Does what an ordered failure does before the token request is looked at.
    pub(super) fn spoil_token(&self, fault: Fault, form: &Form, now: DateTime<Utc>) -> Result<(), TokenRefusal> {
        let mut grants = self.grants();
        let number = grants.by_refresh_token(field(form, "refresh_token")).ok();
        let user = number.and_then(|number| grants.find(number)).map(|grant| grant.user.clone());
        match (fault, number) {
            (Fault::InvalidGrant, _) => return Err(EXPIRED),
            (Fault::GrantRevoked, Some(number)) => grants.end(number),
            (Fault::RotationRace, Some(number)) => {
                grants.session(user.as_deref().unwrap_or(DEFAULT_USER), Some(number), &self.options, now);
                if self.options.rotate_refresh_tokens {
                    grants.rotate(number);
                }
            }
            (Fault::SixthLogin, _) => {
                for _ in 0..GRANTS_MAX {
                    grants.grant(user.as_deref().unwrap_or(DEFAULT_USER), "refresh_token api");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Issues an access token.
    pub(super) fn token(&self, form: &Form, now: DateTime<Utc>) -> Result<Json, TokenRefusal> {
        let issued = match field(form, "grant_type") {
            "refresh_token" => {
                self.check_client(form)?;
                self.refresh(field(form, "refresh_token"))?
            }
            "authorization_code" => {
                self.check_client(form)?;
                self.take_up(form, now)?
            }
            JWT_BEARER => self.signed(field(form, "assertion"), now)?,
            _ => return Err(("unsupported_grant_type", "grant type not supported")),
        };
        let token = self.grants().session(&issued.user, issued.grant, &self.options, now);
        let id = format!("{}/id/{ORGANISATION_ID}/{}", self.url, user_id(&issued.user));
        let issued_at = now.timestamp_millis().to_string();
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.options.client_secret.as_bytes());
        let signature = STANDARD.encode(hmac::sign(&key, format!("{id}{issued_at}").as_bytes()));
        let mut reply = json!({
            "access_token": token, "instance_url": self.url, "id": id, "token_type": "Bearer",
            "issued_at": issued_at, "signature": signature, "scope": issued.scope,
        });
        if let Some(refresh_token) = issued.refresh_token {
            reply["refresh_token"] = json!(refresh_token);
        }
        Ok(reply)
    }

    fn refresh(&self, refresh_token: &str) -> Result<Issued, TokenRefusal> {
        let mut grants = self.grants();
        let number = grants.by_refresh_token(refresh_token)?;
        let rotated = if self.options.rotate_refresh_tokens { grants.rotate(number) } else { None };
        let grant = grants.find(number).ok_or(EXPIRED)?;
        Ok(Issued { user: grant.user.clone(), scope: grant.scope.clone(), grant: Some(number), refresh_token: rotated })
    }

    fn take_up(&self, form: &Form, now: DateTime<Utc>) -> Result<Issued, TokenRefusal> {
        let mut grants = self.grants();
        // Gone with the first try, right or wrong.
        let taken = grants.codes.remove(field(form, "code"));
        let (consent, until) = taken.ok_or(("invalid_grant", "invalid authorization code"))?;
        if until <= now {
            return Err(("invalid_grant", "expired authorization code"));
        }
        if consent.redirect_uri != field(form, "redirect_uri") {
            return Err(("redirect_uri_mismatch", "redirect_uri must match configuration"));
        }
        let verifier = field(form, "code_verifier");
        let verified = match &consent.challenge {
            Some(challenge) => {
                let hash = digest::digest(&digest::SHA256, verifier.as_bytes());
                (43..=128).contains(&verifier.len()) && *challenge == URL_SAFE_NO_PAD.encode(hash)
            }
            None => verifier.is_empty(),
        };
        if !verified {
            return Err(("invalid_grant", "invalid code verifier"));
        }
        let has_refresh = consent.scope.split(' ').any(|scope| matches!(scope, "refresh_token" | "offline_access"));
        let grant = has_refresh.then(|| grants.grant(&consent.user, &consent.scope));
        let refresh_token = grant.and_then(|number| grants.find(number)).map(|grant| grant.refresh_token.clone());
        Ok(Issued { user: consent.user, scope: consent.scope, grant, refresh_token })
    }

    fn signed(&self, assertion: &str, now: DateTime<Utc>) -> Result<Issued, TokenRefusal> {
        let key = self.signing_key.as_ref();
        let user = jwt::check(assertion, key, &self.options.client_id, &self.url, now)?;
        if !self.options.jwt_users.contains(&user) {
            return Err(("invalid_grant", "user hasn't approved this consumer"));
        }
        Ok(Issued { user, scope: "api".to_owned(), grant: None, refresh_token: None })
    }

    /// The user whose session an `Authorization` header names.
    pub(super) fn session_user(&self, authorization: &str, now: DateTime<Utc>) -> Result<String, Refusal> {
        let token =
            authorization.strip_prefix("Bearer ").or_else(|| authorization.strip_prefix("OAuth ")).unwrap_or_default();
        let grants = self.grants();
        let session = grants.sessions.get(token).filter(|session| session.until > now);
        session.map(|session| session.user.clone()).ok_or_else(Refusal::session)
    }

    /// Ends every session.
    pub(super) fn end_sessions(&self) {
        self.grants().sessions.clear();
    }

    /// Ends every grant: no refresh token is good any more.
    pub(super) fn revoke_grants(&self) {
        let mut grants = self.grants();
        grants.grants.clear();
        grants.sessions.clear();
    }
}
