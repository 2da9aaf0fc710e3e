//! Every address that shows something, made from the table of the API's operations, so that a new page or list is in it
//! by itself: each with the filters by which people look, deep pages included. Owns no page.

/// An address to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Its pattern, the same for all things of a sort: `GET /jobs/{id}`, `GET /jobs?q=state:failed`.
    pub page: String,
    /// The address itself, from the first slash on.
    pub address: String,
}

/// The operations, their pages and verbs.
const TABLE: &str = include_str!("../../manager-api/parity.txt");
/// Pages that are more than the table has.
const MORE: [&str; 4] = ["/jobs/new", "/keys", "/api/openapi.json", "/operations/new"];

/// A list as it is.
const NO_WORDS: &[&str] = &[""];

/// The words by which lists are filtered: `<name>` stands for a thing's id or name.
const LISTS: [(&str, &[&str]); 18] = [
    (
        "/jobs",
        &[
            "",
            "q=state:pending",
            "q=state:scheduled",
            "q=state:ready",
            "q=state:running",
            "q=state:succeeded",
            "q=state:failed",
            "q=state:cancelled",
            "q=kind:<kind>",
            "q=kind:<rare>",
            "q=state:succeeded kind:<kind>",
            "q=state:failed kind:<rare>",
            "q=state:pending kind:<kind>",
            "q=state:running kind:<kind>",
            "q=account:<busy>",
            "q=account:<account>",
            "q=account:0",
            "q=state:failed account:<busy>",
            "q=state:cancelled account:<account>",
            "q=state:running account:<busy>",
            "q=state:scheduled account:<busy>",
            "q=kind:<rare> account:<busy>",
            "q=group:<group>",
            "q=state:failed group:<group>",
            "q=state:running group:<group>",
            "q=servant:<servant>",
            "q=error:<fingerprint>",
            "q=error:<fingerprint> account:<busy>",
            "q=age:<1h",
            "q=age:>3d",
            "q=age:>3d state:failed",
            "q=age:<10m kind:<kind>",
            "q=age:>5d kind:<kind> state:succeeded",
            "q=age:>3d account:<busy>",
            "q=age:<10m account:<busy>",
            "before=<job>",
            "q=state:succeeded&before=<job>",
            "q=state:failed kind:<kind>&before=<job>",
            "q=account:<busy>&before=<job>",
            "limit=200",
            "q=state:succeeded&limit=200",
            "q=state:pending&limit=200",
        ],
    ),
    ("/find", &["text=a", "text=customer 1", "text=1"]),
    (
        "/errors",
        &[
            "",
            "kind=<kind>",
            "kind=<rare>",
            "class=bug",
            "class=deadline_exceeded",
            "kind=<kind>&class=transient",
            "text=timed out",
        ],
    ),
    ("/accounts", &["", "before=<account>"]),
    ("/schedules", &["", "before=<schedule>", "account=<busy>", "paused=true"]),
    (
        "/anomalies",
        &["", "state=open", "state=open&severity=critical", "account=<account>", "state=open&account=<busy>"],
    ),
    (
        "/quarantine",
        &[
            "",
            "state=open",
            "state=resolved&account=<busy>",
            "connection=<connection>&object=Object_1",
            "connection=<connection>&object=Object_1&record=0031",
            "account=<account>&connection=<connection>",
        ],
    ),
    ("/groups", &["", "state=failed", "state=open", "account=<account>"]),
    ("/acts", &["", "subject=job&key=7"]),
    ("/audit", &["", "actor=nobody", "action=retry_job&subject=job"]),
    ("/servants", &[""]),
    ("/connections", &["", "state=needs_reauth", "state=parked", "before=<connection>"]),
    ("/breakers", &["", "after=host-5", "troubled=true"]),
    ("/limits", &[""]),
    (
        "/holders",
        &["scope=vendor&key=salesforce", "scope=kind&key=<kind>", "scope=account&key=<busy>", "scope=each_connection"],
    ),
    ("/throughput", &["", "span=24h", "span=7d", "span=7d&kind=<kind>"]),
    ("/", &["", "span=24h", "span=7d"]),
    (
        "/operations/preview",
        &[
            "act=retry&q=state:failed",
            "act=retry&q=state:failed kind:<kind>",
            "act=cancel&q=state:pending account:<busy>",
            "act=retry&q=error:<fingerprint>",
        ],
    ),
];

/// All of them. `named` says what stands for a thing: `job`, `kind`, `rare` (a rare kind), `account`, `busy` (the account
/// with most jobs), `group`, `servant`, `schedule`, `connection`, `service`, `anomaly`, `quarantine` (a record in it), `assumption`,
/// `operation`, `fingerprint`.
///
/// # Panics
/// When the table has an address with a part that nobody has named here: name it.
pub fn reads(mut named: impl FnMut(&str) -> String) -> Vec<Read> {
    let mut patterns: Vec<&str> = MORE.to_vec();
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        patterns.extend(line.split(" | ").take(2).filter_map(|operation| operation.strip_prefix("GET ")));
    }
    patterns.sort_unstable();
    patterns.dedup();
    let mut reads = Vec::new();
    for pattern in patterns {
        let path = filled(&with_names(pattern), false, &mut named);
        for words in words_of(pattern) {
            let query = if words.is_empty() { String::new() } else { format!("?{words}") };
            let address = format!("{path}{}", filled(&query, true, &mut named));
            reads.push(Read { page: format!("GET {pattern}{query}"), address });
        }
    }
    reads
}

/// The filters of a page and of the same list in the API.
fn words_of(pattern: &str) -> &'static [&'static str] {
    let path = pattern.strip_prefix("/api/v1").unwrap_or(pattern);
    let path = match path {
        "/groups/{id}/jobs" => return &["", "state=failed", "state=running"],
        "/operations/new" => "/operations/preview",
        path => path,
    };
    // Pages of several lists have filters of their own.
    let is_own = matches!(pattern, "/limits" | "/servants") || pattern == "/api/v1/limits";
    let found = LISTS.iter().find(|(list, _)| *list == path).filter(|_| !is_own);
    found.map_or(NO_WORDS, |(_, words)| *words)
}

/// `{id}` under `/jobs` is a job.
fn with_names(pattern: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in pattern.split('/') {
        let name = match (part, parts.last().map(String::as_str)) {
            ("{id}", Some(list)) => format!("<{}>", singular(list)),
            (part, _) if part.starts_with('{') => format!("<{}>", part.trim_matches(['{', '}'])),
            (part, _) => part.to_owned(),
        };
        parts.push(name);
    }
    parts.join("/")
}

fn singular(list: &str) -> &str {
    match list {
        "anomalies" => "anomaly",
        list => list.strip_suffix('s').unwrap_or(list),
    }
}

/// The text with names in place of `<name>`; what a query may not hold is escaped.
fn filled(text: &str, is_query: bool, named: &mut impl FnMut(&str) -> String) -> String {
    const NAMES: [&str; 15] = [
        "job",
        "kind",
        "rare",
        "account",
        "busy",
        "group",
        "servant",
        "schedule",
        "connection",
        "service",
        "anomaly",
        "quarantine",
        "assumption",
        "operation",
        "fingerprint",
    ];
    let mut text = text.to_owned();
    for name in NAMES {
        let mark = format!("<{name}>");
        if text.contains(&mark) {
            text = text.replace(&mark, &named(name));
        }
    }
    if is_query {
        return text.replace('<', "%3C").replace('>', "%3E").replace(' ', "%20");
    }
    assert!(!text.contains('<'), "nobody says what stands in {text}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_get_of_the_table_is_there_and_filled() {
        let all = reads(|name| format!("[{name}]"));
        let address = |page: &str| all.iter().find(|read| read.page == page).map(|read| read.address.as_str());
        assert_eq!(address("GET /api/v1/anomalies/{id}"), Some("/api/v1/anomalies/[anomaly]"));
        assert_eq!(address("GET /api/v1/jobs/{id}/why"), Some("/api/v1/jobs/[job]/why"));
        assert_eq!(address("GET /jobs?q=age:>3d state:failed"), Some("/jobs?q=age:%3E3d%20state:failed"));
        assert_eq!(address("GET /jobs?q=kind:<kind>"), Some("/jobs?q=kind:[kind]"));
        for line in TABLE.lines().filter(|line| line.starts_with("GET ")) {
            let operation = line.split(" | ").next().unwrap();
            assert!(all.iter().any(|read| read.page.split('?').next() == Some(operation)), "{operation}");
        }
    }
}
