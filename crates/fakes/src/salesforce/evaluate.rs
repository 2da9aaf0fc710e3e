//! Owns what a query finds in an object. Does not own its grammar, nor how the records found are sent.

use std::{cmp::Ordering, sync::Arc};

use super::{
    organisation::{FieldType, Object, Record, Value},
    reply::Refusal,
    soql::{Filter, Literal, Operator, Query},
};

/// What a query found.
pub(super) struct Found {
    /// The places of the fields asked for.
    pub places: Vec<usize>,
    /// The records, in order.
    pub records: Vec<Arc<Record>>,
}

/// Runs `query` on `object`; `all` includes the recycle bin.
///
/// # Errors
/// A field is not known or a value does not fit it.
pub(super) fn run(object: &Object, query: &Query, all: bool) -> Result<Found, Refusal> {
    let place = |name: &String| object.place(name).ok_or_else(|| Refusal::no_field(name, &object.name));
    let places = query.fields.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let order = query.order.iter().map(|(name, descends)| Ok((place(name)?, *descends)));
    let order = order.collect::<Result<Vec<_>, Refusal>>()?;
    let test = query.filter.as_ref().map(|filter| compile(object, filter)).transpose()?;
    let mut records: Vec<_> = object
        .records
        .values()
        .filter(|record| all || !record.is_deleted())
        .filter(|record| test.as_ref().is_none_or(|test| test.holds(record)))
        .cloned()
        .collect();
    if !order.is_empty() {
        records.sort_by(|a, b| {
            let pairs = order.iter().map(|(place, descends)| {
                let exact = is_id(object.fields[*place].field_type);
                let ordering = compare(&a.0[*place], &b.0[*place], exact);
                if *descends { ordering.reverse() } else { ordering }
            });
            pairs.fold(Ordering::Equal, Ordering::then)
        });
    }
    if let Some(limit) = query.limit {
        records.truncate(limit);
    }
    Ok(Found { places, records })
}

enum Test {
    And(Vec<Test>),
    Or(Vec<Test>),
    Not(Box<Test>),
    Compare { place: usize, exact: bool, operator: Operator, value: Value },
}

impl Test {
    fn holds(&self, record: &Record) -> bool {
        match self {
            Self::And(all) => all.iter().all(|test| test.holds(record)),
            Self::Or(any) => any.iter().any(|test| test.holds(record)),
            Self::Not(test) => !test.holds(record),
            Self::Compare { place, exact, operator, value } => {
                let found = &record.0[*place];
                let ordering = compare(found, value, *exact);
                // Null is equal to null and differs from all else, but it is neither less nor greater than anything.
                let both = *found != Value::Null && *value != Value::Null;
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
        Value::Double(value) => *value,
        _ => f64::NAN,
    }
}

fn compile(object: &Object, filter: &Filter) -> Result<Test, Refusal> {
    let all = |filters: &[Filter]| filters.iter().map(|filter| compile(object, filter)).collect::<Result<Vec<_>, _>>();
    let compare = |name: &str, operator: Operator, literal: &Literal| {
        let place = object.place(name).ok_or_else(|| Refusal::no_field(name, &object.name))?;
        let field_type = object.fields[place].field_type;
        let value = fit(name, field_type, literal)?;
        Ok::<_, Refusal>(Test::Compare { place, exact: is_id(field_type), operator, value })
    };
    Ok(match filter {
        Filter::And(filters) => Test::And(all(filters)?),
        Filter::Or(filters) => Test::Or(all(filters)?),
        Filter::Not(filter) => Test::Not(Box::new(compile(object, filter)?)),
        Filter::Compare(name, operator, literal) => compare(name, *operator, literal)?,
        Filter::In(name, not, literals) => {
            let any = literals.iter().map(|literal| compare(name, Operator::Equal, literal));
            let any = Test::Or(any.collect::<Result<_, _>>()?);
            if *not { Test::Not(Box::new(any)) } else { any }
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
        (T::Int | T::Double | T::Currency | T::Percent, Literal::Number(value)) => Value::Double(*value),
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
