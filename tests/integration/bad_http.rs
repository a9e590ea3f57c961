//! Answers that are not what they should be, against the whole program: nothing changes, nothing is
//! removed, the log says what is wrong, and the next good answer is used.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::fault_table::row;
use crate::support::hostile::{Answer, Hostile, Scripts, answer, endless, gzip_bomb, ok, raw};
use crate::support::polling::Polling;
use crate::support::wait::{PATIENCE, wait_until};

const ENTRIES: usize = 10;
/// What the whole program may use beside its bodies.
const MEMORY_MAX: u64 = 160 << 20;

/// A ladder whose first entry has this version.
fn ladder(version: usize) -> String {
    let entry = |i: usize| {
        format!(
            "{{\"id\":\"k{i}\",\"v\":{}}}",
            if i == 0 { version } else { 0 }
        )
    };
    let entries: Vec<_> = (0..ENTRIES).map(entry).collect();
    format!("{{\"entries\":[{}]}}", entries.join(","))
}

fn in_entry(text: &[u8]) -> Vec<u8> {
    [b"{\"entries\":[{\"id\":\"k0\",\"v\":\"", text, b"\"}]}"].concat()
}

/// A fault's name, and what the log must say of it.
type Fault = (&'static str, Answer, &'static str);

const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const BROKE_OFF: &str = "the answer broke off";

fn chunk(bytes: &[u8]) -> Vec<u8> {
    let size = format!("{:x}\r\n", bytes.len());
    [size.as_bytes(), bytes, b"\r\n"].concat()
}

/// Bodies that end too early or too late.
fn lengths() -> Vec<Fault> {
    let whole = ladder(7);
    let cut = |length: usize, sent: usize| {
        let head = format!("{OK}Content-Length: {length}\r\n\r\n");
        raw(head + &whole[..sent])
    };
    let half = [CHUNKED.as_bytes(), &chunk(whole.as_bytes())].concat();
    let garbled = format!("{CHUNKED}zz\r\n{whole}\r\n0\r\n\r\n");
    vec![
        ("body-cut", cut(whole.len(), whole.len() / 2), BROKE_OFF),
        (
            "length-too-long",
            cut(whole.len() + 10, whole.len()),
            BROKE_OFF,
        ),
        (
            "length-too-short",
            cut(whole.len() - 5, whole.len()),
            "the answer is cut short",
        ),
        ("chunked-cut", raw(half), BROKE_OFF),
        ("chunk-size-wrong", raw(garbled), BROKE_OFF),
        ("empty-200", ok(""), "empty answer"),
        ("no-answer", raw(""), "the request failed"),
        (
            "no-http",
            raw("SSH-2.0-OpenSSH_9.6\r\n"),
            "the request failed",
        ),
    ]
}

/// Bodies that are compressed, or say so.
fn compressed() -> Vec<Fault> {
    let zipped = |file: &[u8], missing: usize| {
        let length = file.len() + missing;
        let head = format!("{OK}Content-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n");
        raw([head.as_bytes(), file].concat())
    };
    let bomb = gzip_bomb(b' ', (256 << 20) / 258);
    vec![
        ("gzip-cut", zipped(&bomb[..1000], 1000), BROKE_OFF),
        (
            "gzip-short",
            zipped(&gzip_bomb(b'[', 0)[..12], 0),
            BROKE_OFF,
        ),
        ("gzip-none", zipped(ladder(7).as_bytes(), 0), BROKE_OFF),
        (
            "gzip-bomb",
            zipped(&bomb, 0),
            "longer than limits.body_max = 4MiB",
        ),
    ]
}

/// Bodies without end.
fn without_end() -> Vec<Fault> {
    let most = "longer than limits.body_max = 4MiB";
    let brackets = format!("{OK}Content-Length: 100000000\r\n\r\n");
    let entry = format!("{OK}\r\n{{\"entries\":[\"");
    let head = "HTTP/1.1 200 OK\r\nX: ";
    vec![
        (
            "brackets-100-MB",
            endless(&brackets, vec![b'['; 1 << 20]),
            "nesting above 128",
        ),
        (
            "endless-chunks",
            endless(CHUNKED, chunk(&[b' '; 4096])),
            most,
        ),
        ("endless-entry", endless(&entry, vec![b'a'; 1 << 16]), most),
        (
            "endless-head",
            endless(head, vec![b'a'; 1 << 16]),
            "the request failed",
        ),
    ]
}

/// Bodies that are not JSON, or not ours.
fn contents() -> Vec<Fault> {
    let deep = format!("{{\"entries\":[{}{}]}}", "[".repeat(200), "]".repeat(200));
    let page = "<html><body>Bad gateway</body></html>";
    let twice = "{\"entries\":[],\"entries\":[]}";
    vec![
        ("utf8-in-an-entry", ok(in_entry(b"\xc3\x28")), "not UTF-8"),
        (
            "utf8-outside",
            ok(b"{\"a\":\"\xff\",\"entries\":[]}"),
            "not UTF-8",
        ),
        ("nesting-200", ok(deep), "nesting above 128"),
        (
            "nul-between",
            ok("{\"entries\":[\0]}"),
            "byte 0x00 where an entry should be",
        ),
        ("nul-body", ok([0; 1000]), "the answer is not JSON"),
        ("html-200", ok(page), "starts with '<html><body>Bad"),
        (
            "no-list",
            ok("{\"status\":{\"code\":1}}"),
            "no '/entries' in the answer",
        ),
        ("list-twice", ok(twice), "'/entries' is there twice"),
        (
            "null-list",
            ok("{\"entries\":null}"),
            "is not a list but null",
        ),
    ]
}

/// Statuses that are no answer.
fn statuses(elsewhere: u16) -> Vec<Fault> {
    let redirect = |status: &str| {
        let to = format!("Location: http://localhost:{elsewhere}/stolen\r\n");
        raw(answer(status, &to, b""))
    };
    let part = answer("206 Partial Content", "", ladder(7).as_bytes());
    let no_content = "HTTP/1.1 204 No Content\r\n\r\n";
    let kept = "redirects are not followed";
    vec![
        (
            "status-204",
            raw(no_content),
            "no content is not an empty list",
        ),
        ("status-206", raw(part), "answered 206"),
        (
            "status-304",
            raw("HTTP/1.1 304 Not Modified\r\n\r\n"),
            "answered 304",
        ),
        ("redirect-301", redirect("301 Moved Permanently"), kept),
        ("redirect-302", redirect("302 Found"), kept),
        ("redirect-307", redirect("307 Temporary Redirect"), kept),
        ("redirect-308", redirect("308 Permanent Redirect"), kept),
    ]
}

#[test]
fn an_answer_that_is_none_changes_nothing_and_the_next_good_one_is_used() {
    let elsewhere = Hostile::start(Scripts::new());
    let faults = [
        lengths(),
        compressed(),
        without_end(),
        contents(),
        statuses(elsewhere.port),
    ]
    .concat();
    let script = |fault: &Answer| vec![ok(ladder(0)), fault.clone(), ok(ladder(1))];
    let scripts = faults
        .iter()
        .map(|(name, fault, _)| ((*name).to_owned(), script(fault)));
    let polling = Polling::of(scripts.collect(), "/entries", "removed_after = 1");
    let program = polling.start(&["--workers", "2"]);
    wait_until("every source polled four times", PATIENCE, || {
        let polled = |name: &str| polling.server.seen(name).len() >= 4;
        faults.iter().all(|(name, ..)| polled(name)).then_some(())
    });
    let peak = program.peak_bytes();
    program.interrupt();
    let err = program.wait().good().err;
    for (name, _, message) in &faults {
        let of = format!("source=\"{name}\"");
        let mut told = err
            .lines()
            .filter(|line| line.contains("poll failed") && line.contains(&of));
        let line = told
            .next()
            .unwrap_or_else(|| panic!("{name} is not told: {err}"));
        assert!(line.contains(message), "{name}: {line}");
        assert_eq!(told.next(), None, "{name} failed once");
        let changes = polling.changes();
        let kinds = changes.of(name).into_iter().map(|line| line.change);
        let mut wanted = vec!["added"; ENTRIES];
        wanted.push("changed");
        assert_eq!(kinds.collect::<Vec<_>>(), wanted, "{name}");
        row(
            &format!("http {name}"),
            "nothing changed, nothing removed, next poll used",
        );
    }
    assert!(peak < MEMORY_MAX, "{} MiB", peak >> 20);
    assert_eq!(
        elsewhere.all(),
        [""; 0],
        "no redirect was followed, no header carried elsewhere"
    );
}

#[test]
fn an_answer_that_drips_holds_back_no_other_and_its_end_is_a_failed_poll() {
    let enough = Arc::new(AtomicBool::new(false));
    let until = enough.clone();
    let drip: Answer = Arc::new(move |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{\"entries\":[")?;
        while !until.load(Ordering::Acquire) {
            stream.write_all(b" ")?;
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    });
    let fast = (0..20).map(|version| ok(ladder(version))).collect();
    let slow = vec![ok(ladder(0)), drip, ok(ladder(1))];
    let scripts = [("drip".to_owned(), slow), ("fast".to_owned(), fast)];
    let polling = Polling::of(scripts.into(), "/entries", "");
    let program = polling.start(&[]);
    wait_until("the drip, and twenty polls of the other", PATIENCE, || {
        let (drip, fast) = (polling.server.seen("drip"), polling.server.seen("fast"));
        (drip.len() == 2 && fast.len() > 20).then_some(())
    });
    assert_eq!(polling.changes().of("drip").len(), ENTRIES);
    enough.store(true, Ordering::Release);
    wait_until("the poll after the drip", PATIENCE, || {
        (polling.server.seen("drip").len() > 3).then_some(())
    });
    program.interrupt();
    let err = program.wait().good().err;
    assert!(
        err.contains("poll failed, polling goes on: the answer broke off"),
        "{err}"
    );
    assert_eq!(polling.changes().of("fast").len(), ENTRIES + 19);
    assert_eq!(polling.changes().of("drip").len(), ENTRIES + 1);
    row(
        "http slow drip",
        "the other source polls on; failed at its end, next poll used",
    );
}

#[test]
fn r09_a_skipped_entry_leaves_no_validators_for_the_next_start() {
    let tagged = |body: &str| raw(answer("200 OK", "ETag: \"v1\"\r\n", body.as_bytes()));
    let skipped = tagged("[{\"id\":\"a\",\"v\":1},{\"id\":\"b\",\"v\":tru}]");
    let sound = tagged("[{\"id\":\"a\",\"v\":1},{\"id\":\"b\",\"v\":true}]");
    let scripts = [("s".to_owned(), vec![skipped, sound.clone(), sound])];
    let polling = Polling::of(scripts.into(), "", "");
    for _ in 0..3 {
        polling.rounds(1);
    }
    let asked = polling.server.seen("s");
    let conditional: Vec<_> = asked
        .iter()
        .map(|head| head.to_ascii_lowercase().contains("if-none-match: \"v1\""))
        .collect();
    assert_eq!(conditional, [false, false, true], "{asked:?}");
    assert_eq!(polling.changes().of("s").len(), 2, "the entry was not lost");
}
