//! Owns what a query finds in an object. Does not own its grammar, nor how the records found are sent.

use std::{cmp::Ordering, sync::Arc};

use chrono::{DateTime, NaiveTime, Utc};

use super::{
    field::FieldType,
    organisation::Object,
    record::{Record, Value},
    reply::Refusal,
    soql::{Filter, Literal, Operator, Query},
    soql_dates, soql_lex,
};

/// Salesforce passes over no more.
const OFFSET_MAX: usize = 2_000;

/// What a query found.
pub(super) struct Found {
    /// The places of the fields asked for.
    pub places: Vec<usize>,
    /// The records, in order.
    pub records: Vec<Arc<Record>>,
}

/// Runs `query` on `object` at `now`; `all` includes the recycle bin.
///
/// # Errors
/// A field is not known or a value does not fit it.
pub(super) fn run(object: &Object, query: &Query, all: bool, now: DateTime<Utc>) -> Result<Found, Refusal> {
    let place = |name: &String| object.place(name).ok_or_else(|| Refusal::no_field(name, &object.name));
    let places = query.fields.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let order = query.order.iter().map(|order| Ok((place(&order.field)?, order)));
    let order = order.collect::<Result<Vec<_>, Refusal>>()?;
    let test = query.filter.as_ref().map(|filter| compile(object, filter, now)).transpose()?;
    let offset = query.offset.unwrap_or(0);
    if offset > OFFSET_MAX {
        return Err(Refusal::new(
            axum::http::StatusCode::BAD_REQUEST,
            "NUMBER_OUTSIDE_VALID_RANGE",
            format!("Maximum SOQL offset allowed is {OFFSET_MAX}"),
        ));
    }
    let mut records: Vec<_> = object
        .records
        .values()
        .filter(|record| all || !record.is_deleted())
        .filter(|record| test.as_ref().is_none_or(|test| test.holds(record)))
        .cloned()
        .collect();
    if !order.is_empty() {
        records.sort_by(|a, b| {
            let pairs = order.iter().map(|(place, order)| {
                let field_type = object.fields[*place].field_type;
                let (a, b) = (a.value(*place, field_type), b.value(*place, field_type));
                // NULLS FIRST and LAST mean what they say, whichever way the rest goes.
                match (a == Value::Null, b == Value::Null) {
                    (false, false) => {
                        let ordering = compare(&a, &b, is_id(field_type));
                        if order.descends { ordering.reverse() } else { ordering }
                    }
                    (a, b) if order.nulls_last => a.cmp(&b),
                    (a, b) => b.cmp(&a),
                }
            });
            pairs.fold(Ordering::Equal, Ordering::then)
        });
    }
    records.drain(..offset.min(records.len()));
    if let Some(limit) = query.limit {
        records.truncate(limit);
    }
    Ok(Found { places, records })
}

enum Test {
    And(Vec<Test>),
    Or(Vec<Test>),
    Not(Box<Test>),
    Compare { place: usize, field_type: FieldType, operator: Operator, value: Value },
    Like { place: usize, pattern: String },
}

impl Test {
    fn holds(&self, record: &Record) -> bool {
        match self {
            Self::And(all) => all.iter().all(|test| test.holds(record)),
            Self::Or(any) => any.iter().any(|test| test.holds(record)),
            Self::Not(test) => !test.holds(record),
            Self::Like { place, pattern } => {
                let text = record.text(*place);
                !text.is_empty() && soql_lex::is_like(&text, pattern)
            }
            Self::Compare { place, field_type, operator, value } => {
                let found = record.value(*place, *field_type);
                let ordering = compare(&found, value, is_id(*field_type));
                // Null is equal to null and differs from all else, but it is neither less nor greater than anything.
                let both = found != Value::Null && *value != Value::Null;
                match operator {
                    Operator::Equal => ordering.is_eq(),
                    Operator::NotEqual => ordering.is_ne(),
                    Operator::Less => both && ordering.is_lt(),
                    Operator::LessOrEqual => both && ordering.is_le(),
                    Operator::Greater => both && ordering.is_gt(),
                    Operator::GreaterOrEqual => both && ordering.is_ge(),
                }
            }
        }
    }
}

fn is_id(field_type: FieldType) -> bool {
    matches!(field_type, FieldType::Id | FieldType::Reference)
}

/// Null comes first. Text ignores case except in ids, whose checksum says nothing new.
fn compare(a: &Value, b: &Value, exact: bool) -> Ordering {
    match (a, b) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) if exact => a.get(..15).unwrap_or(a).cmp(b.get(..15).unwrap_or(b)),
        (Value::Text(a), Value::Text(b)) => {
            let fold = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
            fold(a).cmp(&fold(b))
        }
        (Value::Date(a), Value::Date(b)) => a.cmp(b),
        (Value::Datetime(a), Value::Datetime(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (a, b) => number(a).total_cmp(&number(b)),
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Int(value) => *value as f64,
        Value::Decimal(value) => value.parse().unwrap_or(f64::NAN),
        _ => f64::NAN,
    }
}

fn compile(object: &Object, filter: &Filter, now: DateTime<Utc>) -> Result<Test, Refusal> {
    let all =
        |filters: &[Filter]| filters.iter().map(|filter| compile(object, filter, now)).collect::<Result<Vec<_>, _>>();
    let place = |name: &str| object.place(name).ok_or_else(|| Refusal::no_field(name, &object.name));
    let compare = |name: &str, operator: Operator, literal: &Literal| {
        let place = place(name)?;
        let field_type = object.fields[place].field_type;
        if let Literal::Days(word, count) = literal {
            return days(name, place, field_type, operator, soql_dates::days(word, *count, now));
        }
        let value = fit(name, field_type, literal)?;
        Ok::<_, Refusal>(Test::Compare { place, field_type, operator, value })
    };
    Ok(match filter {
        Filter::And(filters) => Test::And(all(filters)?),
        Filter::Or(filters) => Test::Or(all(filters)?),
        Filter::Not(filter) => Test::Not(Box::new(compile(object, filter, now)?)),
        Filter::Compare(name, operator, literal) => compare(name, *operator, literal)?,
        Filter::Like(name, pattern) => {
            let place = place(name)?;
            let field_type = object.fields[place].field_type;
            fit(name, field_type, &Literal::Text(String::new()))?;
            Test::Like { place, pattern: pattern.clone() }
        }
        Filter::In(name, not, literals) => {
            let any = literals.iter().map(|literal| compare(name, Operator::Equal, literal));
            let any = Test::Or(any.collect::<Result<_, _>>()?);
            if *not { Test::Not(Box::new(any)) } else { any }
        }
    })
}

/// A comparison with a span of days: equal is within it, less is before it, greater is after it.
fn days(
    name: &str,
    place: usize,
    field_type: FieldType,
    operator: Operator,
    days: Option<soql_dates::Days>,
) -> Result<Test, Refusal> {
    use Operator as O;
    let Some((first, end)) = days else { return Err(Refusal::invalid_field(format!("{name}: no such days"))) };
    let bound = |day: chrono::NaiveDate| match field_type {
        FieldType::Date => Ok(Value::Date(day)),
        FieldType::Datetime => Ok(Value::Datetime(day.and_time(NaiveTime::MIN).and_utc())),
        _ => Err(Refusal::invalid_field(format!("field '{name}' can not be compared with days"))),
    };
    let compare = |operator, day| Ok::<_, Refusal>(Test::Compare { place, field_type, operator, value: bound(day)? });
    Ok(match operator {
        O::Less => compare(O::Less, first)?,
        O::GreaterOrEqual => compare(O::GreaterOrEqual, first)?,
        O::LessOrEqual => compare(O::Less, end)?,
        O::Greater => compare(O::GreaterOrEqual, end)?,
        O::Equal => Test::And(vec![compare(O::GreaterOrEqual, first)?, compare(O::Less, end)?]),
        O::NotEqual => {
            let within = Test::And(vec![compare(O::GreaterOrEqual, first)?, compare(O::Less, end)?]);
            Test::Not(Box::new(within))
        }
    })
}

/// The value that a literal stands for in a field of this type.
fn fit(name: &str, field_type: FieldType, literal: &Literal) -> Result<Value, Refusal> {
    use FieldType as T;
    let value = match (field_type, literal) {
        (T::Address, _) => {
            return Err(Refusal::invalid_field(format!("field '{name}' can not be filtered in a query call")));
        }
        (_, Literal::Null) => Value::Null,
        (T::Boolean, Literal::Bool(value)) => Value::Bool(*value),
        (T::Int | T::Double | T::Currency | T::Percent, Literal::Number(value)) => {
            Value::Decimal(value.as_str().into())
        }
        (T::Date, Literal::Date(value)) => Value::Date(*value),
        (T::Datetime, Literal::Datetime(value)) => Value::Datetime(*value),
        (T::Boolean | T::Int | T::Double | T::Currency | T::Percent | T::Date | T::Datetime, literal) => {
            let quotes = if matches!(literal, Literal::Text(_)) { " and should not be enclosed in quotes" } else { "" };
            return Err(Refusal::invalid_field(format!(
                "value of filter criterion for field '{name}' must be of type {}{quotes}",
                field_type.name()
            )));
        }
        (_, Literal::Text(value)) => Value::text(value),
        _ => {
            let message = format!(
                "value of filter criterion for field '{name}' must be of type string and should be enclosed in quotes"
            );
            return Err(Refusal::invalid_field(message));
        }
    };
    Ok(value)
}
