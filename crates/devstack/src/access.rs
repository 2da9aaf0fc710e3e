//! Owns who may ask the manager of a run: a first admin who signs in by a one-time code, an admin's token in a file, and a
//! credential for each kind's servants. Each run's own; what the runs before made is good no more.

use crate::home::Home;
use anyhow::Context;
use chrono::TimeDelta;
use domain::{Kind, Principal, Role, authorize};
use std::path::PathBuf;
use store::{NewApiToken, NewCode, NewUser, Store};
use vault::{ExposeSecret as _, SecretString, TokenFor, digest, new_token};

/// The first admin's name.
const ADMIN: &str = "developer";
/// By whom everything here is made.
pub(crate) const MAKER: &str = "cargo up";
/// The file of the token; `servantctl` looks for it there.
const TOKEN_FILE: &str = "admin.token";
/// How long the one-time code is good.
const CODE_MINUTES: i64 = 60;
/// How long the token is good: as long as anybody lets this run.
const TOKEN_DAYS: i64 = 30;

/// What was made.
pub(crate) struct Access {
    token: SecretString,
    /// Where the token is.
    pub(crate) token_file: PathBuf,
    code: SecretString,
}

impl Access {
    /// Makes the admin, the code and the token.
    pub(crate) async fn make(store: &Store, home: &Home) -> anyhow::Result<Self> {
        let by = authorize(&Principal::system(MAKER), "")?;
        let user = match store.find_local_user(ADMIN).await? {
            Some(user) => user.id,
            None => {
                let new = NewUser { name: ADMIN, email: "", role: Role::Admin };
                store.create_user(new, &by).await?.context("the first admin was not made")?
            }
        };
        let code = new_token(TokenFor::Code);
        let expires_at = store.now() + TimeDelta::minutes(CODE_MINUTES);
        let digest_of_code = digest(&code);
        let new =
            NewCode { digest: &digest_of_code, user: Some(user), role: Role::Admin, sets_password: false, expires_at };
        store.create_code(new, &by).await?;

        for before in store.list_tokens(None, store::PAGE_ROWS_MAX).await? {
            if before.created_by == MAKER && before.revoked_at.is_none() {
                store.revoke_token(before.id, &by).await?;
            }
        }
        let token = new_token(TokenFor::Api);
        let expires_at = store.now() + TimeDelta::days(TOKEN_DAYS);
        let new = NewApiToken { digest: &digest(&token), name: MAKER, role: Role::Admin, expires_at };
        store.create_token(new, &by).await?;
        home.write_secret(TOKEN_FILE, &format!("{}\n", token.expose_secret()))?;
        Ok(Self { token, token_file: home.state().join(TOKEN_FILE), code })
    }

    /// The token itself.
    pub(crate) fn token(&self) -> &SecretString {
        &self.token
    }

    /// The address that signs a browser in, once.
    pub(crate) fn sign_in_url(&self, manager: &str) -> String {
        format!("{manager}/login/code?code={}", self.code.expose_secret())
    }
}

/// Makes a credential for each kind's servants.
pub(crate) async fn credentials(store: &Store, kinds: &[String]) -> anyhow::Result<Vec<(String, SecretString)>> {
    let by = authorize(&Principal::system(MAKER), "")?;
    for before in store.list_servant_credentials(None, store::PAGE_ROWS_MAX).await? {
        if before.created_by == MAKER && before.revoked_at.is_none() {
            store.revoke_servant_credential(before.id, &by).await?;
        }
    }
    let mut made = Vec::new();
    for kind in kinds {
        let secret = new_token(TokenFor::Servant);
        store.create_servant_credential(&digest(&secret), &Kind::new(kind)?, None, &by).await?;
        made.push((kind.clone(), secret));
    }
    Ok(made)
}
