//! What reads Salesforce's answers, open to whatever bytes come: one function for each kind of answer, each with true
//! examples. A fuzzer (`fuzz/`) and the tests run the same functions. Owns what must hold of what was let in; that nothing
//! panics goes without saying.

use std::collections::BTreeMap;

use reqwest::{StatusCode, header};
use serde::de::DeserializeOwned;

use crate::{
    address::{Hosts, checked_next},
    bulk, composite,
    oauth::read_grant,
    record_id::id18,
    refusal::{Asked, Refusal, read_job_failure, read_refusal, read_token_refusal},
    transport::Head,
    wire::{
        ApiUsage, Changed, Deleted, Describe, Limit, Page, WireChanged, WireDeleted, WireDescribe, WireLimits,
        WireObjects, WirePage, WireVersion,
    },
};

/// Something that is read.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of the fuzzer's program.
    pub name: &'static str,
    /// Reads bytes, and panics if what it lets in is not as it must be.
    pub run: fn(&[u8]),
    /// True answers.
    pub examples: &'static [&'static str],
}

/// All of them.
pub const TARGETS: [Target; 10] = [
    Target {
        name: "query_page",
        run: query_page,
        examples: &[
            r#"{"totalSize":2,"done":false,"nextRecordsUrl":"/services/data/v66.0/query/01g000000000001-2000","records":[{"attributes":{"type":"Account","url":"/services/data/v66.0/sobjects/Account/001D000000IRFmaIAH"},"Id":"001D000000IRFmaIAH","Name":"NA","AnnualRevenue":1.39E8}]}"#,
            r#"{"totalSize":0,"done":true,"records":[]}"#,
        ],
    },
    Target {
        name: "describe",
        run: describe,
        examples: &[
            r#"{"name":"Account","fields":[{"name":"Id","type":"id","nillable":false,"length":18,"precision":0,"scale":0,"calculated":false},{"name":"BillingAddress","type":"address"}]}"#,
            r#"{"sobjects":[{"name":"Account","queryable":true},{"name":"X__c"}]}"#,
            r#"[{"label":"Spring '26","url":"/services/data/v66.0","version":"66.0"}]"#,
        ],
    },
    Target {
        name: "bulk_job",
        run: bulk::fuzz::job,
        examples: &[
            r#"{"id":"750R0000000zxr8IAA","operation":"queryAll","object":"Account","state":"JobComplete","apiVersion":66.0,"jobType":"V2Query","numberRecordsProcessed":200000,"retries":0,"totalProcessingTime":870}"#,
            r#"{"id":"750R0000000zxr8","state":"Failed","apiVersion":"66.0","errorMessage":"QUERY_TIMEOUT: too long"}"#,
        ],
    },
    Target {
        name: "result_pages",
        run: bulk::fuzz::pages,
        examples: &[
            r#"{"resultPages":[{"resultUrl":"/services/data/v66.0/jobs/query/750R0000000zxr8IAA/results?locator=MTAwMDA"}],"nextRecordsUrl":"/services/data/v66.0/jobs/query/750R0000000zxr8IAA/resultPages?pageLocator=5","done":false}"#,
            r#"{"resultPages":[{"resultLink":"/services/data/v66.0/jobs/query/750R0000000zxr8IAA/results"}],"nextRecordUrl":null,"done":true}"#,
        ],
    },
    Target {
        name: "composite",
        run: composite::fuzz,
        examples: &[
            r#"{"compositeResponse":[{"body":{"totalSize":0,"done":true,"records":[]},"httpHeaders":{},"httpStatusCode":200,"referenceId":"q0"},{"body":{"deletedRecords":[{"id":"001D000000IRFma","deletedDate":"2024-09-24T03:26:07.000+0000"}],"earliestDateAvailable":"2024-09-10T00:00:00.000+0000","latestDateCovered":"2024-09-24T03:27:00.000+0000"},"httpStatusCode":200,"referenceId":"q1"},{"body":{"ids":["001D000000IRFma"],"latestDateCovered":"2024-09-24T03:27:00.000+0000"},"httpStatusCode":200,"referenceId":"q2"},{"httpHeaders":{"Last-Modified":"Tue, 24 Sep 2024 03:26:07 GMT"},"httpStatusCode":304,"referenceId":"q3"}]}"#,
            r#"{"compositeResponse":[{"body":[{"errorCode":"INVALID_TYPE","message":"no such object"}],"httpStatusCode":400,"referenceId":"q3"},{"body":null,"httpStatusCode":200,"referenceId":"q2"},{"body":{},"httpStatusCode":200,"referenceId":"q1"},{"body":{"totalSize":1,"done":false},"httpStatusCode":200,"referenceId":"q0"}]}"#,
        ],
    },
    Target {
        name: "limits",
        run: limits,
        examples: &[
            r#"{"DailyApiRequests":{"Max":100000,"Remaining":99998,"Ant Migration Tool":{"Max":0,"Remaining":0}},"DataStorageMB":{"Max":5,"Remaining":-1},"PermissionSets":{"Max":1500,"Remaining":1499,"CreateCustom":{}}}"#,
        ],
    },
    Target {
        name: "logs",
        run: logs,
        examples: &[
            r#"{"deletedRecords":[{"id":"001D000000IRFma","deletedDate":"2024-09-24T03:26:07.000+0000"},{"id":7}],"earliestDateAvailable":"2024-09-10T00:00:00.000Z","latestDateCovered":"2024-09-24T05:26:07+02:00"}"#,
            r#"{"ids":["001D000000IRFma","no id",null],"latestDateCovered":"2024-09-24T03:27:00.000+0000"}"#,
        ],
    },
    Target {
        name: "token",
        run: token,
        examples: &[
            r#"{"access_token":"00D!x","refresh_token":"5Aep","signature":"c2ln","scope":"api refresh_token","instance_url":"https://acme.my.salesforce.com","id":"https://login.salesforce.com/id/00D000000000001EAA/005000000000001AAA","token_type":"Bearer","issued_at":"1790000000000"}"#,
            r#"{"error":"invalid_grant","error_description":"expired access/refresh token"}"#,
        ],
    },
    Target {
        name: "refusal",
        run: refusal,
        examples: &[
            "\u{90}[{\"message\":\"Session expired or invalid\",\"errorCode\":\"INVALID_SESSION_ID\"}]",
            "\u{1}[{\"errorCode\":\"REQUEST_LIMIT_EXCEEDED\",\"message\":\"ConcurrentRequests (Concurrent API Requests) Limit exceeded.\"}]",
            "\u{2}<html><head><title>502 Bad Gateway</title></head><body>Bad\tGateway</body></html>",
            "\u{3}{\"error\":\"invalid_client\",\"error_description\":\"invalid client credentials\"}",
            "\u{4}InternalServerError : Retried more than fifteen times",
        ],
    },
    Target {
        name: "headers",
        run: headers,
        examples: &[
            "sforce-limit-info: api-usage=18/5000; api-bursts=1/2\ndate: Mon, 23 Nov 2026 10:00:00 GMT\nretry-after: Mon, 23 Nov 2026 10:01:30 GMT\nlast-modified: Mon, 23 Nov 2026 09:00:00 GMT",
            "content-type: text/csv; charset=UTF-8\nsforce-locator: MTAwMDA\nsforce-numberofrecords: 50000",
            "content-type: text/csv\nsforce-locator: null\nsforce-numberofrecords: 0\nretry-after: 7",
        ],
    },
];

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

fn query_page(bytes: &[u8]) {
    let Some(page) = json::<WirePage>(bytes).and_then(|wire| Page::read(wire, None).ok()) else { return };
    assert_eq!(page.done, page.next_records_url.is_none());
    if let Some(next) = page.next_records_url {
        assert!(checked_next(&next).is_ok() && next.starts_with("/services/data/"), "{next}");
    }
}

fn describe(bytes: &[u8]) {
    if let Some(wire) = json::<WireDescribe>(bytes) {
        let describe = Describe::from(wire);
        let mut fields = describe.fields.iter();
        assert!(fields.all(|field| field.compound == matches!(field.field_type.as_str(), "address" | "location")));
    }
    drop(json::<WireObjects>(bytes));
    drop(json::<Vec<WireVersion>>(bytes));
}

fn limits(bytes: &[u8]) {
    let Some(limits) = json::<WireLimits>(bytes) else { return };
    let read = |limit: &serde_json::Value| serde_json::from_value::<Limit>(limit.clone()).ok();
    let known: BTreeMap<_, _> = limits.iter().filter_map(|(name, limit)| Some((name, read(limit)?))).collect();
    assert!(known.len() <= limits.len());
}

fn logs(bytes: &[u8]) {
    if let Some(deleted) = json::<WireDeleted>(bytes).and_then(|wire| Deleted::try_from(wire).ok()) {
        assert!(deleted.records.iter().all(|(id, _)| id.len() == 18 && id18(id).is_some()));
    }
    if let Some(changed) = json::<WireChanged>(bytes).and_then(|wire| Changed::try_from(wire).ok()) {
        assert!(changed.ids.iter().all(|id| id.len() == 18 && id18(id).is_some()));
    }
}

/// Whatever the reply says, a token goes to the vendor's hosts only.
fn token(bytes: &[u8]) {
    let Ok(grant) = read_grant(bytes, &Hosts::Vendor) else { return };
    if let Ok(url) = grant.instance_url() {
        let host = url.strip_prefix("https://").expect("https alone");
        assert!(host.ends_with(".salesforce.com") || host.ends_with(".salesforce.mil"), "{url}");
    }
    assert!(grant.organisation.iter().chain(&grant.user).all(|id| id.len() == 18));
}

/// The first byte says how the answer came; what an error says is one line of bounded length, fit for a log.
fn refusal(bytes: &[u8]) {
    let Some((how, body)) = bytes.split_first() else { return };
    let statuses = [400, 401, 403, 404, 409, 420, 429, 500, 503, 302];
    let status = StatusCode::from_u16(statuses[usize::from(how >> 2) % statuses.len()]).unwrap_or(StatusCode::OK);
    let asked = [Asked::Rest, Asked::NewJob, Asked::Job][usize::from(how & 3) % 3];
    let mut errors = vec![read_token_refusal(status, Some(1), body), read_job_failure(&String::from_utf8_lossy(body))];
    if let Refusal::Other(error) = read_refusal(asked, status, None, body) {
        errors.push(error);
    }
    for error in errors {
        let text = error.to_string();
        assert!(text.len() < 4_000 && !text.contains(['\n', '\r', '\0', '\u{1b}']), "{text:?}");
    }
}

/// Lines of `name: value`, as far as they can be headers at all.
fn headers(bytes: &[u8]) {
    let mut map = header::HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let name = header::HeaderName::from_bytes(name);
        let value = header::HeaderValue::from_bytes(value.trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value)
            && map.len() < 64
        {
            map.insert(name, value);
        }
    }
    let head = Head::of(StatusCode::OK, map);
    let (_, _) = (head.retry_after_secs(), head.stamp("last-modified"));
    let (_, _) = (head.server_time(), head.text("sforce-limit-info").and_then(ApiUsage::parse));
    bulk::fuzz::head(&head);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs for each target.
    const INPUTS: u64 = 3_000;

    #[test]
    fn whatever_comes_is_read_or_refused() {
        for target in TARGETS {
            testkit::spoil_each(target.name, target.examples, INPUTS, target.run);
        }
    }
}
