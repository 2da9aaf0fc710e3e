//! Owns the 18-character record ids: their prefix, body and checksum. Does not own which record has which id.

use md5::{Digest, Md5};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";

/// The three characters with which the ids of an object begin.
fn prefix(object: &str) -> &'static str {
    match object {
        "Account" => "001",
        "Contact" => "003",
        "User" => "005",
        "Opportunity" => "006",
        "OpportunityHistory" => "008",
        "Lead" => "00Q",
        "Task" => "00T",
        "Event" => "00U",
        "Product2" => "01t",
        "Case" => "500",
        "Campaign" => "701",
        _ => "a00",
    }
}

/// An id of 18 characters, as a key that takes no memory of its own.
pub(super) type Key = [u8; 18];

/// The key of an id, which may be given by its first 15 characters.
#[must_use]
pub(super) fn key(id: &str) -> Option<Key> {
    match id.len() {
        18 => id.as_bytes().try_into().ok(),
        15 if id.is_ascii() => with_checksum(id).as_bytes().try_into().ok(),
        _ => None,
    }
}

/// The id of the record of `object` that `key` names: always the same for the same pair.
#[must_use]
pub fn id_for(object: &str, key: &str) -> String {
    let digest = Md5::digest(format!("{object}\0{key}"));
    let mut number = digest.iter().fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
    let mut id = String::with_capacity(18);
    id.push_str(prefix(object));
    for _ in 0..12 {
        id.push(char::from(BASE62[usize::try_from(number % 62).unwrap_or(0)]));
        number /= 62;
    }
    with_checksum(&id)
}

/// Adds the three characters that tell the case of the first fifteen: one bit for each upper-case letter, the lowest
/// bit first, five to a character.
#[must_use]
pub fn with_checksum(id15: &str) -> String {
    let mut id = id15.to_owned();
    for chunk in id15.as_bytes().chunks(5) {
        let bits = chunk.iter().rev().fold(0_usize, |bits, byte| (bits << 1) | usize::from(byte.is_ascii_uppercase()));
        id.push(char::from(BASE32[bits]));
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_the_published_one() {
        // Bits by hand: "001D0" has its upper case at place 3 = 8 -> I; "00000" -> A; "IRFma" -> places 0,1,2 = 7 -> H.
        assert_eq!(with_checksum("001D000000IRFma"), "001D000000IRFmaIAH");
    }

    #[test]
    fn ids_repeat_and_differ() {
        let id = id_for("Account", "Cancity");
        assert_eq!(id, id_for("Account", "Cancity"));
        assert_ne!(id, id_for("Account", "Condax"));
        assert_ne!(id[3..], id_for("Contact", "Cancity")[3..]);
        assert_eq!((id.len(), &id[..3]), (18, "001"));
        assert_eq!(with_checksum(&id[..15]), id);
        assert_eq!(key(&id[..15]), key(&id));
        assert_eq!((key(&id).map(|key| key.to_vec()), key("short")), (Some(id.into_bytes()), None));
    }
}
