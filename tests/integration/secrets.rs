//! No secret is ever written anywhere (G5): the whole program, told to log all it can, runs into errors of
//! every kind, many of which hand its secrets back to it; then everything that it wrote is searched.
//!
//! A password that works, over TLS, is `pipeline`'s; a panic is `log`'s.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::support::fault_table::row;
use crate::support::hostile::{Answer, Hostile, Scripts, answer, ok, raw};
use crate::support::kafka::Broker;
use crate::support::process::{Ended, Program, free_port};
use crate::support::readers;
use crate::support::sim::TOKEN;
use crate::support::wait::{PATIENCE, wait_until};

const BEARER: &str = "bearer-literal-4711-abcdef";
const URL_PASSWORD: &str = "url-password-31-ghijkl";
const QUERY: &str = "query-secret-99-mnopqr";
const KAFKA_PASSWORD: &str = "kafka-password-17-stuvwx";
const OBJECT_KEY: &str = "object-store-key-23-yzabcd";
const SESSION: &str = "session-token-57-efghij";
/// `api-user:url-password-31-ghijkl`, as it is sent.
const BASIC: &str = "YXBpLXVzZXI6dXJsLXBhc3N3b3JkLTMxLWdoaWprbA==";
const ALL: [&str; 8] = [
    TOKEN,
    BEARER,
    URL_PASSWORD,
    QUERY,
    KAFKA_PASSWORD,
    OBJECT_KEY,
    SESSION,
    BASIC,
];

/// Nobody who sees so much of a secret can be said not to have seen it.
const TOO_MUCH: usize = 10;

/// What a test wrote into the directory itself.
const OURS: [&str; 4] = ["deltapoll.toml", "kafka-password", "object-key", "session"];

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// Searches everything below `dir` for the beginning of every secret.
fn nothing_is_told(dir: &Path, what: &str) {
    let mut searched = 0;
    for file in files(dir) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if OURS.contains(&name.as_str()) {
            continue;
        }
        let bytes = std::fs::read(&file).unwrap();
        searched += bytes.len();
        for secret in ALL {
            let start = &secret.as_bytes()[..TOO_MUCH];
            let found = bytes.windows(TOO_MUCH).position(|window| window == start);
            if let Some(at) = found {
                let around = &bytes[at.saturating_sub(200)..bytes.len().min(at + 100)];
                let around = String::from_utf8_lossy(around);
                panic!("{what}: {secret} is in {}: {around}", file.display());
            }
        }
    }
    assert!(searched > 100, "{what}: it wrote next to nothing");
}

fn told(runs: usize) -> String {
    format!("{runs} runs, no secret in anything that was written")
}

fn dir_with(config: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("deltapoll.toml"), config).unwrap();
    for (name, secret) in [
        ("kafka-password", KAFKA_PASSWORD),
        ("object-key", OBJECT_KEY),
        ("session", SESSION),
    ] {
        std::fs::write(dir.path().join(name), format!("{secret}\n")).unwrap();
    }
    dir
}

fn run(dir: &TempDir, arguments: &[&str]) -> Ended {
    let mut all = vec!["--log-level", "trace"];
    all.extend(arguments);
    Program::run(dir.path(), &all)
}

/// Answers that hand the request back, which holds every secret that was sent.
fn echoes() -> Vec<(&'static str, Answer)> {
    // Each cuts it elsewhere: an excerpt shows the first bytes of a body.
    let echo = |status: &'static str, before: usize| -> Answer {
        Arc::new(move |stream, request| {
            let head = request.head.to_ascii_lowercase();
            let of = |name: &str| {
                let at = head.find(name).map_or(0, |at| at + name.len());
                request.head[at..]
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            };
            let sent = [of("x-riot-token: "), of("authorization: "), of("get ")].join(" ");
            let body = format!("{}{sent}", "-".repeat(before));
            stream.write_all(&answer(status, "", body.as_bytes()))
        })
    };
    let redirect: Answer = Arc::new(|stream, request| {
        let to = format!(
            "Location: http://localhost:1/?{}\r\n",
            request.head.replace("\r\n", "&")
        );
        stream.write_all(&answer("302 Found", &to, request.head.as_bytes()))
    });
    let mut all = vec![
        ("e401", echo("401 Unauthorized", 0)),
        ("e403", echo("403 Forbidden", 0)),
        ("e404", echo("404 Not Found", 0)),
        ("e429", echo("429 Too Many Requests", 0)),
        ("e302", redirect),
        ("no-http", raw(format!("{TOKEN} {BASIC}\r\n"))),
        ("good", ok("[{\"id\":\"a\"}]")),
    ];
    let names = ["e500-0", "e500-1", "e500-2", "e500-3", "e500-4", "e500-5"];
    all.extend(
        names
            .into_iter()
            .zip([0, 60, 96, 100, 104, 108])
            .map(|(n, b)| (n, echo("500 No", b))),
    );
    let names = ["text-0", "text-1", "text-2", "text-3"];
    all.extend(
        names
            .into_iter()
            .zip([0, 10, 20, 30])
            .map(|(n, b)| (n, echo("200 OK", b))),
    );
    all
}

/// Sources that send all secrets to the echoes, and into the void.
fn sources(port: u16) -> String {
    let token = "X-Riot-Token = \"${env:DELTAPOLL_TEST_TOKEN}\"";
    let mut text = String::new();
    let mut source = |name: String, url: String, headers: String| {
        text += &format!(
            "[source.{name}]\nurl = \"{url}\"\nheaders = {{ {headers} }}\nkey = [\"/id\"]\nevery = \"1ms\"\n"
        );
    };
    for (name, _) in echoes() {
        let bearer = format!("{token}, Authorization = \"Bearer {BEARER}\"");
        let with = format!("http://127.0.0.1:{port}/{name}?api_key={QUERY}&page=1");
        source(format!("{name}-a"), with, bearer);
        let with = format!("http://api-user:{URL_PASSWORD}@127.0.0.1:{port}/{name}");
        source(format!("{name}-b"), with, token.to_owned());
    }
    for (name, rest) in [
        ("refused", "127.0.0.1:1/".to_owned()),
        ("unknown", "no-such-host.invalid/".to_owned()),
        ("no-tls", format!("127.0.0.1:{port}/")),
    ] {
        let scheme = if name == "no-tls" { "https" } else { "http" };
        let url = format!("{scheme}://api-user:{URL_PASSWORD}@{rest}?api_key={QUERY}");
        source(name.to_owned(), url, token.to_owned());
    }
    text
}

#[test]
fn no_secret_is_told_whatever_the_api_answers() {
    let scripts = echoes()
        .into_iter()
        .map(|(name, answer)| (name.to_owned(), vec![answer]));
    let server = Hostile::start(Scripts::from_iter(scripts));
    let text = format!(
        "name = \"n\"\ndata_dir = \"data\"\n{}",
        sources(server.port)
    );
    let dir = dir_with(&text);
    let archive = dir.path().join("archive");
    let text = format!("{text}[archive]\nurl = \"file://{}\"\n", archive.display());
    std::fs::write(dir.path().join("deltapoll.toml"), text).unwrap();
    let ended = run(&dir, &["--rounds", "1", "--flush-archive"]);
    assert_eq!(ended.code(), 1, "{}", ended.err);
    for told in [
        "cannot connect",
        "answered 500",
        "answered 302",
        "not JSON: starts with",
    ] {
        assert!(ended.err.contains(told), "{told}: {}", ended.err);
    }
    let json = run(&dir, &["--rounds", "1", "--log-format", "json"]);
    assert_eq!(json.code(), 1, "{}", json.err);
    let checked = run(&dir, &["check"]);
    assert!(checked.out.contains("FAILED"), "{}", checked.out);
    let sent = server.seen("good").concat();
    for secret in [TOKEN, BEARER, QUERY, BASIC] {
        assert!(sent.contains(secret), "{secret} was never sent: {sent}");
    }
    nothing_is_told(dir.path(), "the API");
    row(
        "secrets: answers that repeat them, no connection, no TLS",
        &told(3),
    );
}

#[test]
fn no_secret_is_told_by_a_configuration_that_is_wrong() {
    let broker = Broker::shared().bootstrap();
    let good = "name = \"n\"\n[source.s]\nurl = \"http://127.0.0.1:1\"\nkey = [\"/id\"]\n";
    let wrong = [
        format!("{good}headers = {{ X-Token = \"{TOKEN}\"\n"),
        format!("{good}headers = {{ X-Token = {TOKEN} }}\n"),
        format!("{good}headers = {{ X-Token = \"{TOKEN}\n"),
        format!("{good}headers = {{ X-Token = [\"{TOKEN}\"] }}\n"),
        format!("{good}headers = {{ X-Token = \"{TOKEN}\\q\" }}\n"),
        format!("{good}headers = {{ X-Token = \"{TOKEN}\\u0000\" }}\n"),
        format!("{good}headers = {{ Authorization = \"Bearer {BEARER}\\n\" }}\n"),
        format!("{good}headers = \"X-Token: {TOKEN}\"\n"),
        format!("{good}headers = {{ X-Token = \"{TOKEN}\", X-Token = \"{TOKEN}\" }}\n"),
        format!("{good}headers = {{ X-Token = \"${{vault:x}}{TOKEN}\" }}\n"),
        format!("{good}headers = {{ X-Token = \"{TOKEN}${{env:NO_SUCH}}\" }}\n"),
        good.replace(
            "http://127.0.0.1:1",
            &format!("http://api-user:{URL_PASSWORD}@h:99999999/"),
        ),
        good.replace(
            "http://127.0.0.1:1",
            &format!("http://api-user:{URL_PASSWORD}@"),
        ),
        good.replace(
            "http://127.0.0.1:1",
            &format!("http://api-user:{URL_PASSWORD}@h/{{r}}"),
        ),
        good.replace(
            "http://127.0.0.1:1",
            &format!("ftp://api-user:{URL_PASSWORD}@h/"),
        ),
        good.replace(
            "http://127.0.0.1:1",
            &format!("api-user:{URL_PASSWORD}@h/?key={QUERY}"),
        ),
        format!("{good}[kafka]\nbootstrap = \"api-user:{KAFKA_PASSWORD}@h:9092\"\n"),
        format!(
            "{good}[kafka]\nbootstrap = \"127.0.0.1:1\"\nproperties = {{ \"sasl.pasword\" = \"{KAFKA_PASSWORD}\" }}\n"
        ),
        format!(
            "{good}[kafka]\nbootstrap = \"127.0.0.1:1\"\nproperties = {{ \"sasl.password\" = {{ x = \"{KAFKA_PASSWORD}\" }} }}\n"
        ),
        format!("{good}[archive]\nurl = \"s3://ABCD:{OBJECT_KEY}@bucket/p\"\n"),
        format!(
            "{good}[kafka]\nbootstrap = \"127.0.0.1:1\"\n[archive]\nurl = \"s3://ABCD:{OBJECT_KEY}@bucket/p\"\n"
        ),
        format!(
            "{good}[kafka]\nbootstrap = \"{broker}\"\n[archive]\nurl = \"gs://b/p\"\noptions = {{ google_service_account_key = \"{OBJECT_KEY}\" }}\n"
        ),
        format!(
            "{good}[kafka]\nbootstrap = \"{broker}\"\n[archive]\nurl = \"gs://b/p\"\noptions = {{ google_service_account_key = '{{\"client_email\":\"e\",\"private_key\":\"{OBJECT_KEY}\",\"private_key_id\":\"{OBJECT_KEY}\"}}' }}\n"
        ),
        format!(
            "{good}[kafka]\nbootstrap = \"{broker}\"\n[archive]\nurl = \"s3://b/p\"\noptions = {{ secret_access_key = \"{OBJECT_KEY}\", allow_http = \"{SESSION}\" }}\n"
        ),
    ];
    let dirs: Vec<_> = wrong.iter().map(|text| dir_with(text)).collect();
    for dir in &dirs {
        // A store's options are looked at by a run alone.
        run(dir, &["check"]);
        let ended = run(dir, &["--rounds", "1"]);
        assert!([1, 2].contains(&ended.code()), "{}", ended.err);
        nothing_is_told(dir.path(), "a wrong configuration");
    }
    row("secrets: wrong configurations", &told(dirs.len()));
}

#[test]
fn no_secret_is_told_by_brokers_and_buckets_that_refuse_it() {
    let api = Hostile::start(Scripts::from([(
        "good".to_owned(),
        vec![ok("[{\"id\":\"a\"}]")],
    )]));
    let refuses: Answer = Arc::new(|stream, request| {
        let xml = format!(
            "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>{0}</Message>\
             <CanonicalRequest>{0}</CanonicalRequest></Error>",
            request.head
        );
        stream.write_all(&answer("403 Forbidden", "", xml.as_bytes()))
    });
    let bucket = Hostile::start(Scripts::from([("*".to_owned(), vec![refuses])]));
    let broker = Broker::shared();
    let name = format!("secrets-{:08x}", rand::random::<u32>());
    let base = format!(
        "name = \"{name}\"\ndata_dir = \"data\"\n[source.{name}]\nurl = \"http://127.0.0.1:{}/good\"\n\
         key = [\"/id\"]\nevery = \"20ms\"\n",
        api.port
    );
    let secure = format!(
        "bootstrap = \"{}\"\nproperties = {{ \"security.protocol\" = \"SASL_SSL\", \"sasl.mechanism\" = \
         \"PLAIN\", \"sasl.username\" = \"test\", \"sasl.password\" = \"${{file:kafka-password}}\", \
         \"ssl.ca.location\" = \"{}\" }}\n",
        broker.secure_bootstrap(),
        broker.authority().display()
    );
    let dir = dir_with(&format!("{base}[kafka]\n{secure}"));
    let program = Program::start(dir.path(), &["--log-level", "trace"]);
    wait_until("the broker's refusal", PATIENCE, || {
        program.err().contains("waiting for kafka").then_some(())
    });
    program.interrupt();
    program.interrupt();
    program.wait();
    let checked = run(&dir, &["check"]);
    assert_eq!(checked.code(), 1, "{}", checked.out);
    nothing_is_told(dir.path(), "a broker");
    row("secrets: a broker that refuses the password", &told(2));

    let text = format!(
        "{base}[kafka]\nbootstrap = \"{}\"\n[archive]\nurl = \"s3://bucket/{name}\"\nroll = {{ records = 1 }}\n\
         options = {{ access_key_id = \"ABCDEFGH\", secret_access_key = \"${{file:object-key}}\", \
         session_token = \"${{file:session}}\", region = \"x\", endpoint = \"http://127.0.0.1:{}\", \
         allow_http = \"true\" }}\n",
        broker.bootstrap(),
        bucket.port
    );
    let dir = dir_with(&text);
    let program = Program::start(dir.path(), &["--log-level", "trace"]);
    wait_until("the bucket's refusal", PATIENCE, || {
        program.err().contains("the archive's store").then_some(())
    });
    program.interrupt();
    program.wait().good();
    let asked = bucket.all().concat();
    assert!(
        asked.to_lowercase().contains("x-amz-security-token"),
        "{asked}"
    );
    readers::topic(dir.path(), &broker.bootstrap(), &name);
    nothing_is_told(dir.path(), "a bucket");
    row(
        "secrets: a bucket that repeats and refuses them; the topic",
        &told(1),
    );
}

#[test]
fn no_secret_is_told_by_a_broker_that_is_not_there() {
    let api = Hostile::start(Scripts::from([("good".to_owned(), vec![ok("[]")])]));
    let dir = dir_with(&format!(
        "name = \"n\"\n[source.s]\nurl = \"http://127.0.0.1:{}/good\"\nkey = [\"/id\"]\n[kafka]\n\
         bootstrap = \"127.0.0.1:{}\"\nproperties = {{ \"sasl.password\" = \"{KAFKA_PASSWORD}\", \
         \"sasl.jaas.config\" = \"password={KAFKA_PASSWORD}\" }}\n",
        api.port,
        free_port()
    ));
    let checked = run(&dir, &["check"]);
    assert_ne!(checked.code(), 0, "{}", checked.out);
    nothing_is_told(dir.path(), "no broker");
    row("secrets: a broker that is not there", &told(1));
}
