//! The records that are loaded: invented, the same at every run, as pages of CSV the way Bulk API 2.0 writes them.
//! Owns where a page is to be had. Does not own what becomes of it.

use salesforce::{Describe, Field};
use std::{
    fmt::Write as _,
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

pub(super) const VENDOR: &str = "salesforce";
const OBJECT: &str = "Bench__c";
/// The fields that are always there; what a longer record has besides comes in turn.
const FIELDS: [(&str, &str); 25] = [
    ("Id", "id"),
    ("IsDeleted", "boolean"),
    ("Name", "string"),
    ("FirstName", "string"),
    ("LastName", "string"),
    ("Email", "email"),
    ("Phone", "phone"),
    ("Title", "string"),
    ("AccountId", "reference"),
    ("OwnerId", "reference"),
    ("CreatedDate", "datetime"),
    ("CreatedById", "reference"),
    ("LastModifiedDate", "datetime"),
    ("LastModifiedById", "reference"),
    ("SystemModstamp", "datetime"),
    ("Birthdate", "date"),
    ("Amount__c", "currency"),
    ("Seats__c", "int"),
    ("Score__c", "double"),
    ("IsActive__c", "boolean"),
    ("LeadSource", "picklist"),
    ("MailingStreet", "textarea"),
    ("MailingCity", "string"),
    ("Website", "url"),
    ("Description", "textarea"),
];
const MORE: [&str; 5] = ["string", "double", "boolean", "datetime", "date"];
const WORDS: [&str; 12] = [
    "Alpha", "Brücke", "Cobalt", "Éclair", "Fjord", "Granit", "Horizon", "Juniper", "Lumen", "Nimbus", "Orchard",
    "Zenith",
];

/// Which state of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    First,
    /// Four fields of each record are different.
    Later,
}

impl Version {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Later => "later",
        }
    }
}

/// An object's records.
#[derive(Debug)]
pub(super) struct Feed {
    directory: PathBuf,
    fields: Vec<(String, &'static str)>,
    records: usize,
    page_records: usize,
}

impl Feed {
    pub(super) fn make(directory: &Path, records: usize, columns: usize, page_records: usize) -> anyhow::Result<Self> {
        anyhow::ensure!(columns >= FIELDS.len(), "a record has at least {} fields", FIELDS.len());
        let fixed = FIELDS.iter().map(|(name, field_type)| ((*name).to_owned(), *field_type));
        let more = (FIELDS.len()..columns).map(|n| (format!("More{n}__c"), MORE[n % MORE.len()]));
        let directory = directory.join("pages");
        std::fs::create_dir_all(&directory)?;
        Ok(Self { directory, fields: fixed.chain(more).collect(), records, page_records })
    }

    pub(super) fn columns(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn pages(&self) -> usize {
        self.records.div_ceil(self.page_records)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn describe(&self) -> Describe {
        describe(self.fields.len())
    }

    /// Writes all pages of a version; answers with their bytes.
    pub(super) fn write(&self, version: Version) -> anyhow::Result<usize> {
        let mut bytes = 0;
        for page in 0..self.pages() {
            let mut file = BufWriter::with_capacity(1 << 20, File::create(path(&self.directory, version, page))?);
            let header: Vec<String> = self.fields.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            writeln!(file, "{}", header.join(","))?;
            let mut line = String::new();
            for number in page * self.page_records..self.records.min((page + 1) * self.page_records) {
                line.clear();
                self.record(&mut line, number, version)?;
                bytes += line.len();
                file.write_all(line.as_bytes())?;
            }
            file.flush()?;
        }
        Ok(bytes)
    }

    fn record(&self, line: &mut String, number: usize, version: Version) -> std::fmt::Result {
        let mut random = number as u64;
        let mut draw = |below: u64| {
            // SplitMix64: cheap, and the same everywhere.
            random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = random;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) % below
        };
        let is_later = version == Version::Later;
        for (place, (name, field_type)) in self.fields.iter().enumerate() {
            line.push_str(if place == 0 { "\"" } else { "\",\"" });
            let word = WORDS[usize::try_from(draw(WORDS.len() as u64)).unwrap_or(0)];
            let (day, secs) = (draw(28) + 1, draw(60));
            match (name.as_str(), *field_type) {
                ("Id", _) => write!(line, "a0B000{number:012}")?,
                ("IsDeleted", _) => line.push_str("false"),
                ("SystemModstamp" | "LastModifiedDate", _) => {
                    let month = if is_later { "09" } else { "08" };
                    write!(line, "2026-{month}-{day:02}T10:20:{secs:02}.000Z")?;
                }
                ("Amount__c", _) => write!(line, "{}.{:02}", draw(1_000_000) + u64::from(is_later), secs)?,
                ("Title", _) if is_later => write!(line, "Later {word} {number}")?,
                ("Email", _) => write!(line, "{}.{number}@example.com", word.to_ascii_lowercase())?,
                ("Website", _) => write!(line, "https://www.example.com/{number}")?,
                ("MailingStreet", _) => write!(line, "{day} {word} Street\nFloor {secs}, \"\"left\"\"")?,
                ("Description", _) => {
                    for _ in 0..50 {
                        line.push_str(WORDS[usize::try_from(draw(WORDS.len() as u64)).unwrap_or(0)]);
                        line.push(' ');
                    }
                }
                (_, "reference") => write!(line, "005000{:012}", draw(10_000))?,
                (_, "boolean") => line.push_str(if day > 14 { "true" } else { "false" }),
                (_, "int") => write!(line, "{}", draw(10_000))?,
                (_, "double") => write!(line, "{day}.{secs}")?,
                (_, "date") => write!(line, "19{:02}-03-{day:02}", draw(100))?,
                (_, "datetime") => write!(line, "2025-03-{day:02}T01:02:{secs:02}.000Z")?,
                // A third of what is optional is empty.
                (_, "string") if place >= FIELDS.len() && secs < 20 => {}
                _ => write!(line, "{word} {secs}")?,
            }
        }
        line.push_str("\"\n");
        Ok(())
    }
}

/// Where a page of a version is.
pub(super) fn path(directory: &Path, version: Version, page: usize) -> PathBuf {
    directory.join(format!("{}_{page}.csv", version.as_str()))
}

/// What the object is said to be.
pub(super) fn describe(columns: usize) -> Describe {
    let fixed = FIELDS.iter().map(|(name, field_type)| ((*name).to_owned(), *field_type));
    let more = (FIELDS.len()..columns).map(|n| (format!("More{n}__c"), MORE[n % MORE.len()]));
    let field = |(name, field_type): (String, &str)| Field {
        name,
        field_type: field_type.to_owned(),
        nillable: true,
        length: 0,
        precision: 0,
        scale: 0,
        calculated: false,
        compound: false,
    };
    Describe { name: OBJECT.to_owned(), fields: fixed.chain(more).map(field).collect() }
}
