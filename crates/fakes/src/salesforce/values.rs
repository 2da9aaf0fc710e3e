//! Owns how records look on the wire: REST's JSON and the rows of bulk results.
//! Does not own which records are sent, nor the envelope around them.

use std::io::Write;

use chrono::{DateTime, Utc};

use super::{
    field::FieldType,
    organisation::Object,
    record::{Record, decimal},
};

/// From here on REST writes a number with an exponent, as `1.0E7`.
const EXPONENT_FROM_DIGITS: usize = 8;

/// An instant as REST writes it, `2024-09-24T03:26:07.000+0000`.
#[must_use]
pub(super) fn wire_datetime(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S.000+0000").to_string()
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    // Writing into memory cannot fail.
    drop(serde_json::to_writer(out, text));
}

/// A number with a fraction as REST writes it: all its digits, with an exponent if it is large.
fn write_number(out: &mut Vec<u8>, plain: &str) {
    let (sign, digits) = plain.strip_prefix('-').map_or(("", plain), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if whole.len() < EXPONENT_FROM_DIGITS {
        out.extend_from_slice(plain.as_bytes());
        return;
    }
    let all = format!("{whole}{fraction}");
    let mantissa = all[1..].trim_end_matches('0');
    let mantissa = if mantissa.is_empty() { "0" } else { mantissa };
    drop(write!(out, "{sign}{}.{mantissa}E{}", &whole[..1], whole.len() - 1));
}

/// A value as JSON. What is not of its type is sent as text, whatever it is.
fn write_value(out: &mut Vec<u8>, field_type: FieldType, text: &str) {
    use FieldType as T;
    match field_type {
        _ if text.is_empty() => out.extend_from_slice(b"null"),
        T::Boolean if matches!(text, "true" | "false") => out.extend_from_slice(text.as_bytes()),
        T::Int if text.parse::<i64>().is_ok() => out.extend_from_slice(text.as_bytes()),
        T::Double | T::Currency | T::Percent if decimal(text).is_some() => write_number(out, text),
        T::Datetime if text.ends_with(".000Z") => {
            drop(write!(out, "\"{}+0000\"", text.trim_end_matches('Z')));
        }
        _ => write_text(out, text),
    }
}

/// One field of a record as REST writes it; a compound is an object of its parts.
pub(super) fn write_field(out: &mut Vec<u8>, object: &Object, record: &Record, place: usize) {
    let field = &object.fields[place];
    if field.field_type != FieldType::Address {
        return write_value(out, field.field_type, &record.text(place));
    }
    let prefix = field.name.trim_end_matches("Address");
    let parts = || {
        let parts = object.fields.iter().enumerate();
        parts.filter(|(_, part)| part.compound.as_deref() == Some(&field.name))
    };
    if parts().all(|(place, _)| record.raw(place).is_empty()) {
        return out.extend_from_slice(b"null");
    }
    for (index, (place, part)) in parts().enumerate() {
        out.push(if index == 0 { b'{' } else { b',' });
        let name = part.name.trim_start_matches(prefix);
        write_text(out, &(name[..1].to_lowercase() + &name[1..]));
        out.push(b':');
        write_value(out, part.field_type, &record.text(place));
    }
    out.push(b'}');
}

/// A record as REST writes it: the fields at `places`, after its attributes if there is a `base` for its address.
pub(super) fn write_record(out: &mut Vec<u8>, object: &Object, record: &Record, places: &[usize], base: Option<&str>) {
    out.push(b'{');
    if let Some(base) = base {
        let (name, id) = (&object.name, record.id());
        drop(write!(out, r#""attributes":{{"type":"{name}","url":"{base}/sobjects/{name}/{id}"}}"#));
    }
    for (index, place) in places.iter().enumerate() {
        if index > 0 || base.is_some() {
            out.push(b',');
        }
        write_text(out, &object.fields[*place].name);
        out.push(b':');
        write_field(out, object, record, *place);
    }
    out.push(b'}');
}

/// The form of the rows of a bulk result.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    /// Neighbours in the record's line, which are copied at once.
    runs: Vec<(usize, usize)>,
    delimiter: u8,
    line_ending: &'static str,
}

impl Rows {
    /// Rows of the fields at `places`.
    #[must_use]
    pub(super) fn new(places: &[usize], delimiter: u8, line_ending: &'static str) -> Self {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for place in places {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == *place && delimiter == b',' => *last = *place,
                _ => runs.push((*place, *place)),
            }
        }
        Self { runs, delimiter, line_ending }
    }

    /// The line that opens every page.
    #[must_use]
    pub(super) fn header(&self, names: &[String]) -> Vec<u8> {
        let delimiter = format!("\"{}\"", char::from(self.delimiter));
        format!("\"{}\"{}", names.join(&delimiter), self.line_ending).into_bytes()
    }

    /// Adds one row.
    pub(super) fn write(&self, out: &mut Vec<u8>, record: &Record) {
        for (index, (first, last)) in self.runs.iter().enumerate() {
            if index > 0 {
                out.push(self.delimiter);
            }
            if let Some(run) = record.run(*first, *last) {
                out.extend_from_slice(run.as_bytes());
                continue;
            }
            // A record older than its object's newest field.
            for place in *first..=*last {
                out.extend_from_slice(if place == *first { b"\"" } else { b",\"" });
                out.extend_from_slice(record.raw(place).as_bytes());
                out.push(b'"');
            }
        }
        out.extend_from_slice(self.line_ending.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::salesforce::record::Value;

    fn number(plain: &str) -> String {
        let mut out = Vec::new();
        write_value(&mut out, FieldType::Currency, plain);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn large_numbers_have_an_exponent_and_all_their_digits() {
        assert_eq!(number("9999999.5"), "9999999.5");
        assert_eq!(number("10000000.0"), "1.0E7");
        assert_eq!(number("-350000000.25"), "-3.5000000025E8");
        assert_eq!(number("1234567890123456.78"), "1.23456789012345678E15");
        assert_eq!(number("12,5"), "\"12,5\"", "a damaged number is sent as it is");
    }

    #[test]
    fn rows_follow_the_delimiter_and_the_choice_of_fields() {
        let values: Vec<_> = ["a", "b", "c\"d", ""].into_iter().map(Value::text).collect();
        let record = Record::new(&values);
        let row = |places: &[usize], delimiter, ending| {
            let mut out = Vec::new();
            Rows::new(places, delimiter, ending).write(&mut out, &record);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(row(&[0, 1, 2, 3], b',', "\n"), "\"a\",\"b\",\"c\"\"d\",\"\"\n");
        assert_eq!(row(&[2, 0], b'|', "\r\n"), "\"c\"\"d\"|\"a\"\r\n");
        assert_eq!(row(&[2, 3, 4], b',', "\n"), "\"c\"\"d\",\"\",\"\"\n");
        let header = Rows::new(&[0, 1], b'\t', "\n").header(&["Id".to_owned(), "Name".to_owned()]);
        assert_eq!(header, b"\"Id\"\t\"Name\"\n");
    }
}
