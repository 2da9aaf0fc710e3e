//! Who may ask, on the wire: people, programs' tokens, servants' credentials. A secret is in the answer that makes it, and
//! in no other.

use crate::{ClientError, ManagerClient};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::{IntoParams, ToSchema};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// user, token, servant or open.
    pub kind: String,
    /// Its id among those.
    pub id: String,
    /// What people read.
    pub name: String,
    /// viewer, support, operator or admin.
    pub role: String,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// The id.
    pub id: i64,
    /// What people read.
    pub name: String,
    /// Empty where nobody said.
    pub email: String,
    /// viewer, support, operator or admin.
    pub role: String,
    /// The provider that vouches; none: a password.
    pub issuer: Option<String>,
    /// Whether there is a password.
    pub has_password: bool,
    /// Who made the user.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// The last sign-in.
    pub signed_in_at: Option<DateTime<Utc>>,
    /// Since when the person is out.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Sessions that have not ended.
    pub sessions: i64,
}

/// People.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserPage {
    /// By id.
    pub users: Vec<User>,
    /// What to ask the next page with; none when this is the last.
    pub next_after: Option<i64>,
}

/// Which page of people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UserQuery {
    /// Behind this person, the last one of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// Rows, 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A person to be made, who signs in the first time with a one-time code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// What people read, and what the person signs in with.
    pub name: String,
    /// viewer, support, operator or admin.
    pub role: String,
    /// May be empty.
    #[serde(default)]
    pub email: String,
}

/// Another role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleRequest {
    /// viewer, support, operator or admin.
    pub role: String,
}

/// A one-time code.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OneTimeCode {
    /// Whose.
    pub user_id: i64,
    /// The path at this manager that takes it, code and all.
    pub path: String,
    /// Until when it is good.
    pub expires_at: DateTime<Utc>,
}

impl fmt::Debug for OneTimeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OneTimeCode {{ user_id: {} }}", self.user_id)
    }
}

/// A program's token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// The id.
    pub id: i64,
    /// What people read.
    pub name: String,
    /// viewer, support, operator or admin.
    pub role: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Until when it is good.
    pub expires_at: DateTime<Utc>,
    /// The last use, to the minute.
    pub used_at: Option<DateTime<Utc>>,
    /// Since when it is good no more.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenPage {
    /// The newest first.
    pub tokens: Vec<Token>,
    /// What to ask the next page with; none when this is the last.
    pub next_before: Option<i64>,
}

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What people read.
    pub name: String,
    /// viewer, support, operator or admin.
    pub role: String,
    /// How long it is good: 1 to 366 days.
    pub days: u32,
}

/// A servants' credential, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Credential {
    /// The id.
    pub id: i64,
    /// The one kind whose it is.
    pub kind: String,
    /// The one host; none: any.
    pub host: Option<String>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// The last use, to the minute.
    pub used_at: Option<DateTime<Utc>>,
    /// Since when it is good no more.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CredentialPage {
    /// The newest first.
    pub credentials: Vec<Credential>,
    /// What to ask the next page with; none when this is the last.
    pub next_before: Option<i64>,
}

/// A credential to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateCredential {
    /// For the servants of this kind.
    pub kind: String,
    /// On this host; none: on any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A new secret, shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewSecret {
    /// Of the token or credential.
    pub id: i64,
    /// What is shown as `Authorization: Bearer …`.
    pub secret: String,
}

impl fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewSecret {{ id: {} }}", self.id)
    }
}

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Changed {
    /// The id.
    pub id: i64,
}

/// What can be done with a person as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserAct {
    /// Out, at once.
    Disable,
    /// In again.
    Enable,
    /// Every session ended.
    SignOut,
}

impl UserAct {
    /// The last part of the address.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::SignOut => "sign-out",
        }
    }
}

/// Everything here ends in [`ClientError`] when it does not succeed.
impl ManagerClient {
    /// Who asks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn me(&self) -> Result<Me, ClientError> {
        self.get("/api/v1/me", &()).await
    }

    /// Lists people.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn users(&self, query: &UserQuery) -> Result<UserPage, ClientError> {
        self.get("/api/v1/users", query).await
    }

    /// Makes a person.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_user(&self, user: &CreateUser) -> Result<OneTimeCode, ClientError> {
        self.post("/api/v1/users", user).await
    }

    /// Gives a person another role.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_role(&self, id: i64, role: &RoleRequest) -> Result<User, ClientError> {
        self.put(&format!("/api/v1/users/{id}/role"), role).await
    }

    /// Disables or enables a person, or ends the sessions.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_user(&self, id: i64, act: UserAct) -> Result<User, ClientError> {
        self.post(&format!("/api/v1/users/{id}/{}", act.as_str()), &()).await
    }

    /// Makes a one-time code for a person.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_code(&self, id: i64) -> Result<OneTimeCode, ClientError> {
        self.post(&format!("/api/v1/users/{id}/code"), &()).await
    }

    /// Lists tokens.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tokens(&self, page: &crate::PageQuery) -> Result<TokenPage, ClientError> {
        self.get("/api/v1/tokens", page).await
    }

    /// Makes a token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_token(&self, token: &CreateToken) -> Result<NewSecret, ClientError> {
        self.post("/api/v1/tokens", token).await
    }

    /// Makes a token good no more.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke_token(&self, id: i64) -> Result<Changed, ClientError> {
        self.post(&format!("/api/v1/tokens/{id}/revoke"), &()).await
    }

    /// Lists servants' credentials.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn credentials(&self, page: &crate::PageQuery) -> Result<CredentialPage, ClientError> {
        self.get("/api/v1/credentials", page).await
    }

    /// Makes a credential for the servants of a kind.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_credential(&self, credential: &CreateCredential) -> Result<NewSecret, ClientError> {
        self.post("/api/v1/credentials", credential).await
    }

    /// Makes a credential good no more.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke_credential(&self, id: i64) -> Result<Changed, ClientError> {
        self.post(&format!("/api/v1/credentials/{id}/revoke"), &()).await
    }
}
