//! `run`: poll and publish.

/// Arguments of `run`, which may also stand alone.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Options of run, the default command")]
pub struct Args {
    /// Stop after N rounds (a round: one finished attempt of every cell) are sealed and published;
    /// exit 1 if a cell's last attempt failed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: Option<u64>,

    /// The same as --rounds 1, for cron
    #[arg(long, conflicts_with = "rounds")]
    pub once: bool,

    /// Before the end, close and upload what waits for the archive
    #[arg(long)]
    pub flush_archive: bool,
}

impl Args {
    /// How many rounds there are; `None`: until stopped.
    #[must_use]
    pub fn rounds(&self) -> Option<u64> {
        if self.once { Some(1) } else { self.rounds }
    }

    /// These, or where they say nothing, `other`.
    #[must_use]
    pub fn or(self, other: Args) -> Args {
        let rounds = self.rounds().or(other.rounds());
        Args {
            rounds,
            once: false,
            flush_archive: self.flush_archive || other.flush_archive,
        }
    }
}
