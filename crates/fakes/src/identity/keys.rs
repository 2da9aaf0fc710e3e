//! Owns the keys of the simulated provider and how it signs, well or not. Does not own what is signed.

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// How an id_token is signed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed {
    Well,
    Not,
    WithPublicKey,
    ByUnknownKey,
    ByOtherKey,
    ThenAltered,
}

enum Key {
    Rsa(Box<RsaKeyPair>),
    Elliptic(Box<EcdsaKeyPair>),
}

/// The key that is published, and one that is not.
pub(super) struct Keys {
    name: String,
    published: Key,
    other: Key,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Key {
    fn new(elliptic: bool) -> anyhow::Result<Self> {
        if elliptic {
            return Ok(Self::Elliptic(Box::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?)));
        }
        Ok(Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048)?)))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Elliptic(_) => "ES256",
        }
    }

    fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                Ok(signature)
            }
            Self::Elliptic(key) => Ok(key.sign(&random, message)?.as_ref().to_vec()),
        }
    }

    fn public(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => key.public_key().as_ref().to_vec(),
            Self::Elliptic(key) => key.public_key().as_ref().to_vec(),
        }
    }
}

impl Keys {
    pub(super) fn new(elliptic: bool) -> anyhow::Result<Self> {
        let name = uuid::Uuid::new_v4().simple().to_string();
        Ok(Self { name, published: Key::new(elliptic)?, other: Key::new(elliptic)? })
    }

    /// The public key as it is published.
    pub(super) fn published(&self) -> Value {
        let shared = json!({ "kid": self.name, "use": "sig", "alg": self.published.algorithm() });
        let own = match &self.published {
            Key::Rsa(key) => {
                // PKCS #1 of 2048 bits: a sequence of two numbers, 256 bytes behind nine and three behind two.
                let der = key.public_key().as_ref();
                let (modulus, exponent) = (&der[9..265], &der[267..]);
                json!({ "kty": "RSA", "n": encode(modulus), "e": encode(exponent) })
            }
            Key::Elliptic(key) => {
                // An uncompressed point: a mark, then two numbers of 32 bytes.
                let point = key.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..65]) })
            }
        };
        let parts = [shared, own].into_iter().filter_map(|part| part.as_object().cloned());
        Value::Object(parts.flatten().collect())
    }

    pub(super) fn sign(&self, claims: &Value, how: Signed) -> anyhow::Result<String> {
        let algorithm = match how {
            Signed::Not => "none",
            Signed::WithPublicKey => "HS256",
            _ => self.published.algorithm(),
        };
        let name = if how == Signed::ByUnknownKey { "unheard-of" } else { &self.name };
        let header = json!({ "alg": algorithm, "typ": "JWT", "kid": name });
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = match how {
            Signed::Not => Vec::new(),
            Signed::WithPublicKey => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, &self.published.public());
                hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
            }
            Signed::ByUnknownKey | Signed::ByOtherKey => self.other.sign(message.as_bytes())?,
            Signed::Well | Signed::ThenAltered => self.published.sign(message.as_bytes())?,
        };
        if how == Signed::ThenAltered {
            let mut altered = claims.clone();
            altered["groups"] = json!(["admins"]);
            return Ok(format!("{}.{}.{}", encode(header.to_string()), encode(altered.to_string()), encode(signature)));
        }
        Ok(format!("{message}.{}", encode(signature)))
    }
}
