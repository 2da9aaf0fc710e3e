//! The last lines that a piece of work logged, kept in memory for whoever has to tell why it failed. Owns how much is kept,
//! and how a line looks; where an excerpt goes in the end is its owner's business.

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    layer::{Context, Layer},
};

/// Longest excerpt, in bytes: a screen or two of text.
const EXCERPT_BYTES_MAX: usize = 4_096;

tokio::task_local! {
    static CURRENT: Excerpt;
}

/// What is kept of the work that it is given to. Work that it spawns is not heard.
#[derive(Debug, Clone, Default)]
pub struct Excerpt {
    lines: Arc<Mutex<Lines>>,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    bytes: usize,
}

impl Excerpt {
    /// Does the work, and keeps the end of what it logs.
    pub async fn of<F: Future>(&self, work: F) -> F::Output {
        CURRENT.scope(self.clone(), work).await
    }

    /// The lines, the earliest first; `None` when there was none.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let all = lines.kept.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
        Some(all).filter(|all| !all.is_empty())
    }

    fn keep(&self, mut line: String) {
        // PostgreSQL's text has no NUL.
        if line.contains('\0') {
            line = line.replace('\0', "\u{fffd}");
        }
        line.truncate(line.floor_char_boundary(EXCERPT_BYTES_MAX - 1));
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // Each with the end of its line.
        lines.bytes += line.len() + 1;
        lines.kept.push_back(line);
        while lines.bytes > EXCERPT_BYTES_MAX {
            let Some(oldest) = lines.kept.pop_front() else { return };
            lines.bytes -= oldest.len() + 1;
        }
    }
}

/// Hears what is logged, and gives it to the excerpt of the task that logs.
pub(crate) struct ExcerptLayer;

impl<S: Subscriber> Layer<S> for ExcerptLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Most lines are of no work that anybody keeps.
        let _ = CURRENT.try_with(|excerpt| {
            let metadata = event.metadata();
            let mut line = Line::default();
            // Writing to a string does not fail.
            let _ = SystemTime.format_time(&mut Writer::new(&mut line.text));
            let _ = write!(line.text, " {} {}:", metadata.level(), metadata.target());
            event.record(&mut line);
            excerpt.keep(line.text + &line.fields);
        });
    }
}

#[derive(Default)]
struct Line {
    text: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.text, " {value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    fn logged(work: impl FnOnce()) -> Option<String> {
        let excerpt = Excerpt::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let subscriber = tracing_subscriber::registry().with(ExcerptLayer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("of nobody's work");
            runtime.block_on(excerpt.of(async { work() }));
        });
        excerpt.text()
    }

    #[test]
    fn lines_of_the_work_are_kept_with_their_fields() {
        assert_eq!(logged(|| ()), None);
        let text = logged(|| tracing::warn!(pages = 3, object = "Account", "the vendor\0 is slow")).unwrap();
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.ends_with('Z'), "{time}");
        assert_eq!(rest, format!("WARN {}: the vendor\u{fffd} is slow pages=3 object=Account", module_path!()));
    }

    #[test]
    fn the_end_of_much_is_kept() {
        let text = logged(|| (0..1_000).for_each(|line| tracing::info!("line {line}"))).unwrap();
        assert!(text.len() <= EXCERPT_BYTES_MAX && text.len() > EXCERPT_BYTES_MAX - 200, "{}", text.len());
        assert!(text.ends_with("line 999") && !text.contains("line 1\n"), "{text}");
        let long = logged(|| tracing::info!("{}", "ä".repeat(EXCERPT_BYTES_MAX))).unwrap();
        assert!(long.len() < EXCERPT_BYTES_MAX && long.ends_with('ä'));
    }
}
