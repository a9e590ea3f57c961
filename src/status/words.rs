//! How the status is told to a person: a line for each source, the last summary, where to look.

use std::time::Duration;

use crate::config::{Config, secret};

use super::{Source, Status};

/// "3m 20s ago", to the second.
#[must_use]
pub fn ago(age: Duration) -> String {
    format!(
        "{} ago",
        humantime::format_duration(Duration::from_secs(age.as_secs()))
    )
}

/// One line that says how `source` fares at `now` (Unix ms); what matters most comes first, since a
/// terminal cuts it.
#[must_use]
pub fn line(source: &Source, now: u64) -> String {
    let failing = failing(source, now).map(|failing| format!("FAILING {failing}; "));
    let mut line = format!(
        "{}: {}+{} ~{} -{}, {} published",
        source.name,
        failing.as_deref().unwrap_or_default(),
        source.added.get(),
        source.changed.get(),
        source.removed.get(),
        source.published.get(),
    );
    if let (None, Some(due)) = (&failing, next_due(source)) {
        let wait = Duration::from_millis(due.saturating_sub(now)).as_secs();
        line.push_str(&format!(", next poll in {wait}s"));
    }
    line.push_str(&format!(
        ", {} polls ({} unchanged, {} failed), {} entries",
        source.polls.get(),
        source.unchanged.get(),
        source.failed.get(),
        source.entries.get(),
    ));
    for (count, what) in [
        (source.skipped.total(), "skipped"),
        (source.archived.get(), "archived"),
    ] {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    line
}

/// The first cell of `source` that fails, why, since when, and how many more there are.
#[must_use]
pub fn failing(source: &Source, now: u64) -> Option<String> {
    let cell = source.failing().next()?;
    let more = source.failing().count() - 1;
    let age = cell.age(now).map_or_else(|| "never".to_owned(), ago);
    let label = if cell.label.is_empty() {
        String::new()
    } else {
        format!("{}: ", cell.label)
    };
    let error = cell.last_error.get().unwrap_or_default();
    let others = if more > 0 {
        format!("; {more} more fail")
    } else {
        String::new()
    };
    Some(format!("{label}{error} (last good poll: {age}{others})"))
}

fn next_due(source: &Source) -> Option<u64> {
    source
        .cells
        .iter()
        .map(|cell| cell.next_due.get())
        .filter(|due| *due > 0)
        .min()
}

/// The whole run in a table, at its end.
#[must_use]
pub fn summary(status: &Status, now: u64) -> String {
    let head = [
        "source",
        "polls",
        "unchanged",
        "failed",
        "entries",
        "added",
        "changed",
        "removed",
        "skipped",
        "published",
        "archived",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    for source in &status.sources {
        let numbers = [
            source.polls.get(),
            source.unchanged.get(),
            source.failed.get(),
            source.entries.get(),
            source.added.get(),
            source.changed.get(),
            source.removed.get(),
            source.skipped.total(),
            source.published.get(),
            source.archived.get(),
        ];
        let mut cells = vec![source.name.clone()];
        cells.extend(numbers.map(|number| number.to_string()));
        rows.push(std::array::from_fn(|column| cells[column].clone()));
    }
    let mut out = table(&rows);
    out.push_str(&format!(
        "sealed {} epochs, {} batches, {} fsyncs; {} transactions, {} objects, {} pages written",
        status.epochs.get(),
        status.batches.get(),
        status.syncs.get(),
        status.transactions.get(),
        status.objects.get(),
        status.page_writes.get(),
    ));
    if status.lag() > 0 {
        out.push_str(&format!("; {} batches wait to be published", status.lag()));
    }
    out.push('\n');
    for source in &status.sources {
        if let Some(failing) = failing(source, now) {
            out.push_str(&format!("{} fails: {failing}\n", source.name));
        }
    }
    out
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut out = String::new();
    for row in rows {
        for (column, text) in row.iter().enumerate() {
            let width = widths[column];
            let text = match column {
                0 => format!("{text:<width$}"),
                _ => format!("  {text:>width$}"),
            };
            out.push_str(&text);
        }
        out.push('\n');
    }
    out
}

/// Where the results of a run can be found; `call` is how the program is called with this
/// configuration ("deltapoll --config league.toml").
#[must_use]
pub fn where_to_look(config: &Config, call: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for name in config.source.keys() {
        let topic = config.topic(name);
        let place = match &config.kafka {
            Some(kafka) => format!("Kafka topic {topic} at {}", kafka.bootstrap),
            None => config
                .data_dir
                .join("topics")
                .join(topic)
                .display()
                .to_string(),
        };
        lines.push(format!(
            "changes of {name} go to {place}; to see them: {call} tail {topic} --from-start --follow"
        ));
    }
    if let Some(archive) = &config.archive {
        lines.push(format!(
            "Avro objects go to {}",
            secret::address(&archive.url)
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::Polled;
    use super::super::tests::config;
    use super::*;
    use crate::config::parse;
    use crate::snapshot::Tally;

    #[test]
    fn a_line_says_how_a_source_fares_and_what_fails_since_when() {
        let status = Status::new(&config());
        let counts = Tally {
            entries: 300,
            added: 290,
            malformed: 10,
            ..Tally::default()
        };
        status.polled(0, Polled::Used(counts));
        status.published("alpha", 290);
        let alpha = &status.sources[0];
        let now = alpha.cells[0].last_good.get();
        status.due(0, now + 5_000);
        status.due(1, now + 2_500);
        let skipped = "1 polls (0 unchanged, 0 failed), 300 entries, 10 skipped";
        let told = format!("alpha: +290 ~0 -0, 290 published, next poll in 2s, {skipped}");
        assert_eq!(line(alpha, now), told);
        status.polled(0, Polled::Failed("it is away"));
        assert_eq!(
            line(alpha, now + 200_000),
            "alpha: FAILING a: it is away (last good poll: 3m 20s ago); +290 ~0 -0, 290 published, \
             2 polls (0 unchanged, 1 failed), 300 entries, 10 skipped"
        );
        status.polled(1, Polled::Failed("it is away"));
        status.archived("alpha", 7);
        assert_eq!(
            line(alpha, now + 1_000),
            "alpha: FAILING a: it is away (last good poll: 1s ago; 1 more fail); +290 ~0 -0, 290 \
             published, 3 polls (0 unchanged, 2 failed), 300 entries, 10 skipped, 7 archived"
        );
    }

    #[test]
    fn the_summary_has_a_row_for_each_source_and_what_is_left_to_do() {
        let status = Status::new(&config());
        status.polled(2, Polled::Failed("no such host"));
        status.sealed.set(3);
        status.syncs.add(2);
        assert_eq!(
            summary(&status, 0),
            "source  polls  unchanged  failed  entries  added  changed  removed  skipped  published  archived\n\
             alpha       0          0       0        0      0        0        0        0          0         0\n\
             beta        1          0       1        0      0        0        0        0          0         0\n\
             sealed 0 epochs, 0 batches, 2 fsyncs; 0 transactions, 0 objects, 0 pages written; 3 \
             batches wait to be published\n\
             beta fails: no such host (last good poll: never)\n"
        );
    }

    #[test]
    fn where_to_look_names_topic_archive_and_the_command_to_follow() {
        let base = "name = \"n\"\n[source.s]\nurl = \"http://h\"\nkey = [\"/id\"]\ntopic = \"t\"\n";
        let config = parse(base, "test").unwrap();
        assert_eq!(
            where_to_look(&config, "deltapoll"),
            [
                "changes of s go to deltapoll-data/topics/t; to see them: deltapoll tail t --from-start --follow"
            ]
        );
        let more = "[kafka]\nbootstrap = \"k:9092\"\n[archive]\nurl = \"gs://b/p\"\n";
        let config = parse(&format!("{base}{more}"), "test").unwrap();
        assert_eq!(
            where_to_look(&config, "deltapoll --config a.toml"),
            [
                "changes of s go to Kafka topic t at k:9092; to see them: deltapoll --config a.toml tail t --from-start --follow",
                "Avro objects go to gs://b/p",
            ]
        );
    }
}
