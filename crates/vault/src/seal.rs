//! Owns the ciphers: AES-256-GCM under a data key for values, under a master key for data keys, and what each sealed
//! text is bound to. Does not own where keys come from.
//!
//! A sealed value is `1 | key version (4 bytes) | nonce (12) | ciphertext | tag (16)`, numbers big-endian. Nonces are
//! random: a data key seals a few thousand values in its life, far below the 2^32 at which random nonces may repeat.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    constant_time, digest, rand,
};
use domain::{AccountId, SecretPlace};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::VaultError;

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes of AES-GCM's tag.
const TAG_BYTES: usize = 16;
/// The one layout so far.
const LAYOUT: u8 = 1;
/// The layout and the key's version.
const HEAD_BYTES: usize = 5;

/// The bytes of a key, wiped when dropped.
pub(crate) type KeyBytes = Zeroizing<[u8; KEY_BYTES]>;

/// A key, ready to use; the library wipes its copy when it is dropped.
pub(crate) struct Key(RandomizedNonceKey);

impl Key {
    pub(crate) fn new(bytes: &KeyBytes) -> Result<Self, VaultError> {
        RandomizedNonceKey::new(&AES_256_GCM, bytes.as_slice()).map(Self).map_err(|_| VaultError::sealed("a key"))
    }

    /// `nonce | ciphertext | tag`.
    pub(crate) fn encrypt(&self, binding: &[u8], text: &[u8]) -> Result<Vec<u8>, VaultError> {
        // Room for the tag from the start: growing would leave the plain text behind in memory.
        let mut body = Vec::with_capacity(text.len() + TAG_BYTES);
        body.extend_from_slice(text);
        let sealed = self.0.seal_in_place_append_tag(Aad::from(binding), &mut body);
        let nonce = sealed.map_err(|_| VaultError::sealed("a value to be sealed"))?;
        let mut out = nonce.as_ref().to_vec();
        out.append(&mut body);
        Ok(out)
    }

    pub(crate) fn decrypt(
        &self,
        binding: &[u8],
        sealed: &[u8],
        what: &'static str,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let refused = || VaultError::sealed(what);
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or_else(refused)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| refused())?;
        let mut text = Zeroizing::new(body.to_vec());
        let length = self.0.open_in_place(nonce, Aad::from(binding), &mut text).map_err(|_| refused())?.len();
        text.truncate(length);
        Ok(text)
    }
}

/// A fresh key.
pub(crate) fn random_key() -> Result<KeyBytes, VaultError> {
    let mut bytes = KeyBytes::default();
    rand::fill(bytes.as_mut_slice()).map_err(|_| VaultError::sealed("a key to be made"))?;
    Ok(bytes)
}

/// What a value is bound to. Texts carry their lengths, so that no two places read the same.
fn binding_of_value(place: &SecretPlace, account: AccountId, version: i32) -> Vec<u8> {
    let mut binding = b"servant.secret.v1".to_vec();
    for text in [place.table, place.field] {
        binding.extend_from_slice(&(text.len() as u64).to_be_bytes());
        binding.extend_from_slice(text.as_bytes());
    }
    binding.extend_from_slice(&place.row.to_be_bytes());
    binding.extend_from_slice(&account.0.to_be_bytes());
    binding.extend_from_slice(&version.to_be_bytes());
    binding
}

/// What a wrapped data key is bound to.
pub(crate) fn binding_of_key(account: AccountId, version: i32, master: &str) -> Vec<u8> {
    let mut binding = b"servant.data-key.v1".to_vec();
    binding.extend_from_slice(&account.0.to_be_bytes());
    binding.extend_from_slice(&version.to_be_bytes());
    binding.extend_from_slice(master.as_bytes());
    binding
}

/// Seals a value under version `version` of the account's keys.
pub(crate) fn seal(
    key: &Key,
    place: &SecretPlace,
    account: AccountId,
    version: i32,
    value: &SecretString,
) -> Result<Vec<u8>, VaultError> {
    let body = key.encrypt(&binding_of_value(place, account, version), value.expose_secret().as_bytes())?;
    let mut sealed = vec![LAYOUT];
    sealed.extend_from_slice(&version.to_be_bytes());
    sealed.extend_from_slice(&body);
    Ok(sealed)
}

/// Opens a value that this key sealed for this place.
pub(crate) fn open(
    key: &Key,
    place: &SecretPlace,
    account: AccountId,
    version: i32,
    sealed: &[u8],
) -> Result<SecretString, VaultError> {
    const WHAT: &str = "a sealed secret";
    if key_version(sealed)? != version {
        return Err(VaultError::sealed(WHAT));
    }
    let body = sealed.get(HEAD_BYTES..).unwrap_or_default();
    let text = key.decrypt(&binding_of_value(place, account, version), body, WHAT)?;
    let text = std::str::from_utf8(&text).map_err(|_| VaultError::sealed(WHAT))?;
    Ok(SecretString::from(text.to_owned()))
}

/// Which version of its account's keys a value was sealed by.
///
/// # Errors
/// [`VaultError::Sealed`] when that is no sealed value.
pub fn key_version(sealed: &[u8]) -> Result<i32, VaultError> {
    match sealed {
        [LAYOUT, a, b, c, d, ..] => Ok(i32::from_be_bytes([*a, *b, *c, *d])),
        _ => Err(VaultError::sealed("a sealed secret")),
    }
}

/// SHA-256 of a random text: what may be stored where the text itself may not.
#[must_use]
pub fn digest(text: &SecretString) -> Vec<u8> {
    digest::digest(&digest::SHA256, text.expose_secret().as_bytes()).as_ref().to_vec()
}

/// Whether a text has that digest, in a time that does not tell how far they agree.
#[must_use]
pub fn is_digest_of(kept: &[u8], text: &SecretString) -> bool {
    constant_time::verify_slices_are_equal(kept, &digest(text)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLACE: SecretPlace = SecretPlace { table: "grants", row: 7, field: "credential" };

    fn sealed(key: &Key, text: &str) -> Vec<u8> {
        seal(key, &PLACE, AccountId(3), 2, &SecretString::from(text)).unwrap()
    }

    #[test]
    fn a_value_opens_only_where_it_belongs() {
        let key = Key::new(&random_key().unwrap()).unwrap();
        let value = sealed(&key, "hush");
        assert_eq!(key_version(&value).unwrap(), 2);
        let opens = |key: &Key, place: SecretPlace, account, version| {
            open(key, &place, AccountId(account), version, &value).map(|text| text.expose_secret().to_owned()).ok()
        };
        assert_eq!(opens(&key, PLACE, 3, 2).as_deref(), Some("hush"));
        assert_eq!(opens(&key, SecretPlace { table: "grant", ..PLACE }, 3, 2), None);
        assert_eq!(opens(&key, SecretPlace { row: 8, ..PLACE }, 3, 2), None);
        assert_eq!(opens(&key, SecretPlace { field: "session", ..PLACE }, 3, 2), None);
        // The same letters, cut elsewhere.
        assert_eq!(opens(&key, SecretPlace { table: "grantsc", field: "redential", ..PLACE }, 3, 2), None);
        assert_eq!(opens(&key, PLACE, 4, 2), None);
        assert_eq!(opens(&key, PLACE, 3, 1), None);
        assert_eq!(opens(&Key::new(&random_key().unwrap()).unwrap(), PLACE, 3, 2), None);
        assert_ne!(value, sealed(&key, "hush"), "nonces are fresh");
        assert!(!value.windows(4).any(|bytes| bytes == b"hush"));
    }

    #[test]
    fn a_digest_is_of_its_text() {
        let kept = digest(&SecretString::from("abc"));
        assert_eq!(kept[..4], [0xba, 0x78, 0x16, 0xbf], "FIPS 180-4's example");
        assert!(is_digest_of(&kept, &SecretString::from("abc")));
        assert!(!is_digest_of(&kept, &SecretString::from("abd")) && !is_digest_of(&[], &SecretString::from("abc")));
    }

    proptest! {
        #[test]
        fn whatever_was_altered_does_not_open(text in "\\PC{0,80}", at in any::<prop::sample::Index>(), flip in 1_u8..) {
            let key = Key::new(&random_key().unwrap()).unwrap();
            let mut value = sealed(&key, &text);
            let opened = open(&key, &PLACE, AccountId(3), 2, &value).unwrap();
            prop_assert_eq!(opened.expose_secret(), text.as_str());
            let at = at.index(value.len());
            prop_assert!(open(&key, &PLACE, AccountId(3), 2, &value[..at]).is_err());
            value[at] ^= flip;
            prop_assert!(open(&key, &PLACE, AccountId(3), 2, &value).is_err());
        }

        #[test]
        fn rubbish_does_not_open(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let key = Key::new(&random_key().unwrap()).unwrap();
            prop_assert!(open(&key, &PLACE, AccountId(3), 2, &bytes).is_err());
        }
    }
}
