//! Tests of the vault with master keys in a file.

use super::*;
use domain::ManualClock;
use secrecy::ExposeSecret as _;

const PLACE: SecretPlace = SecretPlace { table: "grants", row: 7, field: "credential" };

fn vault(directory: &std::path::Path, clock: Clock) -> Vault {
    let config = Config { keys_file: directory.join("master.keys"), kms_key: String::new() };
    Vault::new(config, clock)
}

fn clock() -> ManualClock {
    ManualClock::at(DateTime::UNIX_EPOCH)
}

#[tokio::test]
async fn a_new_master_key_wraps_anew_and_everything_still_opens_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) =
        (vault(directory.path(), Clock::Manual(clock())), vault(directory.path(), Clock::Manual(clock())));
    assert!(ours.new_key(AccountId(1), 1).await.unwrap_err().to_string().contains("servantctl keys generate"));
    assert_eq!(ours.generate_master().unwrap(), "file:1");
    let old = ours.new_key(AccountId(1), 1).await.unwrap();
    let sealed = ours.seal(&old, &PLACE, &SecretString::from("hush")).await.unwrap();
    assert_eq!(ours.rewrap(&old).await.unwrap(), None);

    assert_eq!(ours.generate_master().unwrap(), "file:2");
    let new = ours.rewrap(&old).await.unwrap().expect("it was under the old one");
    assert_eq!((new.master.as_str(), new.version, new.account), ("file:2", 1, AccountId(1)));
    for key in [&old, &new] {
        assert_eq!(theirs.open(key, &PLACE, &sealed).await.unwrap().expose_secret(), "hush");
    }
    // What says that it is another account's, version's or master's key does not come out of its wrapping.
    for wrong in [
        WrappedKey { account: AccountId(2), ..new.clone() },
        WrappedKey { version: 2, ..new.clone() },
        WrappedKey { master: "file:1".to_owned(), ..new.clone() },
    ] {
        let fresh = vault(directory.path(), Clock::Manual(clock()));
        assert!(matches!(fresh.open(&wrong, &PLACE, &sealed).await, Err(VaultError::Sealed { .. })), "{wrong:?}");
    }
    let other = ours.new_key(AccountId(1), 1).await.unwrap();
    assert!(matches!(ours.open(&other, &PLACE, &sealed).await, Err(VaultError::Sealed { .. })));
}

#[tokio::test]
async fn an_unwrapped_key_is_kept_for_minutes_only() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let vault = vault(directory.path(), Clock::Manual(clock.clone()));
    vault.generate_master().unwrap();
    let key = vault.new_key(AccountId(1), 1).await.unwrap();
    let sealed = vault.seal(&key, &PLACE, &SecretString::from("hush")).await.unwrap();
    std::fs::remove_file(directory.path().join("master.keys")).unwrap();
    clock.advance(TimeDelta::seconds(UNWRAPPED_SECS - 1));
    assert!(vault.open(&key, &PLACE, &sealed).await.is_ok());
    clock.advance(TimeDelta::seconds(1));
    assert!(matches!(vault.open(&key, &PLACE, &sealed).await, Err(VaultError::NoMaster { .. })));
}

#[tokio::test]
async fn the_number_of_keys_kept_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let vault = vault(directory.path(), Clock::Manual(clock()));
    vault.generate_master().unwrap();
    for account in 0..=UNWRAPPED_MAX as i64 {
        let key = vault.new_key(AccountId(account), 1).await.unwrap();
        vault.data_key(&key).await.unwrap();
    }
    assert_eq!(vault.unwrapped.lock().unwrap().len(), 1);
}

#[test]
fn without_a_master_key_it_says_what_to_set() {
    let clock = || Clock::Manual(clock());
    let none = Vault::new(Config::default(), clock());
    assert!(none.master().unwrap_err().to_string().contains("vault.keys_file"));
    assert!(none.generate_master().is_err());
    let alias = Config { kms_key: "alias/servant".to_owned(), ..Config::default() };
    assert!(Vault::new(alias, clock()).master().unwrap_err().to_string().contains("ARN"));
    assert!(!format!("{none:?}").contains("unwrapped"));
}
