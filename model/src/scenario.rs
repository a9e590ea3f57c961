//! The bounds that are checked: small ones, each for one part of what may go wrong, which together take
//! seconds; and the larger ones that take minutes and gigabytes.

use crate::Bounds;

/// One directory; a broker that loses answers and transactions.
pub const ALONE: Bounds = Bounds {
    name: "alone",
    crashes: 2,
    losses: 1,
    expiries: 1,
    ..Bounds::CALM
};

/// An API that says when nothing has changed.
pub const VALIDATORS: Bounds = Bounds {
    name: "validators",
    crashes: 2,
    validators: true,
    ..Bounds::CALM
};

/// Epochs that are larger than a transaction.
pub const LARGE_EPOCHS: Bounds = Bounds {
    name: "large epochs",
    large_epochs: true,
    ..ALONE
};

/// Pages are written, the journal is retired.
pub const PAGES: Bounds = Bounds {
    name: "pages",
    crashes: 2,
    remember: true,
    retire: true,
    ..Bounds::CALM
};

/// Objects, and PUTs that are lost or late; a process that is stopped early.
pub const ARCHIVE: Bounds = Bounds {
    name: "archive",
    crashes: 1,
    losses: 1,
    stops: 1,
    archive: true,
    ..Bounds::CALM
};

/// All followers of one directory.
pub const FOLLOWERS: Bounds = Bounds {
    name: "followers",
    crashes: 1,
    losses: 1,
    archive: true,
    remember: true,
    retire: true,
    ..Bounds::CALM
};

/// Two copies of a directory.
pub const COPIES: Bounds = Bounds {
    name: "copies",
    copies: 1,
    restarts: 1,
    ..Bounds::CALM
};

/// Two copies, one of which crashes.
pub const COPIES_CRASH: Bounds = Bounds {
    name: "copies, a crash",
    worlds: 1,
    copies: 1,
    crashes: 1,
    ..Bounds::CALM
};

/// Two copies, with an answer that is lost and a transaction that expires.
pub const COPIES_LOSS: Bounds = Bounds {
    name: "copies, a loss",
    worlds: 1,
    copies: 1,
    losses: 1,
    expiries: 1,
    ..Bounds::CALM
};

/// Two copies that archive to one prefix.
pub const COPIES_ARCHIVE: Bounds = Bounds {
    name: "copies, archive",
    copies: 1,
    archive: true,
    ..Bounds::CALM
};

/// A rebuild after the loss of a disk, or beside a directory that is alive.
pub const REBUILD: Bounds = Bounds {
    name: "rebuild",
    rebuilds: 1,
    lost_disks: 1,
    losses: 1,
    archive: true,
    ..Bounds::CALM
};

/// A durable frame goes bad.
pub const ROT: Bounds = Bounds {
    name: "rot",
    rot: 1,
    crashes: 2,
    remember: true,
    ..Bounds::CALM
};

/// A directory that is put together from different times.
pub const MIXED: Bounds = Bounds {
    name: "mixed",
    mixes: 1,
    copies: 1,
    remember: true,
    ..Bounds::CALM
};

/// What is checked with every run of the tests.
pub const SMALL: [Bounds; 13] = [
    ALONE,
    VALIDATORS,
    LARGE_EPOCHS,
    PAGES,
    ARCHIVE,
    FOLLOWERS,
    COPIES,
    COPIES_CRASH,
    COPIES_LOSS,
    COPIES_ARCHIVE,
    REBUILD,
    ROT,
    MIXED,
];

/// What is checked with `DELTAPOLL_MODEL=large`.
pub const LARGE: [Bounds; 14] = [
    Bounds {
        name: "copies, archive, pages",
        remember: true,
        retire: true,
        worlds: 1,
        ..COPIES_ARCHIVE
    },
    Bounds {
        name: "copies, large epochs",
        large_epochs: true,
        restarts: 0,
        archive: true,
        ..COPIES
    },
    Bounds {
        name: "rebuild, pages",
        remember: true,
        retire: true,
        worlds: 1,
        ..REBUILD
    },
    Bounds {
        name: "mixed, archive",
        archive: true,
        retire: true,
        ..MIXED
    },
    Bounds {
        name: "alone, three worlds",
        worlds: 3,
        ..ALONE
    },
    Bounds {
        name: "pages, three worlds",
        worlds: 3,
        losses: 1,
        ..PAGES
    },
    Bounds {
        name: "archive, more losses",
        crashes: 2,
        losses: 2,
        ..ARCHIVE
    },
    Bounds {
        name: "followers, two crashes",
        crashes: 2,
        ..FOLLOWERS
    },
    Bounds {
        name: "copies, losses",
        losses: 1,
        ..COPIES
    },
    Bounds {
        name: "copies, pages, a crash",
        remember: true,
        retire: true,
        ..COPIES_CRASH
    },
    Bounds {
        name: "copies, archive, a loss, a stop",
        losses: 1,
        stops: 1,
        worlds: 1,
        ..COPIES_ARCHIVE
    },
    Bounds {
        name: "rebuild, a crash",
        crashes: 1,
        worlds: 1,
        ..REBUILD
    },
    Bounds {
        name: "rebuild, large epochs",
        large_epochs: true,
        ..REBUILD
    },
    Bounds {
        name: "a copy, then a rebuild",
        copies: 1,
        worlds: 1,
        ..REBUILD
    },
];
