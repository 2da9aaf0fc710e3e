//! Owns the two forms of a record's id: 15 characters that differ by case, and 18 that do not need to.
//! Does not own where ids come from.

/// The 18-character form of an id: its last three characters tell, for each five before them, which are upper case
/// (Salesforce, "What are Salesforce Record IDs composed of?"). `None` for anything that is not an id of either length.
#[must_use]
pub fn id18(id: &str) -> Option<String> {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";
    if !matches!(id.len(), 15 | 18) || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    if id.len() == 18 {
        return Some(id.to_owned());
    }
    let mut whole = id.to_owned();
    for five in id.as_bytes().chunks(5) {
        let bits =
            five.iter().enumerate().fold(0, |bits, (at, byte)| bits | usize::from(byte.is_ascii_uppercase()) << at);
        whole.push(char::from(ALPHABET[bits]));
    }
    Some(whole)
}

/// Whether it is an id of 18 characters: what a record can be asked for by.
#[must_use]
pub fn is_id18(text: &str) -> bool {
    text.len() == 18 && id18(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifteen_become_eighteen() {
        assert_eq!(id18("001D000000IRFma").as_deref(), Some("001D000000IRFmaIAH"));
        assert_eq!(id18("001D000000IRFmaIAH").as_deref(), Some("001D000000IRFmaIAH"));
        assert!(is_id18("001D000000IRFmaIAH") && !is_id18("001D000000IRFma"));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for bad in
            ["", "001D000000IRFm", "001D000000IRFmaI", "001D000000IRF-a", "001D000000IRFmé", "001D000000IRFmaIAHX"]
        {
            assert_eq!(id18(bad), None, "{bad}");
            assert!(!is_id18(bad), "{bad}");
        }
    }
}
