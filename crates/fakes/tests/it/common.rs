//! Owns a plain HTTP caller with a session at the simulated Salesforce. Does not own what is proved with it.

use fakes::salesforce::{Content, FakeSalesforce, Options};
use reqwest::{Client, Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

/// A server and a session.
pub(crate) struct World {
    pub(crate) fake: FakeSalesforce,
    client: Client,
    token: String,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// The rows of a CSV, the header line first.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(self.body.as_bytes());
        reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
    }
}

impl World {
    pub(crate) async fn start(options: Options) -> Self {
        let fake = FakeSalesforce::start(options).await.unwrap();
        let client = Client::builder().no_gzip().build().unwrap();
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", "fake-client"),
            ("client_secret", "fake-secret"),
            ("refresh_token", "fake-refresh"),
        ];
        let reply = client.post(format!("{}/services/oauth2/token", fake.url())).form(&form).send().await.unwrap();
        let reply: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
        let token = reply["access_token"].as_str().unwrap().to_owned();
        Self { fake, client, token }
    }

    pub(crate) async fn generated(records: u64, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options { content: Content::Generated { records, seed: 5 }, ..Options::default() };
        change(&mut options);
        Self::start(options).await
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut request = self.client.request(method, self.fake.url() + path).bearer_auth(&self.token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let reply = request.send().await.unwrap();
        let (status, headers) = (reply.status(), reply.headers().clone());
        let bytes = reply.bytes().await.unwrap().to_vec();
        Answer { status, headers, body: String::from_utf8_lossy(&bytes).into_owned(), bytes }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], None).await
    }

    pub(crate) async fn query(&self, soql: &str) -> Value {
        let url = reqwest::Url::parse_with_params("http://x/services/data/v66.0/queryAll", [("q", soql)]).unwrap();
        let answer = self.get(&format!("{}?{}", url.path(), url.query().unwrap())).await;
        assert_eq!(answer.status, 200, "{soql}: {}", answer.body);
        answer.json()
    }

    /// Makes a bulk job.
    pub(crate) async fn bulk(&self, soql: &str) -> Answer {
        let body = json!({ "operation": "queryAll", "query": soql });
        self.call(Method::POST, "/services/data/v66.0/jobs/query", &[], Some(body)).await
    }
}
