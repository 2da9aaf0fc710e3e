//! Which fields a reading of a whole object asks for: those that tell a record and its version, those whose values move
//! without a stamp, and those that records lack. Does not own the reading (`snapshot`).

use crate::{PageWriter, Source, SyncError, layout::Layout};
use salesforce::Describe;
use store::{RecordTable, StreamSchema};

/// The fields that are worth reading of every record: those that move without a stamp, and those that records lack. One
/// without a column of its own lies among the extra fields, where it is as old as its record's last change.
pub(crate) async fn moving(
    source: Source<'_>,
    whole: &PageWriter,
    schema: &StreamSchema,
    describe: &Describe,
) -> Result<Vec<String>, SyncError> {
    let known = source.store.known_fields(schema.stream).await?;
    let unfilled = |name: &str| known.iter().any(|field| field.name == name && field.unfilled_since.is_some());
    let has_column = |name: &str| {
        let name = name.to_ascii_lowercase();
        whole.table().columns().iter().any(|column| column.name == name)
    };
    let fields = describe.fields.iter().filter(|field| field.calculated || unfilled(&field.name));
    Ok(fields.map(|field| field.name.clone()).filter(|name| has_column(name)).collect())
}

/// The layout and the table of a reading of some fields: those beside what tells a record and its version.
pub(crate) fn thin(describe: &Describe, whole: &PageWriter, fields: &[String]) -> (Layout, RecordTable) {
    let marks = whole.layout().mark_names();
    let is_read = |field: &&salesforce::Field| marks.contains(&field.name.as_str()) || fields.contains(&field.name);
    let fields: Vec<_> = describe.fields.iter().filter(is_read).cloned().collect();
    let names: Vec<String> = fields.iter().map(|field| field.name.to_ascii_lowercase()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let narrow = whole.table().narrowed(&names);
    let mut layout = Layout::of(&Describe { name: describe.name.clone(), fields });
    layout.bind(&narrow);
    (layout, narrow)
}
