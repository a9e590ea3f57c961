//! Wrong configurations and arguments, each with the exact message that it gives.

use std::ffi::OsString;
use std::process::{Command, Output};

use deltapoll::cli::Cli;
use deltapoll::config::{check, parse, warnings};
use deltapoll::fault::Exit;

/// A sound configuration; what a case adds comes after it.
const SOUND: &str = "name = \"n\"\n[source.s]\nurl = \"http://h\"\nkey = [\"/id\"]\n";
/// A configuration that lacks the url.
const NO_URL: &str = "name = \"n\"\n[source.s]\nkey = [\"/id\"]\n";

fn told(text: &str) -> String {
    let checked = parse(text, "a.toml").and_then(|config| check(&config));
    let Err(fault) = checked else {
        panic!("accepted:\n{text}")
    };
    assert_eq!(fault.exit, Exit::Usage, "{text}");
    fault.message
}

/// For each case the text that comes after `base`, and the message.
fn all_are_told(base: &str, cases: &[(&str, &str)]) {
    for (text, message) in cases {
        assert_eq!(told(&format!("{base}{text}")), *message, "{text}");
    }
}

#[test]
fn the_base_of_the_cases_is_sound() {
    check(&parse(SOUND, "a.toml").unwrap()).unwrap();
}

#[test]
fn what_is_no_configuration_is_told_with_line_section_and_field() {
    all_are_told(
        "",
        &[
            (
                "name = \"n\"\non_cell_removed = \"drop\"",
                "a.toml:2: on_cell_removed: 'drop' is none of 'keep', 'tombstone'",
            ),
            (
                "name = ",
                "a.toml:1: name: string values must be quoted, expected literal string",
            ),
            (
                "[source.s]\nurl = \"http://h\"\nkey = [\"\"]",
                "a.toml:1: [source.s]: the field 'name' is missing: write name = \"league\"",
            ),
            (
                "nam = \"n\"\n",
                "a.toml:1: unknown field 'nam' at the top level; did you mean 'name'?",
            ),
        ],
    );
    all_are_told(
        SOUND,
        &[
            (
                "removed_afer = 3",
                "a.toml:5: unknown field 'removed_afer' in [source.s]; did you mean 'removed_after'?",
            ),
            (
                "interval = \"60s\"",
                "a.toml:5: unknown field 'interval' in [source.s]; there are 'url', 'vars', 'headers', \
                 'every', 'records', 'key', 'record_key', 'ignore', 'removed', 'removed_after', \
                 'complete', 'topic', 'format'",
            ),
            (
                "data_dir = \"x\"",
                "a.toml:5: unknown field 'data_dir' in [source.s]; it belongs at the top of the file, \
                 before the first [section]",
            ),
            (
                "\n# a comment\n[limit]\nstaging = 1",
                "a.toml:7: unknown field 'limit' at the top level; did you mean 'limits'?",
            ),
            (
                "[kafka]\nbootstrap = \"h:1\"\ncreate = { partition = 1 }",
                "a.toml:7: unknown field 'partition' in [kafka] create; did you mean 'partitions'?",
            ),
            (
                "every = \"6x\"",
                "a.toml:5: [source.s] every: '6x' is not a duration: write \"30s\", \"5m\" or \"7d\"",
            ),
            (
                "every = 60",
                "a.toml:5: [source.s] every: this is a number where a duration such as \"30s\" is wanted",
            ),
            (
                "[limits]\nstaging = \"64MB/s\"",
                "a.toml:6: [limits] staging: '64MB/s' is not a size: write a number and B, KiB, MiB or \
                 GiB",
            ),
            (
                "[limits]\nstaging = -1",
                "a.toml:6: [limits] staging: -1 is out of place: it must be a size such as \"64MiB\"",
            ),
            (
                "removed = \"tombstones\"",
                "a.toml:5: [source.s] removed: 'tombstones' is none of 'tombstone', 'event', 'ignore'; \
                 did you mean 'tombstone'?",
            ),
            (
                "format = \"avro\"",
                "a.toml:5: [source.s] format: 'avro' is unknown; there is only 'json'",
            ),
            (
                "removed_after = -1",
                "a.toml:5: [source.s] removed_after: -1 is out of place: it must be a whole number from \
                 0 to 4294967295",
            ),
            (
                "complete = \"yes\"",
                "a.toml:5: [source.s] complete: this is a string where true or false is wanted",
            ),
            (
                "ignore = \"/at\"",
                "a.toml:5: [source.s] ignore: this is a string where a list is wanted: put it in brackets",
            ),
            ("key = [\"/x\"]", "a.toml:5: 'key' is there twice: keep one"),
            (
                "[kafka]",
                "a.toml:5: [kafka]: the field 'bootstrap' is missing: write bootstrap = \
                 \"localhost:9092\"",
            ),
            (
                "[[kafka]]",
                "a.toml:5: [kafka]: '[[kafka]]' makes a list: write single brackets",
            ),
        ],
    );
}

#[test]
fn a_wrong_type_is_told_without_the_value_which_may_be_a_secret() {
    all_are_told(
        SOUND,
        &[
            (
                "headers = \"hunter-two\"",
                "a.toml:5: [source.s] headers: this is a string where a table is wanted",
            ),
            (
                "headers = { A = [\"hunter-two\"] }",
                "a.toml:5: [source.s] headers.A: this is a list where a string is wanted: put it in \
                 quotes",
            ),
            (
                "headers = { A = hunter-two }",
                "a.toml:5: [source.s] headers.A: string values must be quoted, expected literal string",
            ),
        ],
    );
}

#[test]
fn a_source_that_cannot_be_polled_is_told() {
    all_are_told(
        "",
        &[(
            "name = \"a b\"",
            "name: 'a b' has a ' ': use ASCII letters, digits, '.', '_' and '-'\n\
                 source: there is none to poll: write [source.NAME] with url = \"https://...\" and key = \
                 [\"/id\"]",
        )],
    );
    all_are_told(
        NO_URL,
        &[
            (
                "url = \"http://{r}\"",
                "[source.s] url: '{r}' is not defined: write vars = { r = [\"...\"] }",
            ),
            (
                "url = \"http://{r\"",
                "[source.s] url: has a brace without its partner: write {name}",
            ),
            (
                "url = \"ftp://h\"",
                "[source.s] url: 'ftp://' cannot be polled: write https://host/path",
            ),
            (
                "url = \"h/x\"",
                "[source.s] url: is no address (relative URL without a base): write https://host/path",
            ),
            (
                "url = \"http://h/{r}\"\nvars = { r = [\"a\", \"a\"] }\nrecord_key = \"{r}:{key}\"",
                "[source.s] vars.r: has 'a' twice",
            ),
        ],
    );
    all_are_told(
        SOUND,
        &[
            (
                "vars = { v = [\"a\"] }",
                "[source.s] vars.v: is not used: write {v} in the url, or leave it out",
            ),
            (
                "every = \"0s\"",
                "[source.s] every: is 0: write how long to wait, for example \"60s\"",
            ),
            (
                "every = \"20years\"",
                "[source.s] every: is longer than ten years: write \"30s\", \"5m\" or \"7d\"",
            ),
            (
                "removed_after = 0",
                "[source.s] removed_after: is 0: write 1 to remove a key at once, 2 or more to wait for \
                 as many complete snapshots without it",
            ),
            (
                "ignore = [\"a.b\"]",
                "[source.s] ignore: 'a.b' is no JSON pointer: write '/a/b'",
            ),
            (
                "records = \"/a~2\"",
                "[source.s] records: '/a~2' is no JSON pointer: write '~' as '~0', and '/' within a name \
                 as '~1'",
            ),
            (
                "topic = \"a b\"",
                "[source.s] topic: 'a b' has a ' ': Kafka takes ASCII letters, digits, '.', '_' and '-'",
            ),
            (
                "[source.t]\nurl = \"http://h\"\nkey = []\ntopic = \"s\"",
                "[source.t] key: is empty: write where an entry's key is, for example [\"/id\"]\n\
                 [source.t] topic: 's' is fed by [source.s] too: give each source its own topic",
            ),
        ],
    );
}

#[test]
fn r33_record_keys_that_could_meet_are_told_with_the_one_to_write() {
    let two = "url = \"http://{r}/\"\nvars = { r = [\"kr\", \"euw1\"] }\n";
    all_are_told(
        &format!("{NO_URL}{two}"),
        &[
            (
                "",
                "[source.s] record_key: '{key}' lacks {r}, so that keys of different cells could meet: \
                 write record_key = \"{r}:{key}\"",
            ),
            (
                "record_key = \"{r}{key}\"",
                "[source.s] record_key: in '{r}{key}' nothing tells where {r} ends, so that keys of \
                 different cells could meet: write record_key = \"{r}:{key}\"",
            ),
            (
                "record_key = \"{r}:\"",
                "[source.s] record_key: '{r}:' must have {key} in it once",
            ),
            (
                "record_key = \"{reg}:{key}\"",
                "[source.s] record_key: '{reg}' is not {key} and none of the vars",
            ),
        ],
    );
}

#[test]
fn headers_that_cannot_be_sent_are_told() {
    all_are_told(
        SOUND,
        &[
            (
                "headers = { A = \"${env:DELTAPOLL_NOT_SET}\" }",
                "[source.s] headers.A: the environment variable DELTAPOLL_NOT_SET is not set",
            ),
            (
                "headers = { A = \"${vault:x}\" }",
                "[source.s] headers.A: '${vault:x}' is no reference: write ${env:NAME} or ${file:/path}",
            ),
            (
                "headers = { \"A B\" = \"1\" }",
                "[source.s] headers.A B: is no name of an HTTP header",
            ),
            (
                "headers = { A = \"1\", a = \"2\" }",
                "[source.s] headers.a: is there twice: upper and lower case are the same to HTTP",
            ),
            (
                "headers = { A = \"a\\nb\" }",
                "[source.s] headers.A: has a value that HTTP does not allow (a line break, a control \
                 character): check what it refers to",
            ),
            (
                "headers = { If-None-Match = \"1\" }",
                "[source.s] headers.If-None-Match: deltapoll sets this header itself: an answer to it is \
                 not the whole cell",
            ),
        ],
    );
}

#[test]
fn sinks_that_cannot_work_are_told() {
    all_are_told(
        SOUND,
        &[
            (
                "[kafka]\nbootstrap = \"kafka://h:1\"",
                "[kafka] bootstrap: 'kafka://h:1' is no address of a broker: write host:port, several \
                 separated by commas",
            ),
            (
                "[kafka]\nbootstrap = \"h:1\"\nproperties = { acks = 1, \"max.in.flight\" = 6 }",
                "[kafka] properties.acks: deltapoll sets this property itself: a record that not all \
                 replicas have could be lost\n\
                 [kafka] properties.max.in.flight: must be 1 to 5: with more, retried records would \
                 change their order",
            ),
            (
                "[kafka]\nbootstrap = \"h:1\"\nproperties = { \"transactional.id\" = \"x\" }",
                "[kafka] properties.transactional.id: deltapoll sets this property itself: it is made of \
                 the configuration's name, and fences other instances",
            ),
            (
                "[kafka]\nbootstrap = \"h:1\"\ncreate = { partitions = 0 }\nprogress_topic = \"s\"",
                "[kafka] progress_topic: 's' is fed by [source.s]: it must be another topic\n\
                 [kafka] create.partitions: is 0: a topic has at least 1",
            ),
            (
                "[kafka]\nbootstrap = \"h:1\"\nproperties = { \"sasl.password\" = \
                 \"${env:DELTAPOLL_NOT_SET}\" }",
                "[kafka] properties.sasl.password: the environment variable DELTAPOLL_NOT_SET is not set",
            ),
            (
                "[archive]\nurl = \"gs://b/p\"",
                "[archive] url: gs:// needs [kafka]: without it nothing keeps two instances from writing \
                 to one bucket; use file:///directory",
            ),
            (
                "[archive]\nurl = \"ftp://b/p\"",
                "[archive] url: 'ftp://' is unknown: write gs://bucket/prefix, s3://bucket/prefix or \
                 file:///directory",
            ),
            (
                "[archive]\nurl = \"file://b\"",
                "[archive] url: a file:// address is absolute: write file:///directory, with three \
                 slashes",
            ),
            (
                "[archive]\nurl = \"file:///b\"\nroll = { records = 0 }",
                "[archive] roll.records: is 0: an object would never hold anything",
            ),
            (
                "[local]\nretain = \"0s\"",
                "[local] retain: is 0: changes would be gone before anybody reads them",
            ),
        ],
    );
}

#[test]
fn limits_that_contradict_each_other_are_told() {
    all_are_told(
        SOUND,
        &[
            (
                "[checkpoint]\nmin = \"2s\"",
                "[checkpoint] min: is longer than max: an epoch would have to stay open longer than it \
                 may",
            ),
            (
                "[limits]\nbody_max = \"1GiB\"",
                "[limits] body_max: 1GiB is more than staging (256MiB): such a body could never be held",
            ),
            (
                "[limits]\nrecord_max = \"10B\"\njournal = 0",
                "[limits] journal: is 0: nothing could ever be polled\n\
                 [limits] record_max: 10B is out of place: it must be 1KiB to 1000000000B",
            ),
            (
                "[limits]\nrecord_max = \"2MiB\"\ntransaction_bytes = \"1MiB\"",
                "[limits] record_max: 2MiB is more than transaction_bytes (1MiB): such a record could \
                 never be committed",
            ),
        ],
    );
}

#[test]
fn secrets_written_into_the_file_are_warned_of_and_not_repeated() {
    let text = format!(
        "{}headers = {{ X-Riot-Token = \"RGAPI-1\", Accept = \"*/*\", Authorization = \
         \"${{env:A}}\" }}\n",
        SOUND.replace("http://h", "http://h?api_key=hunter-two")
    );
    assert_eq!(
        warnings(&parse(&text, "a.toml").unwrap()),
        [
            "[source.s] headers.X-Riot-Token: this looks like a secret written into the file: refer to \
             it as ${env:NAME} or ${file:/path}",
            "[source.s] url: 'api_key' is a secret written into the file: where the API takes a header \
             instead, refer to it there as ${env:NAME}",
        ]
    );
}

#[test]
fn wrong_arguments_are_told_and_exit_with_2() {
    for (line, message) in [
        (
            "--workers 0",
            "error: invalid value '0' for '--workers <N>': 0 is not in 1..=256",
        ),
        (
            "--workers two",
            "error: invalid value 'two' for '--workers <N>': invalid digit found in string",
        ),
        ("--worker 2", "error: unexpected argument '--worker' found"),
        (
            "--rounds 0",
            "error: invalid value '0' for '--rounds <N>': 0 is not in 1..18446744073709551615",
        ),
        (
            "--rounds 2 --once",
            "error: the argument '--rounds <N>' cannot be used with '--once'",
        ),
        (
            "--once check",
            "error: --once belongs to the command 'run', and is not for this one",
        ),
        (
            "--flush-archive tail t",
            "error: --flush-archive belongs to the command 'run', and is not for this one",
        ),
        (
            "backfill",
            "error: the following required arguments were not provided:",
        ),
        (
            "--flush-archive backfill x",
            "error: --flush-archive goes after the command 'backfill'",
        ),
        (
            "backfill x --then-run --dry-run",
            "error: the argument '--then-run' cannot be used with '--dry-run'",
        ),
        (
            "tail",
            "error: the following required arguments were not provided:",
        ),
        (
            "state republish",
            "error: the following required arguments were not provided:",
        ),
        (
            "--log-format xml",
            "error: invalid value 'xml' for '--log-format <LOG_FORMAT>'",
        ),
    ] {
        let args = std::iter::once("deltapoll").chain(line.split_whitespace());
        let error = Cli::read(args.map(OsString::from)).expect_err(line);
        let text = error.to_string();
        assert_eq!(text.lines().next(), Some(message), "{line}");
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

fn deltapoll(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deltapoll"));
    for name in [
        "DELTAPOLL_CONFIG",
        "DELTAPOLL_DATA_DIR",
        "DELTAPOLL_LOG_FORMAT",
        "RGAPI",
    ] {
        command.env_remove(name);
    }
    command.args(args).output().unwrap()
}

#[test]
fn a_configuration_that_is_not_there_exits_with_2_and_says_where_to_start() {
    let output = deltapoll(&["--config", "/no/such/file.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "deltapoll: cannot read the configuration /no/such/file.toml: No such file or directory (os \
         error 2); the directory examples/ has some to start from\n"
    );
}

#[test]
fn check_prints_the_plan_and_what_is_wrong_and_no_secret() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    // Nothing listens on port 9 of this machine.
    let sound = SOUND.replace("http://h", "http://me:hunter-two@127.0.0.1:9/");
    std::fs::write(file.path(), &sound).unwrap();
    let output = deltapoll(&["check", "--config", path]);
    let (out, err) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        out.contains("source s: 1 cell, each polled every 1m\n    http://127.0.0.1:9/\n"),
        "{out}"
    );
    assert!(out.contains("asked s: FAILED: cannot connect"), "{out}");
    assert!(
        err.contains("what stands before the '@' is a secret written into the file"),
        "{err}"
    );
    assert!(!format!("{out}{err}").contains("hunter-two"), "{out}{err}");

    std::fs::write(
        file.path(),
        format!("{sound}removed_after = 0\nevery = \"0s\"\n"),
    )
    .unwrap();
    let output = deltapoll(&["check", "--config", path]);
    assert_eq!(output.status.code(), Some(2));
    let err = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = err.lines().collect();
    assert_eq!(lines.len(), 2, "{err}");
    let start = format!("deltapoll: {path}: [source.s] every: is 0: ");
    assert!(lines[0].starts_with(&start), "{err}");
}

#[test]
fn help_says_what_the_exit_codes_are_and_exits_with_0() {
    let output = deltapoll(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["Examples:", "Exit codes:", "Environment:", "  3    fenced"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}
