//! Owns the words, signs and texts that a query is made of. Does not own their order.

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name, a keyword or a literal without quotes.
    Word(String),
    /// A text in quotes: what it says, and what it says to LIKE, where a backslash keeps `%` and `_` from being wild.
    Text(String, String),
    /// A sign.
    Sign(&'static str),
}

/// The tokens of a query.
///
/// # Errors
/// A character that no token begins with, or a text that does not end.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
        } else if first == '\'' {
            let (value, pattern, after) = quoted(&rest[1..])?;
            tokens.push(Token::Text(value, pattern));
            rest = after;
        } else if let Some(sign) =
            ["<=", ">=", "!=", "<>", "=", "<", ">", "(", ")", ","].iter().find(|sign| rest.starts_with(**sign))
        {
            tokens.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        } else {
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-' | '+');
            let end = rest.find(|c| !legal(c)).unwrap_or(rest.len());
            if end == 0 {
                return Err(format!("line 1: unexpected char: '{first}'"));
            }
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    Ok(tokens)
}

/// The text up to the closing quote, the same as a pattern, and what follows it.
fn quoted(text: &str) -> Result<(String, String, &str), String> {
    let (mut value, mut pattern) = (String::new(), String::new());
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        let said = match char {
            '\'' => return Ok((value, pattern, &text[at + 1..])),
            '\\' => match chars.next().map(|(_, escaped)| escaped) {
                Some('n' | 'N') => '\n',
                Some('r' | 'R') => '\r',
                Some('t' | 'T') => '\t',
                Some('b' | 'B') => '\u{8}',
                Some('f' | 'F') => '\u{c}',
                Some(escaped @ ('\\' | '\'' | '"' | '_' | '%')) => {
                    pattern.push('\\');
                    escaped
                }
                _ => return Err("illegal escape in a string literal".to_owned()),
            },
            _ => char,
        };
        value.push(said);
        pattern.push(said);
    }
    Err("a string literal does not end".to_owned())
}

/// Whether a text is like a pattern: `%` stands for any text, `_` for one character, case is ignored.
#[must_use]
pub(super) fn is_like(text: &str, pattern: &str) -> bool {
    let fold = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
    let text = fold(text);
    // Each part of the pattern: a character to be equal to, one of any kind, or any number of them.
    let mut parts: Vec<Part> = Vec::new();
    let mut pattern = fold(pattern).into_iter();
    while let Some(char) = pattern.next() {
        parts.push(match char {
            '\\' => Part::Exactly(pattern.next().unwrap_or('\\')),
            '%' => Part::Any,
            '_' => Part::One,
            char => Part::Exactly(char),
        });
    }
    // Back to the last `%` only: what an earlier one took can stay, so the work is bounded by the product of the lengths.
    let (mut at, mut part, mut back) = (0, 0, None);
    while at < text.len() {
        match parts.get(part) {
            Some(Part::Any) => {
                back = Some((part, at));
                part += 1;
            }
            Some(Part::One) => (at, part) = (at + 1, part + 1),
            Some(Part::Exactly(char)) if *char == text[at] => (at, part) = (at + 1, part + 1),
            _ => match back {
                Some((any, taken)) => {
                    back = Some((any, taken + 1));
                    (at, part) = (taken + 1, any + 1);
                }
                None => return false,
            },
        }
    }
    parts[part..].iter().all(|part| matches!(part, Part::Any))
}

enum Part {
    Exactly(char),
    One,
    Any,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likeness_has_wild_parts() {
        for (text, pattern, expected) in [
            ("Alpha", "al%", true),
            ("Alpha", "%PH%", true),
            ("Alpha", "a_pha", true),
            ("Alpha", "alph", false),
            ("Alpha", "%a", true),
            ("50% off", "50\\%%", true),
            ("500 off", "50\\%%", false),
            ("", "%", true),
            ("", "_", false),
            ("aaaaaaaaaaaaaaab", "%a%a%a%c", false),
        ] {
            assert_eq!(is_like(text, pattern), expected, "{text} {pattern}");
        }
        assert_eq!(tokens(r"'a\%\'b%'").unwrap(), [Token::Text("a%'b%".to_owned(), r"a\%\'b%".to_owned())]);
    }
}
