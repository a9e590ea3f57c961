//! `tail`: print committed changes.

/// Arguments of `tail`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The topic
    pub topic: String,

    /// Start with the oldest change that is kept, not with the next one
    #[arg(long)]
    pub from_start: bool,

    /// Go on when there is nothing more, until stopped
    #[arg(long, short)]
    pub follow: bool,
}
