//! Where a CSV page's records and values begin and end (RFC 4180, as Bulk API 2.0 writes it: a comma, LF or CRLF, quotes
//! doubled), as places in the bytes, without a copy. Owns what to do with bytes that are no record: they end where the
//! next record begins that can be read, so that damage stays with the record that has it.
//! Not a library's reader: those copy every value and give up, or swallow neighbours, where a quote is missing.

use memchr::{memchr, memchr3};

/// Longest record, in bytes. Salesforce's longest have some hundred text areas of 131,072 characters, nearly all empty.
pub(crate) const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A value's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// It holds quotes, each twice.
    pub(crate) is_doubled: bool,
}

/// What the bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A record that ends before this place; its values are in the spans.
    Record { end: usize },
    /// Bytes up to this place are no record.
    Damaged { end: usize, reason: String },
    /// More bytes have to come before it can be said.
    More,
    /// Nothing is left.
    End,
}

enum Parsed {
    Record(usize),
    More,
    Bad(&'static str),
}

/// Reads the next record of `bytes` from `at` on into `spans`. `is_end`: no bytes follow. `values` is how many values a
/// record has, once that is known; another number is damage.
pub(crate) fn next(bytes: &[u8], at: usize, is_end: bool, values: Option<usize>, spans: &mut Vec<Span>) -> Step {
    if at >= bytes.len() {
        return if is_end { Step::End } else { Step::More };
    }
    let reason = match parse(bytes, at, is_end, spans) {
        Parsed::Record(end) => match values {
            Some(values) if values != spans.len() => {
                let reason = format!("it has {} values where the header names {values}", spans.len());
                return Step::Damaged { end, reason };
            }
            _ => return Step::Record { end },
        },
        Parsed::More if bytes.len() - at <= RECORD_BYTES_MAX => return Step::More,
        Parsed::More => "it is too long",
        Parsed::Bad(reason) => reason,
    };
    // Each line may be the next record's beginning. It is if a quote opens there: within a value, where quotes are
    // doubled, none is followed by a letter or a digit. Or else if what begins there is a whole record.
    let mut from = at;
    while let Some(line) = memchr(b'\n', &bytes[from..]).map(|found| from + found + 1) {
        let is_quoted = matches!(bytes[line..], [b'"', first, ..] if first.is_ascii_alphanumeric());
        let is_record = match parse(bytes, line, is_end, spans) {
            _ if line == bytes.len() => is_end,
            _ if is_quoted => true,
            Parsed::Record(_) => values.is_none_or(|values| values == spans.len()),
            Parsed::More if bytes.len() - at <= RECORD_BYTES_MAX => return Step::More,
            Parsed::More | Parsed::Bad(_) => false,
        };
        if is_record {
            return Step::Damaged { end: line, reason: reason.to_owned() };
        }
        from = line;
    }
    if !is_end && bytes.len() - at <= RECORD_BYTES_MAX {
        return Step::More;
    }
    Step::Damaged { end: bytes.len(), reason: reason.to_owned() }
}

fn parse(bytes: &[u8], at: usize, is_end: bool, spans: &mut Vec<Span>) -> Parsed {
    spans.clear();
    let mut at = at;
    loop {
        if bytes.get(at) == Some(&b'"') {
            let start = at + 1;
            let (mut from, mut is_doubled) = (start, false);
            let end = loop {
                let Some(quote) = memchr(b'"', &bytes[from..]).map(|found| from + found) else {
                    return if is_end { Parsed::Bad("a quote is not closed") } else { Parsed::More };
                };
                if bytes.get(quote + 1) != Some(&b'"') {
                    break quote;
                }
                is_doubled = true;
                from = quote + 2;
            };
            spans.push(Span { start, end, is_doubled });
            match bytes.get(end + 1..).unwrap_or_default() {
                [b',', ..] => at = end + 2,
                [b'\n', ..] => return Parsed::Record(end + 2),
                [b'\r', b'\n', ..] => return Parsed::Record(end + 3),
                [] | [b'\r'] if is_end => return Parsed::Record(bytes.len()),
                [] | [b'\r'] => return Parsed::More,
                _ => return Parsed::Bad("something follows a closing quote"),
            }
        } else {
            let start = at;
            match memchr3(b',', b'\n', b'"', &bytes[start..]).map(|found| start + found) {
                Some(end) if bytes[end] == b',' => {
                    spans.push(Span { start, end, is_doubled: false });
                    at = end + 1;
                }
                Some(end) if bytes[end] == b'\n' => {
                    let text = bytes[start..end].strip_suffix(b"\r").map_or(end, |_| end - 1);
                    spans.push(Span { start, end: text, is_doubled: false });
                    return Parsed::Record(end + 1);
                }
                Some(_) => return Parsed::Bad("a quote stands within a value"),
                None if is_end => {
                    spans.push(Span { start, end: bytes.len(), is_doubled: false });
                    return Parsed::Record(bytes.len());
                }
                None => return Parsed::More,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The values of each record, and the bytes of each damage, read in steps of `step` bytes.
    fn read(bytes: &[u8], values: Option<usize>, step: usize) -> (Vec<Vec<String>>, Vec<String>) {
        let (mut records, mut damaged) = (Vec::new(), Vec::new());
        let (mut at, mut known, mut spans) = (0, 0, Vec::new());
        loop {
            match next(&bytes[..known], at, known == bytes.len(), values, &mut spans) {
                Step::Record { end } => {
                    let value = |span: &Span| {
                        let text = String::from_utf8(bytes[span.start..span.end].to_vec()).unwrap();
                        if span.is_doubled { text.replace("\"\"", "\"") } else { text }
                    };
                    records.push(spans.iter().map(value).collect());
                    at = end;
                }
                Step::Damaged { end, .. } => {
                    damaged.push(String::from_utf8_lossy(&bytes[at..end]).into_owned());
                    at = end;
                }
                Step::More => known = (known + step).min(bytes.len()),
                Step::End => return (records, damaged),
            }
        }
    }

    #[test]
    fn damage_stays_with_its_record() {
        let good = "\"1\",\"a\nb\"\n\"2\",\"c\"\n";
        for bad in ["\"x\",\"y\n", "\"x\",\"y\"z\"\n", "\"x\"\n", "\"x\",\"y\",\"z\"\n", "x\",\"y\n\n\n", "\"x\n"] {
            for step in [1, 7, 1_000] {
                let (records, damaged) = read(format!("{good}{bad}{good}").as_bytes(), Some(2), step);
                let ids: Vec<&str> = records.iter().map(|record| record[0].as_str()).collect();
                assert_eq!((ids, damaged.concat()), (vec!["1", "2", "1", "2"], bad.to_owned()), "{bad:?} by {step}");
            }
        }
    }

    #[test]
    fn a_page_that_is_cut_off_keeps_what_is_whole() {
        let (records, damaged) = read(b"\"1\",\"a\"\n\"2\",\"b", Some(2), 3);
        assert_eq!((records.len(), damaged), (1, vec!["\"2\",\"b".to_owned()]));
    }

    proptest! {
        #[test]
        fn what_a_library_writes_is_read_back(
            rows in prop::collection::vec(prop::collection::vec("[a-z,\"\n\r ü]{0,12}", 3), 1..20),
            step in 1_usize..50,
            is_crlf: bool,
            always_quoted: bool,
        ) {
            let terminator = if is_crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
            let style = if always_quoted { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary };
            let mut writer = csv::WriterBuilder::new().terminator(terminator).quote_style(style).from_writer(Vec::new());
            rows.iter().for_each(|row| writer.write_record(row).unwrap());
            let bytes = writer.into_inner().unwrap();
            prop_assert_eq!(read(&bytes, Some(3), step), (rows, Vec::new()));
        }

        #[test]
        fn no_byte_is_lost_whatever_comes(bytes in prop::collection::vec(prop::sample::select(b"a,\"\n\r".to_vec()), 0..60), step in 1_usize..9) {
            let (mut at, mut known, mut spans) = (0, 0, Vec::new());
            loop {
                match next(&bytes[..known], at, known == bytes.len(), Some(2), &mut spans) {
                    Step::Record { end } | Step::Damaged { end, .. } => {
                        prop_assert!(end > at && end <= bytes.len());
                        at = end;
                    }
                    Step::More => { prop_assert!(known < bytes.len()); known = (known + step).min(bytes.len()); }
                    Step::End => break,
                }
            }
            prop_assert_eq!(at, bytes.len());
        }
    }
}
