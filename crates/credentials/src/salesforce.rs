//! Salesforce's part of signing on: its tokens as sessions and credentials, its refusals as answers.
//! Does not own its wire (the crate `salesforce`) nor who may ask (`sign_on`).

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use domain::{Clock, ConnectionId};
use salesforce::{ConnectedApp, GiveSession, Grant, JwtUser, OAuth, Options, SalesforceError, SessionSource};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Answer, CredentialsError, Granted, SignOn};

/// How long nobody asks when Salesforce takes offence at the request itself, in seconds: it will again.
const REJECTED_RETRY_SECS: u64 = 300;

/// With what a connection signs on to Salesforce.
#[derive(Debug, Clone)]
pub struct SalesforceGrant {
    /// The application that the customer connected.
    pub app: ConnectedApp,
    /// In whose name, by the application's key; none: by the refresh token that is kept.
    pub user: Option<JwtUser>,
}

/// A session as it is sealed.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    #[serde(borrow)]
    access_token: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    instance_url: std::borrow::Cow<'a, str>,
}

impl SignOn {
    /// Sessions of one connection for a client of Salesforce: those that all servants share.
    ///
    /// # Errors
    /// [`SalesforceError::Rejected`] when the login url is not acceptable.
    pub fn salesforce(
        self: &Arc<Self>,
        connection: ConnectionId,
        grant: SalesforceGrant,
        options: &Options,
        clock: Clock,
    ) -> Result<SessionSource, SalesforceError> {
        let oauth = OAuth::new(grant.app, options)?;
        let (this, user) = (self.clone(), grant.user);
        // A client asks one question at a time, and only about the session that it was given last.
        let given = Arc::new(AtomicI64::new(0));
        Ok(SessionSource::Given(GiveSession::new(move |refused| {
            let (this, oauth, user, clock, given) =
                (this.clone(), oauth.clone(), user.clone(), clock.clone(), given.clone());
            async move {
                let after = if refused.is_some() { given.load(Ordering::Relaxed) } else { 0 };
                let ask = move |credential| ask(oauth.clone(), user.clone(), clock.clone(), credential);
                let session = this.session(connection, after, ask).await.map_err(as_salesforces)?;
                let read = unseal(&session.text)?;
                given.store(session.generation, Ordering::Relaxed);
                Ok(read)
            }
        })))
    }
}

/// The text of a session that was just granted, and the refresh token beside it.
///
/// # Errors
/// [`Answer`], when it is for a host that is not Salesforce's.
pub(crate) fn granted(grant: &Grant) -> Granted {
    let session = match grant.instance_url() {
        Ok(instance_url) => Ok(seal(&grant.access_token, &instance_url)),
        Err(error) => Err(Answer::Unavailable { reason: error.to_string(), retry_secs: Some(REJECTED_RETRY_SECS) }),
    };
    Granted { session, credential: grant.refresh_token.clone() }
}

async fn ask(
    oauth: OAuth,
    user: Option<JwtUser>,
    clock: Clock,
    credential: Option<SecretString>,
) -> Result<Granted, Answer> {
    let grant = match (user, credential) {
        (Some(user), _) => oauth.bearer(&user, clock.now()).await,
        (None, Some(refresh_token)) => oauth.refresh(&refresh_token).await,
        (None, None) => return Err(Answer::Refused("there is no refresh token".to_owned())),
    };
    grant.map(|grant| granted(&grant)).map_err(|error| match error {
        SalesforceError::AuthBroken { reason } => Answer::Refused(reason),
        SalesforceError::RateLimited { retry_after_secs } => {
            Answer::Unavailable { reason: error.to_string(), retry_secs: retry_after_secs }
        }
        SalesforceError::Rejected { .. } | SalesforceError::Forbidden { .. } => {
            Answer::Unavailable { reason: error.to_string(), retry_secs: Some(REJECTED_RETRY_SECS) }
        }
        _ => Answer::unavailable(domain::chain(&error)),
    })
}

fn seal(access_token: &SecretString, instance_url: &str) -> SecretString {
    let sealed = Sealed { access_token: access_token.expose_secret().into(), instance_url: instance_url.into() };
    // Two texts always have a form in JSON.
    let text = Zeroizing::new(serde_json::to_string(&sealed).unwrap_or_default());
    SecretString::from(text.as_str())
}

fn unseal(text: &SecretString) -> Result<salesforce::Session, SalesforceError> {
    let sealed: Sealed<'_> = serde_json::from_str(text.expose_secret()).map_err(|error| {
        // The parser's own words could repeat a part of it.
        let reason = format!("the session that is kept cannot be read (byte {})", error.column());
        SalesforceError::AuthBroken { reason }
    })?;
    Ok(salesforce::Session {
        access_token: SecretString::from(sealed.access_token.as_ref()),
        instance_url: sealed.instance_url.into_owned(),
    })
}

/// What each error means to whoever uses the client.
fn as_salesforces(error: CredentialsError) -> SalesforceError {
    match error {
        CredentialsError::Refused { reason } => SalesforceError::AuthBroken { reason },
        CredentialsError::None(_) => SalesforceError::AuthBroken { reason: error.to_string() },
        // Authorising again puts something that opens in the place of what does not.
        CredentialsError::Vault(vault::VaultError::Sealed { .. }) => {
            SalesforceError::AuthBroken { reason: domain::chain(&error) }
        }
        CredentialsError::Unavailable { ref reason, .. } => {
            SalesforceError::Unavailable { reason: reason.clone(), source: Some(error.into()) }
        }
        CredentialsError::Store(_) | CredentialsError::Vault(_) => {
            SalesforceError::Unavailable { reason: "no session can be had".to_owned(), source: Some(error.into()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_session_is_read_again_and_rubbish_shows_nothing() {
        let text = seal(&SecretString::from("00D!\"\\ü"), "https://acme.my.salesforce.com");
        let session = unseal(&text).unwrap();
        assert_eq!(session.access_token.expose_secret(), "00D!\"\\ü");
        assert_eq!(session.instance_url, "https://acme.my.salesforce.com");
        let error = unseal(&SecretString::from("{\"access_token\": hush")).unwrap_err();
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}
