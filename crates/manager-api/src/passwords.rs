//! One's own password, on the wire, and how a program acts as a person for that: only whoever is signed in changes theirs.

use crate::{ClientError, ErrorBody, ManagerClient};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// Another password for whoever asks. It is printed by nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The password until now.
    pub old_password: String,
    /// The password from now on: 12 to 256 characters.
    pub new_password: String,
}

impl fmt::Debug for ChangePassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChangePassword")
    }
}

/// The password is another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PasswordChanged {
    /// Other sessions of the person, which ended.
    pub sessions_ended: u64,
}

impl ManagerClient {
    /// Signs a person in by name and password, as a browser does, and answers with a client that acts as that person until
    /// [`ManagerClient::sign_out`].
    ///
    /// # Errors
    /// [`ClientError`]; `Refused` with status 401 when the two do not go together.
    pub async fn sign_in(&self, name: &str, password: &SecretString) -> Result<Self, ClientError> {
        let form = [("name", name), ("password", password.expose_secret()), ("to", "/")];
        let answer = self.submit("/login", &form).await?;
        let status = answer.status().as_u16();
        let mut cookies = answer.headers().get_all(reqwest::header::SET_COOKIE).iter();
        let session = cookies.find_map(|value| value.to_str().ok()?.split(';').next().map(str::to_owned));
        match session {
            Some(session) if answer.status().is_redirection() => Self::with_cookie(self.url(), &session.into()),
            _ if status == 401 => Err(ClientError::Refused {
                status,
                body: ErrorBody {
                    code: "wrong_password".to_owned(),
                    message: "that name and that password do not go together".to_owned(),
                    request_id: answer
                        .headers()
                        .get("x-request-id")
                        .and_then(|id| id.to_str().ok())
                        .unwrap_or_default()
                        .to_owned(),
                    hint: None,
                },
            }),
            _ => Err(self.refusal_of(answer).await),
        }
    }

    /// Ends the session that [`ManagerClient::sign_in`] began.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sign_out(&self) -> Result<(), ClientError> {
        let answer = self.submit("/logout", &[]).await?;
        if answer.status().is_redirection() { Ok(()) } else { Err(self.refusal_of(answer).await) }
    }

    /// Changes the password of whoever asks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_password(&self, change: &ChangePassword) -> Result<PasswordChanged, ClientError> {
        self.post("/api/v1/me/password", change).await
    }
}
