//! Passwords: what becomes of one (argon2id), and whether another is the same. Takes some 20 ms of a processor and 19 MiB
//! each time, by design: call it off the runtime's threads, a few at a time. Does not own whose password it is.

use crate::VaultError;
use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use secrecy::{ExposeSecret as _, SecretString};
use std::sync::LazyLock;

/// Characters of a password at the least.
pub const PASSWORD_CHARS_MIN: usize = 12;
/// Characters of a password at the most: nobody has us hash a book.
pub const PASSWORD_CHARS_MAX: usize = 256;

/// What a password is held against where there is no user: costs what the others cost.
static NOBODYS: LazyLock<Option<String>> =
    LazyLock::new(|| hash_password(&crate::new_token(crate::TokenFor::Code)).ok());

/// Refuses passwords that are too short or too long. Nothing else is asked of them: long ones are good ones.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn check_password(password: &SecretString) -> Result<(), String> {
    match password.expose_secret().chars().count() {
        PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX => Ok(()),
        0..PASSWORD_CHARS_MIN => Err(format!("a password has {PASSWORD_CHARS_MIN} characters at the least")),
        _ => Err(format!("a password has {PASSWORD_CHARS_MAX} characters at the most")),
    }
}

/// What is kept of a password, in PHC form with its own salt and parameters.
///
/// # Errors
/// The system has no randomness or memory to give.
pub fn hash_password(password: &SecretString) -> Result<String, VaultError> {
    let hash = Argon2::default().hash_password(password.expose_secret().as_bytes());
    let hash = hash.map_err(|error| VaultError::Password { problem: error.to_string() })?;
    Ok(hash.to_string())
}

/// Whether it is the password of which `kept` was kept. With nothing kept it is not, after the same time.
#[must_use]
pub fn verify_password(kept: Option<&str>, password: &SecretString) -> bool {
    let Some(text) = kept.or(NOBODYS.as_deref()) else { return false };
    let is_same = PasswordHash::new(text)
        .is_ok_and(|hash| Argon2::default().verify_password(password.expose_secret().as_bytes(), &hash).is_ok());
    is_same && kept.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_and_another_is_not() {
        let password = SecretString::from("correct horse battery");
        let kept = hash_password(&password).unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert_ne!(kept, hash_password(&password).unwrap(), "each has its own salt");
        assert!(verify_password(Some(&kept), &password));
        assert!(!verify_password(Some(&kept), &SecretString::from("correct horse batterY")));
        assert!(!verify_password(Some("nonsense"), &password));
        assert!(!verify_password(None, &password), "nobody's password is nobody's");
    }

    #[test]
    fn short_and_endless_passwords_are_refused() {
        for (length, is_good) in [(0, false), (11, false), (12, true), (256, true), (257, false)] {
            assert_eq!(check_password(&SecretString::from("ü".repeat(length))).is_ok(), is_good, "{length}");
        }
    }
}
