//! Owns the grammar of the queries that the simulated Salesforce understands. Does not own what they find.
//!
//! `SELECT a, b FROM X [WHERE e] [ORDER BY a [ASC|DESC] [NULLS FIRST|LAST], b] [LIMIT n] [OFFSET n]` and `SELECT COUNT() FROM X
//! [WHERE e]`, where `e` is conditions with `= != < <= > >= LIKE IN NOT IN`, joined by AND, OR, NOT and parentheses.

use chrono::{DateTime, NaiveDate, Utc};

use super::{
    record::decimal,
    soql_dates,
    soql_lex::{Token, tokens},
};

/// Parentheses nest no deeper, so that a query cannot exhaust the stack.
const DEPTH_MAX: usize = 32;

/// A query.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Query {
    /// Nothing stands for `COUNT()`.
    pub fields: Vec<String>,
    /// The object.
    pub from: String,
    /// The condition.
    pub filter: Option<Filter>,
    /// Fields, and how each orders.
    pub order: Vec<Order>,
    /// The most records.
    pub limit: Option<usize>,
    /// How many records are passed over first.
    pub offset: Option<usize>,
}

/// One field of ORDER BY.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Order {
    /// The field.
    pub field: String,
    /// From the greatest down.
    pub descends: bool,
    /// Nulls after all else.
    pub nulls_last: bool,
}

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Filter {
    /// All hold.
    And(Vec<Filter>),
    /// One holds.
    Or(Vec<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
    /// A field is compared with a value.
    Compare(String, Operator, Literal),
    /// A text is like a pattern.
    Like(String, String),
    /// A field has one of the values, or with `true` none of them.
    In(String, bool, Vec<Literal>),
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A value in a query.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    /// In single quotes.
    Text(String),
    /// With or without a fraction, as it was written.
    Number(String),
    /// `2024-09-24`.
    Date(NaiveDate),
    /// `2024-09-24T03:26:07Z`, never in quotes.
    Datetime(DateTime<Utc>),
    /// Days by a word, as `LAST_N_DAYS:7`: the word in upper case, and the number after it.
    Days(String, Option<u32>),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
}

/// Reads a query.
///
/// # Errors
/// The text is not a query of this grammar; the error says what was unexpected.
pub(super) fn parse(text: &str) -> Result<Query, String> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let query = parser.query()?;
    match parser.peek() {
        None => Ok(query),
        Some(_) => Err(parser.unexpected()),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn unexpected(&self) -> String {
        match self.peek() {
            Some(Token::Word(word)) => format!("unexpected token: '{word}'"),
            Some(Token::Text(text, _)) => format!("unexpected token: '{text}'"),
            Some(Token::Sign(sign)) => format!("unexpected token: '{sign}'"),
            None => "unexpected token: <EOF>".to_owned(),
        }
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
        self.at += usize::from(found);
        found
    }

    fn sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&self, found: bool) -> Result<(), String> {
        if found { Ok(()) } else { Err(self.unexpected()) }
    }

    fn word(&mut self) -> Result<String, String> {
        match self.peek() {
            Some(Token::Word(word)) if word.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                let word = word.clone();
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn query(&mut self) -> Result<Query, String> {
        let select = self.keyword("SELECT");
        self.expect(select)?;
        let mut fields = vec![self.word()?];
        if fields[0].eq_ignore_ascii_case("COUNT") && self.sign("(") {
            let closed = self.sign(")");
            self.expect(closed)?;
            fields.clear();
        }
        while !fields.is_empty() && self.sign(",") {
            let field = self.word()?;
            if fields.iter().any(|other| other.eq_ignore_ascii_case(&field)) {
                return Err(format!("duplicate field selected: {field}"));
            }
            fields.push(field);
        }
        let from = self.keyword("FROM");
        self.expect(from)?;
        let from = self.word()?;
        let filter = if self.keyword("WHERE") { Some(self.filter()?) } else { None };
        let mut order = Vec::new();
        if self.keyword("ORDER") {
            let by = self.keyword("BY");
            self.expect(by)?;
            loop {
                let field = self.word()?;
                let descends = !self.keyword("ASC") && self.keyword("DESC");
                let mut nulls_last = false;
                if self.keyword("NULLS") {
                    nulls_last = self.keyword("LAST");
                    let said = nulls_last || self.keyword("FIRST");
                    self.expect(said)?;
                }
                order.push(Order { field, descends, nulls_last });
                if !self.sign(",") {
                    break;
                }
            }
        }
        let limit = if self.keyword("LIMIT") { Some(self.number()?) } else { None };
        let offset = if self.keyword("OFFSET") { Some(self.number()?) } else { None };
        Ok(Query { fields, from, filter, order, limit, offset })
    }

    fn number(&mut self) -> Result<usize, String> {
        let number = match self.peek() {
            Some(Token::Word(word)) => word.parse().map_err(|_| self.unexpected())?,
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(number)
    }

    /// AND and OR do not mix without parentheses, as in SOQL.
    fn filter(&mut self) -> Result<Filter, String> {
        let first = self.term()?;
        let (and, or) = (self.keyword("AND"), self.keyword("OR"));
        if !and && !or {
            return Ok(first);
        }
        let joint = if and { "AND" } else { "OR" };
        let mut all = vec![first, self.term()?];
        while self.keyword(joint) {
            all.push(self.term()?);
        }
        Ok(if and { Filter::And(all) } else { Filter::Or(all) })
    }

    fn term(&mut self) -> Result<Filter, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("the condition nests too deep".to_owned());
        }
        let term = if self.keyword("NOT") {
            Filter::Not(Box::new(self.term()?))
        } else if self.sign("(") {
            let filter = self.filter()?;
            let closed = self.sign(")");
            self.expect(closed)?;
            filter
        } else {
            self.condition()?
        };
        self.depth -= 1;
        Ok(term)
    }

    fn condition(&mut self) -> Result<Filter, String> {
        let field = self.word()?;
        let not = self.keyword("NOT");
        if self.keyword("IN") {
            let opened = self.sign("(");
            self.expect(opened)?;
            let mut values = vec![self.literal()?];
            while self.sign(",") {
                values.push(self.literal()?);
            }
            let closed = self.sign(")");
            self.expect(closed)?;
            return Ok(Filter::In(field, not, values));
        }
        if !not && self.keyword("LIKE") {
            let Some(Token::Text(_, pattern)) = self.peek() else { return Err(self.unexpected()) };
            let pattern = pattern.clone();
            self.at += 1;
            return Ok(Filter::Like(field, pattern));
        }
        let operator = match self.peek() {
            Some(Token::Sign("=")) => Operator::Equal,
            Some(Token::Sign("!=" | "<>")) => Operator::NotEqual,
            Some(Token::Sign("<")) => Operator::Less,
            Some(Token::Sign("<=")) => Operator::LessOrEqual,
            Some(Token::Sign(">")) => Operator::Greater,
            Some(Token::Sign(">=")) => Operator::GreaterOrEqual,
            _ => return Err(self.unexpected()),
        };
        self.expect(!not)?;
        self.at += 1;
        Ok(Filter::Compare(field, operator, self.literal()?))
    }

    fn literal(&mut self) -> Result<Literal, String> {
        let literal = match self.peek() {
            Some(Token::Text(text, _)) => Literal::Text(text.clone()),
            Some(Token::Word(word)) => match bare(word) {
                Some(literal) => literal,
                None => return Err(self.unexpected()),
            },
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(literal)
    }
}

/// A literal without quotes.
fn bare(word: &str) -> Option<Literal> {
    match word.to_ascii_lowercase().as_str() {
        "null" => return Some(Literal::Null),
        "true" => return Some(Literal::Bool(true)),
        "false" => return Some(Literal::Bool(false)),
        _ => {}
    }
    if let Ok(date) = NaiveDate::parse_from_str(word, "%Y-%m-%d") {
        return Some(Literal::Date(date));
    }
    let datetime =
        DateTime::parse_from_rfc3339(word).or_else(|_| DateTime::parse_from_str(word, "%Y-%m-%dT%H:%M:%S%.f%z"));
    if let Ok(datetime) = datetime {
        return Some(Literal::Datetime(datetime.to_utc()));
    }
    if let Some(number) = decimal(word.trim_start_matches('+')) {
        return Some(Literal::Number(number.into()));
    }
    let upper = word.to_ascii_uppercase();
    let (name, count) = match upper.split_once(':') {
        Some((name, count)) => (name, Some(count.parse().ok()?)),
        None => (upper.as_str(), None),
    };
    soql_dates::is_known(name, count).then(|| Literal::Days(name.to_owned(), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_everything() {
        let query = parse(
            "select Id, Name FROM Account WHERE (SystemModstamp > 2024-01-02T03:04:05.000+0000 OR (SystemModstamp = \
             2024-01-02T03:04:05Z AND Id > '001')) AND Name NOT IN ('a\\'b', null) AND N >= -1.5 ORDER BY Id, Name desc nulls last LIMIT 5 OFFSET 7",
        )
        .unwrap();
        assert_eq!(query.fields, ["Id", "Name"]);
        let order = |field: &str, last| Order { field: field.to_owned(), descends: last, nulls_last: last };
        assert_eq!(query.order, [order("Id", false), order("Name", true)]);
        assert_eq!((query.limit, query.offset), (Some(5), Some(7)));
        let Some(Filter::And(all)) = query.filter else { panic!("not a conjunction") };
        assert_eq!(all[1], Filter::In("Name".into(), true, vec![Literal::Text("a'b".into()), Literal::Null]));
        assert_eq!(all[2], Filter::Compare("N".into(), Operator::GreaterOrEqual, Literal::Number("-1.5".into())));
        let query =
            parse("SELECT Id FROM X WHERE Name LIKE 'a\\%%' OR Made = last_n_days:7 OR NOT Made > TODAY").unwrap();
        let Some(Filter::Or(any)) = query.filter else { panic!("not a disjunction") };
        assert_eq!(any[0], Filter::Like("Name".into(), "a\\%%".into()));
        let days = Literal::Days("LAST_N_DAYS".into(), Some(7));
        assert_eq!(any[1], Filter::Compare("Made".into(), Operator::Equal, days));
    }

    #[test]
    fn refuses_what_is_not_a_query() {
        for text in [
            "",
            "SELECT",
            "SELECT FROM X",
            "SELECT Id X",
            "SELECT Id FROM X WHERE",
            "SELECT Id, FROM X",
            "SELECT Id FROM X LIMIT a",
            "SELECT Id FROM X WHERE a = 'b",
            "SELECT Id FROM X WHERE a = 1 AND b = 2 OR c = 3",
            "SELECT Id FROM X; DROP",
            "SELECT Id, id FROM X",
            "SELECT Id FROM X WHERE a LIKE 5",
            "SELECT Id FROM X WHERE a = LAST_N_DAYS",
            "SELECT Id FROM X ORDER BY Id NULLS",
            "SELECT Id FROM X WHERE a = b",
            "SELECT COUNT(), Id FROM X",
            "SELECT * FROM X",
            "SELECT Id FROM X WHERE a NOT = 1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&format!("SELECT Id FROM X WHERE {}", "(".repeat(100_000))).is_err());
        assert!(parse("SELECT COUNT() FROM X").unwrap().fields.is_empty());
    }
}
