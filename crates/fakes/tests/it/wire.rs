//! Owns the proof that every failure of HTTP and the network looks on the wire as its name says, and that the same seed
//! fails the same way. Does not own what a client of ours makes of them.

use std::{error::Error, time::Duration};

use fakes::salesforce::{Call, FakeSalesforce, Fault, Options, Order, WIRE_FAULTS};
use reqwest::Client;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const OBJECTS: &str = "/services/data/v66.0/sobjects";

struct Asker {
    fake: FakeSalesforce,
    client: Client,
    token: String,
}

/// What came of a call: its status and body, or why there is none.
type Outcome = Result<(u16, Vec<u8>), String>;

impl Asker {
    async fn new(is_tls: bool, gzip: bool) -> Self {
        let fake = FakeSalesforce::start(Options { tls: is_tls, ..Options::default() }).await.unwrap();
        let mut client = Client::builder().gzip(gzip).read_timeout(Duration::from_millis(500));
        if let Some(pem) = fake.ca_pem() {
            client = client.tls_certs_only([reqwest::Certificate::from_pem(pem.as_bytes()).unwrap()]);
        }
        let client = client.build().unwrap();
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", "fake-client"),
            ("client_secret", "fake-secret"),
            ("refresh_token", "fake-refresh"),
        ];
        let reply = client.post(format!("{}/services/oauth2/token", fake.url())).form(&form).send().await.unwrap();
        let reply: Value = reply.json().await.unwrap();
        Self { fake, client, token: reply["access_token"].as_str().unwrap().to_owned() }
    }

    async fn ask(&self) -> Outcome {
        let request = self.client.get(format!("{}{OBJECTS}", self.fake.url())).bearer_auth(&self.token);
        let whole = |error: reqwest::Error| {
            let causes = std::iter::successors(error.source(), |error| (*error).source());
            causes.fold(error.to_string(), |all, error| format!("{all}: {error}"))
        };
        let answer = request.send().await.map_err(whole)?;
        Ok((answer.status().as_u16(), answer.bytes().await.map_err(whole)?.to_vec()))
    }
}

#[tokio::test]
async fn every_failure_looks_as_its_name_says() {
    for is_tls in [false, true] {
        let asker = Asker::new(is_tls, true).await;
        let (_, truth) = asker.ask().await.unwrap();
        for (fault, status) in [
            (Fault::Http500, 500),
            (Fault::Http502Html, 502),
            (Fault::Http503, 503),
            (Fault::Http504, 504),
            (Fault::Http429Seconds, 429),
            (Fault::Http429Date, 429),
            (Fault::Http420Html, 420),
            (Fault::Http406, 406),
            (Fault::LimitConcurrent, 403),
            (Fault::LimitDaily, 403),
        ] {
            asker.fake.fault(fault, 1);
            assert_eq!(asker.ask().await.unwrap().0, status, "{fault:?}");
        }
        for (fault, reason) in [
            (Fault::CutConnection, "connection"),
            (Fault::CutBody, "error reading a body from connection"),
            (Fault::ResetConnection, "connection"),
            (Fault::ResetBody, "Connection reset"),
            (Fault::TruncatedGzip, "decoding"),
            (Fault::WrongContentLength, ""),
            (Fault::Stall, "timed out"),
        ] {
            asker.fake.fault(fault, 1);
            let error = asker.ask().await.unwrap_err();
            assert!(error.contains(reason), "{fault:?}: {error}");
        }
        for fault in [Fault::DuplicateReply, Fault::Drip] {
            asker.fake.order(Order { ms: 300, ..Order::new(fault, 1) });
            for _ in 0..3 {
                assert_eq!(asker.ask().await, Ok((200, truth.clone())), "{fault:?}");
            }
        }
        assert!(asker.fake.pending_faults().is_empty());
        asker.fake.fault(Fault::Stall, 1);
        assert!(asker.ask().await.is_err());
        // Although the stalled answer is still on its way.
        tokio::time::timeout(Duration::from_secs(10), asker.fake.stop()).await.unwrap();
    }
}

/// What comes on a connection of its own, up to its end.
async fn raw(asker: &Asker) -> String {
    let mut stream = TcpStream::connect(asker.fake.addr()).await.unwrap();
    let request = format!("GET {OBJECTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", asker.token);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    // The connection stays open: what does not come within this time does not come.
    while let Ok(Ok(1..)) = tokio::time::timeout(Duration::from_millis(500), stream.read_buf(&mut all)).await {}
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn a_duplicated_reply_is_the_same_bytes_twice() {
    let asker = Asker::new(false, false).await;
    asker.fake.fault(Fault::DuplicateReply, 1);
    let twice = raw(&asker).await;
    let (first, second) = twice.split_at(twice.len() / 2);
    assert!(first.starts_with("HTTP/1.1 200") && first == second, "{twice}");
}

#[tokio::test]
async fn a_wrong_length_is_too_long_or_too_short() {
    let asker = Asker::new(false, false).await;
    let (_, truth) = asker.ask().await.unwrap();
    let (mut longer, mut shorter) = (false, false);
    for seed in 0..20 {
        asker.fake.order(Order { seed: Some(seed), ..Order::new(Fault::WrongContentLength, 1) });
        match asker.ask().await {
            Ok((_, body)) => {
                assert!(body.len() < truth.len() && truth.starts_with(&body));
                shorter = true;
            }
            Err(error) => {
                assert!(error.contains("end of file before message"), "{error}");
                longer = true;
            }
        }
    }
    assert!(longer && shorter);
}

#[tokio::test]
async fn retry_after_is_seconds_or_a_date() {
    let asker = Asker::new(false, false).await;
    for fault in [Fault::Http429Seconds, Fault::Http429Date] {
        asker.fake.fault(fault, 1);
        let answer = raw(&asker).await;
        let value = answer.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap();
        match fault {
            Fault::Http429Seconds => assert_eq!(value, "1"),
            _ => assert!(chrono::DateTime::parse_from_rfc2822(value).is_ok(), "{value}"),
        }
    }
}

async fn struck(fault: Fault, seed: u64) -> Vec<bool> {
    let asker = Asker::new(false, true).await;
    let truth = asker.ask().await;
    asker.fake.order(Order { ms: 5, on: Some(Call::Objects), ..Order::seeded(fault, seed, 300) });
    let mut struck = Vec::new();
    for _ in 0..40 {
        struck.push(asker.ask().await != truth);
    }
    struck
}

#[tokio::test]
async fn a_seed_strikes_the_same_calls_again() {
    for fault in [Fault::Http503, Fault::CutBody] {
        let first = struck(fault, 7).await;
        assert_eq!(first, struck(fault, 7).await);
        assert_ne!(first, struck(fault, 8).await);
        let hits = first.iter().filter(|hit| **hit).count();
        assert!((3..=25).contains(&hits), "{hits} of 40");
    }
    assert_ne!(struck(Fault::Http503, 7).await, struck(Fault::Http500, 7).await, "two faults of one seed are two");
}

#[tokio::test]
async fn no_call_fails_without_end_under_three_failures() {
    let asker = Asker::new(false, true).await;
    let truth = asker.ask().await;
    for seed in 0..10 {
        asker.fake.clear_faults();
        for place in 0..3 {
            let fault = WIRE_FAULTS[(seed as usize * 3 + place * 7) % WIRE_FAULTS.len()];
            // Those end the session, which nobody renews here.
            if !matches!(fault, Fault::Auth401 | Fault::Auth401MidQuery) {
                asker.fake.order(Order { ms: 5, ..Order::seeded(fault, seed, 200) });
            }
        }
        let mut tries = 0;
        while asker.ask().await != truth {
            tries += 1;
            assert!(tries < 50, "seed {seed}");
        }
    }
}
