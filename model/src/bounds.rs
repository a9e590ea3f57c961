//! How far a model goes, and which rule does not hold in it.

/// What may happen in a model, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For the report.
    pub name: &'static str,
    /// How often what the API answers changes.
    pub worlds: u8,
    /// Processes that are killed, with or without power.
    pub crashes: u8,
    /// Answers and requests that are lost or late: produce, commit, PUT.
    pub losses: u8,
    /// Transactions that expire.
    pub expiries: u8,
    /// Copies of the directory that are taken.
    pub copies: u8,
    /// Rebuilds while the directory is alive.
    pub rebuilds: u8,
    /// Disks that are lost.
    pub lost_disks: u8,
    /// Durable frames that go bad, where a later one shows that they were durable.
    pub rot: u8,
    /// State directories that are replaced by that of another time.
    pub mixes: u8,
    /// Processes that are asked to stop before Kafka answered them.
    pub stops: u8,
    /// Starts of each directory, beyond one after each crash or stop.
    pub restarts: u8,
    /// Whether there is an archive.
    pub archive: bool,
    /// Whether pages are written before the end.
    pub remember: bool,
    /// Whether the journal is retired.
    pub retire: bool,
    /// Whether an epoch may be larger than a transaction.
    pub large_epochs: bool,
    /// Whether the API says when nothing has changed.
    pub validators: bool,
    /// Which rule does not hold.
    pub broken: Option<Broken>,
}

impl Bounds {
    /// A directory and a broker, nothing goes wrong.
    pub const CALM: Bounds = Bounds {
        name: "calm",
        worlds: 2,
        crashes: 0,
        losses: 0,
        expiries: 0,
        copies: 0,
        rebuilds: 0,
        lost_disks: 0,
        rot: 0,
        mixes: 0,
        stops: 0,
        restarts: 0,
        archive: false,
        remember: false,
        retire: false,
        large_epochs: false,
        validators: false,
        broken: None,
    };

    /// The same without a rule.
    #[must_use]
    pub fn without(self, broken: Broken) -> Bounds {
        Bounds {
            broken: Some(broken),
            ..self
        }
    }

    pub(crate) fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }
}

/// A rule that does not hold: one way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// R9: validators are durable before the epoch that they belong to.
    R09BeforeSeal,
    /// R12: followers see an epoch before its fsync.
    R12SeenBeforeSync,
    /// R12: recovery does not cut an unfinished epoch.
    R12HalfEpochKept,
    /// R13: any bad frame is damage.
    R13TornIsDamage,
    /// R13: a bad frame is never damage.
    R13DamageIsTorn,
    /// R14: what an open keeps without proof is not written anew.
    R14NotWrittenAnew,
    /// R15: after a failed fsync the process goes on and tries again.
    R15GoesOn,
    /// R16: positions are not checked on open.
    R16Unchecked,
    /// R16: only the position of pages is compared with the journal, not how far they were written.
    R16PagesAhead,
    /// R17: an incarnation of the table owns any seq.
    R17NoLastSeq,
    /// R17: a start goes on under the last incarnation.
    R17SameIncarnation,
    /// R17: the table is not synced.
    R17NotSynced,
    /// R17: no fencing mark before `init_transactions`.
    R17NoMark,
    /// R18: progress is not read again after `init_transactions`.
    R18ReadOnce,
    /// R19: after an error the position is taken from memory.
    R19FromMemory,
    /// R19: after a refused record the transaction is aborted and the producer kept.
    R19Abort,
    /// R20: whose commit is not answered does not try again.
    R20GivesUp,
    /// R21: the progress record is not in the transaction of its changes.
    R21ProgressLater,
    /// R21: commits before all deliveries are there.
    R21NotAwaited,
    /// R21: a transaction may end within an epoch.
    R21HalfEpoch,
    /// R24: the archive reads what is sealed.
    R24AheadOfPublish,
    /// R24: the archive is told a position before progress was read.
    R24BeforeStart,
    /// R24: the archive's position is what it has read.
    R24PositionIsRead,
    /// R25: the PUT has no condition.
    R25Overwrites,
    /// R25: what already exists is taken for what was to be put.
    R25NotJudged,
    /// R25: what already exists is a conflict.
    R25AlwaysConflict,
    /// R25: an ambiguous answer is success.
    R25AmbiguousIsDone,
    /// R27: pages are written from values that are not sealed.
    R27AheadOfSeal,
    /// R27: the position is written before the pages are durable.
    R27PositionFirst,
    /// R27: the position is the greatest that a worker reports.
    R27Greatest,
    /// R28: dedup starts before replay has ended.
    R28NoReplay,
    /// R30: the archive does not hold back retiring.
    R30NotArchive,
    /// R30: remember does not hold back retiring.
    R30NotRemember,
    /// R30: positions are not durable before what they no longer need is deleted.
    R30PositionsLater,
    /// R35: the topic is read before the progress record.
    R35TopicFirst,
    /// R35: a record that has moved is not noticed.
    R35NotAgain,
    /// R35: the table does not get the incarnation of the record.
    R35NoIncarnation,
    /// R35: changes that are in no object are not read back into the journal.
    R35NotReadBack,
}
