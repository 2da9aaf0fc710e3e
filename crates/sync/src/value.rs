//! What one value of a vendor's JSON or CSV becomes as a column's text. Decimals keep every digit, "NA" stays text, and an
//! empty text is no value (Salesforce keeps none). What fits no column is refused with a reason, never bent.

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, SecondsFormat, Utc};
use std::borrow::Cow;
use store::ColumnType;

/// Longest number, in characters, and greatest exponent: PostgreSQL's numeric takes far more, but nothing real has it.
const NUMBER_CHARS_MAX: usize = 1_000;
const EXPONENT_MAX: u32 = 400;
/// The vendor's types of fields whose values are text.
const TEXT_TYPES: [&str; 13] = [
    "string",
    "textarea",
    "phone",
    "url",
    "email",
    "picklist",
    "multipicklist",
    "combobox",
    "encryptedstring",
    "anyType",
    "datacategorygroupreference",
    "complexvalue",
    "json",
];
/// Longest part of a value that goes into a reason, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// How a field's values are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// As text, whatever it is.
    Text,
    /// As another record's id, brought to 18 characters.
    Id,
    /// true or false.
    Boolean,
    /// A whole number; Salesforce may write `7.0`.
    Whole,
    /// A decimal, exact.
    Decimal,
    /// A day.
    Date,
    /// An instant: `…07.000+0000` by REST, `…07.000Z` in bulk.
    Datetime,
    /// A time of day.
    Time,
}

impl Reading {
    /// How a field of a type is read; `None` for what is no value of its own: compounds (their parts are fields) and
    /// binary content. A type that is not known is text.
    pub(crate) fn of(field_type: &str) -> Option<Self> {
        Some(match field_type {
            "address" | "location" | "base64" => return None,
            "id" | "reference" => Self::Id,
            "boolean" => Self::Boolean,
            "int" | "long" => Self::Whole,
            "double" | "currency" | "percent" => Self::Decimal,
            "date" => Self::Date,
            "datetime" => Self::Datetime,
            "time" => Self::Time,
            _ => Self::Text,
        })
    }

    /// Whether a type is one of those that this program has been told of.
    pub(crate) fn is_known(field_type: &str) -> bool {
        Self::of(field_type) != Some(Self::Text) || TEXT_TYPES.contains(&field_type)
    }

    pub(crate) const fn column_type(self) -> ColumnType {
        match self {
            Self::Text | Self::Id => ColumnType::Text,
            Self::Boolean => ColumnType::Boolean,
            Self::Whole => ColumnType::Bigint,
            Self::Decimal => ColumnType::Numeric,
            Self::Date => ColumnType::Date,
            Self::Datetime => ColumnType::Timestamptz,
            Self::Time => ColumnType::Time,
        }
    }

    /// The column's text for a value in JSON.
    ///
    /// # Errors
    /// Why it fits no such column.
    pub(crate) fn cell(self, json: &str) -> Result<Option<Cow<'_, str>>, String> {
        text_of(json)?.map_or(Ok(None), |text| self.text(text))
    }

    /// The column's text for a value that came as text. Whatever form it came in, what means the same is the same text
    /// afterwards: the content's hash is made of it.
    ///
    /// # Errors
    /// Why it fits no such column.
    pub(crate) fn text(self, text: Cow<'_, str>) -> Result<Option<Cow<'_, str>>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let wrong = |what: &str| format!("{} is no {what}", shown(&text));
        Ok(Some(match self {
            Self::Text if text.contains('\0') => {
                return Err("the text holds a NUL, which PostgreSQL cannot store".to_owned());
            }
            Self::Text => text,
            Self::Id if is_whole_id(&text) => text,
            Self::Id => match salesforce::id18(&text) {
                Some(id) => Cow::Owned(id),
                None if text.contains('\0') => return Err(wrong("id")),
                None => text,
            },
            Self::Boolean if matches!(&*text, "true" | "false") => text,
            Self::Boolean => return Err(wrong("boolean")),
            Self::Whole if is_short_whole(&text) => text,
            Self::Whole => whole(&text).ok_or_else(|| wrong("whole number of 64 bits"))?.to_string().into(),
            Self::Decimal if is_decimal(&text) && is_plain(&text) => text,
            Self::Decimal if is_decimal(&text) => plain(&text).into(),
            Self::Decimal => return Err(wrong("decimal number")),
            Self::Date if usual_day(text.as_bytes()).is_some() => text,
            Self::Date => day(&text).ok_or_else(|| wrong("date"))?.to_string().into(),
            Self::Datetime if usual_instant(&text).is_some() => [&text[..USUAL_CHARS], "000Z"].concat().into(),
            Self::Datetime => {
                let at = instant(&text).ok_or_else(|| wrong("date and time"))?;
                at.to_rfc3339_opts(SecondsFormat::Micros, true).into()
            }
            Self::Time => {
                let time = NaiveTime::parse_from_str(text.trim_end_matches('Z'), "%H:%M:%S%.f");
                time.map_err(|_| wrong("time of day"))?.format("%H:%M:%S%.6f").to_string().into()
            }
        }))
    }
}

/// The text of a JSON value: a string's content, anything else as it is written; `None` for null.
fn text_of(json: &str) -> Result<Option<Cow<'_, str>>, String> {
    let Some(inner) = json.strip_prefix('"') else {
        return Ok((json != "null").then_some(Cow::Borrowed(json)));
    };
    match inner.strip_suffix('"') {
        Some(plain) if !plain.contains('\\') => Ok(Some(Cow::Borrowed(plain))),
        _ => serde_json::from_str::<String>(json).map(|text| Some(Cow::Owned(text))).map_err(|error| error.to_string()),
    }
}

fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect::<String>().escape_debug().to_string();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

fn whole(text: &str) -> Option<i64> {
    let digits = match text.split_once('.') {
        Some((digits, fraction)) if !fraction.is_empty() && fraction.bytes().all(|byte| byte == b'0') => digits,
        Some(_) => return None,
        None => text,
    };
    digits.parse().ok()
}

/// `-?digits[.digits][e±digits]`
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (text, None),
    };
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa = mantissa.strip_prefix('-').unwrap_or(mantissa);
    let is_number = match mantissa.split_once('.') {
        Some((whole, fraction)) => all_digits(whole) && all_digits(fraction),
        None => all_digits(mantissa),
    };
    let is_small = exponent.is_none_or(|digits| {
        all_digits(digits) && digits.parse::<u32>().is_ok_and(|exponent| exponent <= EXPONENT_MAX)
    });
    text.len() <= NUMBER_CHARS_MAX && is_number && is_small
}

/// Whether a decimal is written as [`plain`] would write it, as nearly all are.
fn is_plain(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let has_leading_zero = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    let has_trailing_zero = digits.ends_with('0') && digits.contains('.');
    !has_leading_zero && !has_trailing_zero && text != "-0" && !digits.contains(['e', 'E'])
}

/// The same decimal without an exponent and without zeros that say nothing: the vendor writes one value as `1.39E8` here
/// and as `139000000.0` there.
fn plain(text: &str) -> String {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}");
    // Where the point is, counted from the first digit.
    let mut point = i32::try_from(whole.len()).unwrap_or(i32::MAX).saturating_add(exponent);
    while point <= 0 {
        digits.insert(0, '0');
        point += 1;
    }
    let point = usize::try_from(point).unwrap_or(usize::MAX);
    while digits.len() < point {
        digits.push('0');
    }
    let (whole, fraction) = digits.split_at(point);
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    match fraction {
        "" if whole == "0" => whole.to_owned(),
        "" => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction}"),
    }
}

fn day(text: &str) -> Option<NaiveDate> {
    text.parse::<NaiveDate>().ok().filter(|day| (1..=9_999).contains(&day.year()))
}

/// An id of 18 characters, which stays as it is.
fn is_whole_id(text: &str) -> bool {
    text.len() == 18 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A whole number that is written as PostgreSQL writes it, and fits for certain.
fn is_short_whole(text: &str) -> bool {
    text == "0"
        || ((1..=18).contains(&text.len()) && !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `2024-09-24T03:26:07.000`: nearly all instants begin so.
const USUAL_CHARS: usize = 23;

/// `2024-09-24`, by the shortest way.
fn usual_day(text: &[u8]) -> Option<NaiveDate> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else { return None };
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
    };
    let year = i32::try_from(number(&[*y1, *y2, *y3, *y4])?).ok().filter(|year| *year > 0)?;
    NaiveDate::from_ymd_opt(year, number(&[*m1, *m2])?, number(&[*d1, *d2])?)
}

/// An instant in UTC with milliseconds, by the shortest way.
fn usual_instant(text: &str) -> Option<DateTime<Utc>> {
    let (at, zone) = text.as_bytes().split_at_checked(USUAL_CHARS)?;
    if !matches!(zone, b"Z" | b"+0000") {
        return None;
    }
    let (day, time) = at.split_at_checked(10)?;
    let [b'T', h1, h2, b':', m1, m2, b':', s1, s2, b'.', f1, f2, f3] = time else { return None };
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
    };
    let (hour, minute, second) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?, number(&[*s1, *s2])?);
    Some(usual_day(day)?.and_hms_milli_opt(hour, minute, second, number(&[*f1, *f2, *f3])?)?.and_utc())
}

/// An instant as Salesforce writes it, in REST or in bulk.
pub(crate) fn instant(text: &str) -> Option<DateTime<Utc>> {
    if let Some(at) = usual_instant(text) {
        return Some(at);
    }
    let at = DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%#z").ok()?.to_utc();
    (1..=9_999).contains(&at.year()).then_some(at)
}

/// The text in a JSON string, if it is one and not empty.
pub(crate) fn string(json: &str) -> Option<String> {
    serde_json::from_str::<String>(json).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cell(reading: Reading, json: &str) -> Option<String> {
        reading.cell(json).unwrap().map(Cow::into_owned)
    }

    #[test]
    fn values_keep_what_they_say() {
        let cases = [
            (Reading::Text, "\"NA\"", Some("NA")),
            (Reading::Text, "\"\"", None),
            (Reading::Text, "null", None),
            (Reading::Text, "\"null\"", Some("null")),
            (Reading::Text, r#""a\n\"b\" \u00e9""#, Some("a\n\"b\" é")),
            (Reading::Text, "{\"a\":1}", Some("{\"a\":1}")),
            (Reading::Text, "1.10", Some("1.10")),
            (Reading::Id, "\"001D000000IRFma\"", Some("001D000000IRFmaIAH")),
            (Reading::Id, "\"not an id\"", Some("not an id")),
            (Reading::Boolean, "true", Some("true")),
            (Reading::Whole, "7.0", Some("7")),
            (Reading::Whole, "\"-12\"", Some("-12")),
            (Reading::Decimal, "0.10000000000000000000000001", Some("0.10000000000000000000000001")),
            (Reading::Decimal, "12345678901234567890.5", Some("12345678901234567890.5")),
            (Reading::Decimal, "1E+2", Some("100")),
            (Reading::Decimal, "1.39E8", Some("139000000")),
            (Reading::Decimal, "-1.50e-3", Some("-0.0015")),
            (Reading::Decimal, "139000000.0", Some("139000000")),
            (Reading::Decimal, "-0.00", Some("0")),
            (Reading::Decimal, "-0", Some("0")),
            (Reading::Decimal, "007.25", Some("7.25")),
            (Reading::Decimal, "0E-400", Some("0")),
            (Reading::Date, "\"2024-02-29\"", Some("2024-02-29")),
            (Reading::Datetime, "\"2024-09-24T03:26:07.000+0000\"", Some("2024-09-24T03:26:07.000000Z")),
            (Reading::Datetime, "\"2024-09-24T03:26:07.000Z\"", Some("2024-09-24T03:26:07.000000Z")),
            (Reading::Time, "\"08:30:00.000Z\"", Some("08:30:00.000000")),
        ];
        for (reading, json, wanted) in cases {
            assert_eq!(cell(reading, json).as_deref(), wanted, "{reading:?} {json}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_a_reason() {
        for (reading, json) in [
            (Reading::Text, r#""a\u0000b""#),
            (Reading::Id, r#""\u0000""#),
            (Reading::Boolean, "\"maybe\""),
            (Reading::Whole, "7.5"),
            (Reading::Whole, "9223372036854775808"),
            (Reading::Whole, "7."),
            (Reading::Decimal, "\"twelve\""),
            (Reading::Decimal, "1e999"),
            (Reading::Decimal, "\"NaN\""),
            (Reading::Date, "\"2023-02-29\""),
            (Reading::Date, "\"+12024-01-01\""),
            (Reading::Datetime, "\"yesterday\""),
            (Reading::Time, "\"25:00:00.000Z\""),
        ] {
            let reason = reading.cell(json).unwrap_err();
            assert!(reason.len() < 200, "{reason}");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_through(text in "[^\0]+") {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(cell(Reading::Text, &json), Some(text));
        }

        #[test]
        fn no_value_breaks_a_reading(json in ".*") {
            for reading in [Reading::Text, Reading::Id, Reading::Boolean, Reading::Whole, Reading::Decimal, Reading::Date,
                            Reading::Datetime, Reading::Time] {
                drop(reading.cell(&json));
            }
        }

        #[test]
        fn the_short_way_says_what_the_long_one_says(text in "(20|00|99)[0-9]{2}-[0-3][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]\\.[0-9]{3}(Z|\\+0000|\\+0100)") {
            let long = DateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f%#z").ok().map(|at| at.to_utc());
            let long = long.filter(|at| (1..=9_999).contains(&at.year()));
            if let Some(short) = usual_instant(&text) {
                prop_assert_eq!(Some(short), long);
            }
            prop_assert_eq!(Reading::Datetime.cell(&format!("\"{text}\"")).is_ok(), instant(&text).is_some());
        }

        #[test]
        fn a_decimal_has_one_text(whole in "-?[0-9]{1,9}", fraction in "(\\.[0-9]{1,6})?", exponent in -9_i32..9) {
            let text = format!("{whole}{fraction}e{exponent}");
            let once = cell(Reading::Decimal, &text).unwrap();
            prop_assert!(is_plain(&once), "{}", once);
            prop_assert_eq!(&plain(&once), &once);
            prop_assert_eq!(once.parse::<f64>().unwrap(), text.parse::<f64>().unwrap());
        }

        #[test]
        fn whole_numbers_come_back(number: i64) {
            prop_assert_eq!(cell(Reading::Whole, &number.to_string()), Some(number.to_string()));
        }
    }
}
