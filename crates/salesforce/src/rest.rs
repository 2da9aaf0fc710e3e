//! Owns the single questions by REST: objects, fields, queries page by page, what was deleted or changed, limits.
//! Does not own how a call is made.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::{
    address::{check_object, checked_next},
    call::Call,
    client::Client,
    error::Result,
    wire::{
        Changed, Deleted, Describe, Described, Limit, Page, WireChanged, WireDeleted, WireDescribe, WireLimits,
        WireObjects, WirePage, WireVersion,
    },
};

impl Client {
    /// The versions of the API that the instance speaks, the oldest first. Salesforce does not count this call.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn versions(&self) -> Result<Vec<String>> {
        let (versions, _) = self.json::<Vec<WireVersion>>(&Call::get("/services/data/")).await?;
        Ok(versions.into_iter().map(|version| version.version).collect())
    }

    /// The names of the objects that this user may query, in the order given.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn objects(&self) -> Result<Vec<String>> {
        let (list, _) = self.json::<WireObjects>(&Call::get("sobjects")).await?;
        Ok(list.sobjects.into_iter().filter(|object| object.queryable).map(|object| object.name).collect())
    }

    /// The fields of an object.
    ///
    /// # Errors
    /// `Drift` if there is no such object for this user; otherwise as [`Client::query`].
    pub async fn describe(&self, object: &str) -> Result<Describe> {
        let path = describe_path(object)?;
        Ok(self.json::<WireDescribe>(&Call::get(&path)).await?.0.into())
    }

    /// The fields of an object, unless they are as they were at `since`.
    ///
    /// # Errors
    /// As [`Client::describe`].
    pub async fn describe_since(&self, object: &str, since: DateTime<Utc>) -> Result<Option<Described>> {
        let path = describe_path(object)?;
        let headers = [(IF_MODIFIED_SINCE, http_date(since))];
        let (wire, head) =
            self.json_unless_same::<WireDescribe>(&Call { headers: &headers, ..Call::get(&path) }).await?;
        let last_modified = head.stamp("last-modified").or_else(|| head.server_time());
        Ok(wire.map(|wire| Described { describe: wire.into(), last_modified }))
    }

    /// The first page of a query, without the recycle bin.
    ///
    /// # Errors
    /// Every variant of [`SalesforceError`](crate::SalesforceError) but `CursorExpired` and `NotInBulk`.
    pub async fn query(&self, soql: &str) -> Result<Page> {
        self.page("query", &[("q", soql)]).await
    }

    /// The first page of a query, with the recycle bin and archived activities.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn query_all(&self, soql: &str) -> Result<Page> {
        self.page("queryAll", &[("q", soql)]).await
    }

    /// The page that `next_records_url` of an earlier page refers to.
    ///
    /// # Errors
    /// `CursorExpired` if the query must begin again, `Rejected` if the address is anything but a path below
    /// `/services/data/`; otherwise as [`Client::query`].
    pub async fn query_next(&self, next_records_url: &str) -> Result<Page> {
        self.page(&checked_next(next_records_url)?, &[]).await
    }

    /// The records of an object that were deleted between two times, by the log that Salesforce keeps for 15 days. Seconds
    /// do not count. Those deleted for good are in it too.
    ///
    /// # Errors
    /// `CursorExpired` if the log does not reach back to `start`, `QueryTimeout` if there are more than 600,000; otherwise
    /// as [`Client::query`].
    pub async fn deleted(&self, object: &str, start: DateTime<Utc>, end: DateTime<Utc>) -> Result<Deleted> {
        let path = log_path(object, "deleted")?;
        let query = log_query(start, end);
        let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.json::<WireDeleted>(&Call { query: &query, ..Call::get(&path) }).await?.0.try_into()
    }

    /// The ids of the records of an object that were inserted or changed between two times; it reaches back 30 days. No
    /// query in Salesforce's count, so that a composite call may hold 25 of them.
    ///
    /// # Errors
    /// As [`Client::deleted`].
    pub async fn changed(&self, object: &str, start: DateTime<Utc>, end: DateTime<Utc>) -> Result<Changed> {
        let path = log_path(object, "updated")?;
        let query = log_query(start, end);
        let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.json::<WireChanged>(&Call { query: &query, ..Call::get(&path) }).await?.0.try_into()
    }

    /// The allowances of the organisation by name, such as `DailyApiRequests`.
    ///
    /// # Errors
    /// As [`Client::query`]; `Forbidden` without the permission to see the set-up.
    pub async fn limits(&self) -> Result<BTreeMap<String, Limit>> {
        let (limits, _) = self.json::<WireLimits>(&Call::get("limits")).await?;
        // Some entries hold more than the two numbers, and new ones may be of any shape.
        Ok(limits.into_iter().filter_map(|(name, limit)| Some((name, serde_json::from_value(limit).ok()?))).collect())
    }

    async fn page(&self, path: &str, query: &[(&str, &str)]) -> Result<Page> {
        let batch = self.batch_size.map(|size| ("Sforce-Query-Options", format!("batchSize={size}")));
        let call = Call { query, headers: batch.as_slice(), ..Call::get(path) };
        let (wire, head) = self.json::<WirePage>(&call).await?;
        Page::read(wire, head.server_time())
    }
}

pub(crate) const IF_MODIFIED_SINCE: &str = "if-modified-since";

pub(crate) fn http_date(time: DateTime<Utc>) -> String {
    time.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

pub(crate) fn describe_path(object: &str) -> Result<String> {
    check_object(object)?;
    Ok(format!("sobjects/{object}/describe"))
}

pub(crate) fn log_path(object: &str, log: &str) -> Result<String> {
    check_object(object)?;
    Ok(format!("sobjects/{object}/{log}/"))
}

pub(crate) fn log_query(start: DateTime<Utc>, end: DateTime<Utc>) -> [(&'static str, String); 2] {
    let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, false);
    [("start", text(start)), ("end", text(end))]
}
