//! Tests of the calls to KMS, against a server that speaks its protocol (AWS JSON 1.1) and keeps its rules: a cipher
//! text opens only with the key and the context that it was made with.

use super::*;
use aws_sdk_kms::config::{Credentials, Region};
use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

const ARN: &str = "arn:aws:kms:us-east-1:111122223333:key/one";

async fn answer(headers: HeaderMap, body: String) -> impl IntoResponse {
    let request: Value = serde_json::from_str(&body).unwrap();
    let refused = |code: &str| (StatusCode::BAD_REQUEST, Json(json!({"__type": code, "message": "no"})));
    match (headers["x-amz-target"].to_str().unwrap(), request["KeyId"].as_str().unwrap()) {
        (_, "arn:gone") => refused("DisabledException"),
        (_, "arn:busy") => refused("ThrottlingException"),
        ("TrentService.Encrypt", key) => {
            let inside = json!({"k": key, "p": request["Plaintext"], "c": request["EncryptionContext"]});
            let blob = STANDARD.encode(inside.to_string());
            (StatusCode::OK, Json(json!({"CiphertextBlob": blob, "KeyId": key})))
        }
        ("TrentService.Decrypt", key) => {
            let inside = STANDARD.decode(request["CiphertextBlob"].as_str().unwrap()).unwrap();
            let Ok(inside) = serde_json::from_slice::<Value>(&inside) else {
                return refused("InvalidCiphertextException");
            };
            if inside["k"] != key {
                return refused("IncorrectKeyException");
            }
            if inside["c"] != request["EncryptionContext"] {
                return refused("InvalidCiphertextException");
            }
            (StatusCode::OK, Json(json!({"Plaintext": inside["p"], "KeyId": key})))
        }
        (other, _) => panic!("{other}"),
    }
}

async fn kms() -> Kms {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    let config = aws_sdk_kms::config::Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .endpoint_url(url);
    let config = limited(config).retry_config(RetryConfig::disabled()).build();
    Kms { client: OnceCell::new_with(Some(Client::from_conf(config))) }
}

#[tokio::test]
async fn a_key_comes_back_for_its_own_account_version_and_master_only() {
    let kms = kms().await;
    let key = crate::seal::random_key().unwrap();
    let wrapped = kms.wrap(ARN, &key, AccountId(1), 1).await.unwrap();
    assert_eq!(*kms.unwrap(ARN, &wrapped, AccountId(1), 1).await.unwrap(), *key);
    for (arn, account, version) in [(ARN, 2, 1), (ARN, 1, 2), ("arn:other", 1, 1)] {
        let error = kms.unwrap(arn, &wrapped, AccountId(account), version).await.unwrap_err();
        assert!(matches!(error, VaultError::Sealed { .. }), "{error}");
    }
    assert!(matches!(kms.unwrap(ARN, b"rubbish", AccountId(1), 1).await, Err(VaultError::Sealed { .. })));
    let short = kms.client().await.encrypt().key_id(ARN).plaintext(Blob::new("short")).send().await.unwrap();
    let short = short.ciphertext_blob.unwrap().into_inner();
    assert!(matches!(kms.unwrap(ARN, &short, AccountId(1), 1).await, Err(VaultError::Sealed { .. })));
}

#[tokio::test]
async fn what_passes_is_told_from_what_a_person_must_mend() {
    let kms = kms().await;
    let key = crate::seal::random_key().unwrap();
    let gone = kms.wrap("arn:gone", &key, AccountId(1), 1).await.unwrap_err();
    assert!(matches!(&gone, VaultError::NoMaster { problem, .. } if problem.contains("DisabledException")), "{gone}");
    assert!(kms.wrap("arn:busy", &key, AccountId(1), 1).await.unwrap_err().is_transient());
}
