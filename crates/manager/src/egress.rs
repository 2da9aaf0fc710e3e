//! The right to call somebody outside: Salesforce, a key service. Whatever calls takes it as an argument, so that a
//! request that may not cannot even be written down.

use crate::error::ApiError;
use axum::http::StatusCode;
use domain::Principal;

/// The right to call outside. Only [`Egress::of`] makes one.
#[derive(Debug)]
pub(crate) struct Egress(());

impl Egress {
    /// Nobody who looks at an account as its customer does has it.
    pub(crate) fn of(principal: &Principal) -> Result<Self, ApiError> {
        if principal.assumed().is_none() {
            return Ok(Self(()));
        }
        Err(ApiError::new(StatusCode::FORBIDDEN, "read_only", "while an account is looked at, nobody is called")
            .hint("end the look first"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::AccountId;

    #[test]
    fn who_looks_as_a_customer_calls_nobody() {
        let ada = Principal::open("ada");
        assert!(Egress::of(&ada).is_ok());
        assert_eq!(Egress::of(&ada.assuming(AccountId(7))).unwrap_err().status, StatusCode::FORBIDDEN);
    }
}
