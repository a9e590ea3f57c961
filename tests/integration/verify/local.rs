//! The same for pipelines without Kafka.

use super::*;

#[test]
fn a_sound_local_pipeline_agrees_with_and_without_an_archive_running_and_killed() {
    for archive in [true, false] {
        let case = LocalCase::new(archive);
        case.run(&["--rounds", "6"]).good();
        let sides = if archive {
            "topic, archive and state"
        } else {
            "topic and state"
        };
        let before = files(&case.dir.path().join("data"));
        agrees(
            &case.run(&["verify"]),
            &[&format!("{sides} agree"), "compared in 1 pass"],
        );
        agrees(
            &case.run(&["verify", "--memory", "32KiB"]),
            &[&format!("{sides} agree")],
        );
        assert!(
            before == files(&case.dir.path().join("data")),
            "verify writes nothing"
        );
        for _ in 0..3 {
            let program = Program::start(case.dir.path(), &["--workers", "2"]);
            let enough = case.sim.served() + 20;
            wait_until("twenty answers", PATIENCE, || {
                (case.sim.served() >= enough).then_some(())
            });
            agrees(&case.run(&["verify"]), &["a pipeline is running here"]);
            assert!(program.kill9());
            agrees(&case.run(&["verify"]), &[&format!("{sides} agree")]);
        }
    }
}

#[test]
fn a_sealed_record_that_is_missing_from_the_local_log_or_changed_there_is_named() {
    for archive in [true, false] {
        let case = LocalCase::new(archive);
        for _ in 0..3 {
            case.run(&["--rounds", "3", "--flush-archive"]).good();
        }
        let lines = case.lines();
        let whole = fs::read_to_string(case.live()).unwrap();
        // The last record of a key that is there in the end, and not the first record of all.
        let key = live_key(&lines);
        let at = lines
            .iter()
            .rposition(|line| line["key"] == key.as_str())
            .unwrap();
        let named = format!("key {key:?}");

        let renumbered = without(&whole, at);
        case.plant(&renumbered);
        let found = case.run(&["verify"]);
        disagrees(&found, &[&named]);
        if archive {
            contains(
                &found,
                &["changes that the topic does not have: 1\n", "in the topic"],
            );
        }

        let changed: String = whole
            .lines()
            .enumerate()
            .map(|(n, line)| match n == at {
                true => line.replacen("\"value\":{", "\"value\":{\"planted\":1,", 1) + "\n",
                false => format!("{line}\n"),
            })
            .collect();
        case.plant(&changed);
        let found = case.run(&["verify"]);
        let kind = "keys whose last value is not what the state remembers: 1\n";
        disagrees(&found, &[kind, &named, &format!("offset {at}")]);
        if archive {
            contains(
                &found,
                &["differ between topic and archive or journal: 1\n"],
            );
        }

        // Two records of one batch, the other way round.
        let two = (0..lines.len() - 1)
            .find(|at| lines[*at]["seq"] == lines[at + 1]["seq"])
            .unwrap();
        case.plant(&swapped(&whole, two));
        let found = case.run(&["verify"]);
        let batch = format!("batch {}", lines[two]["seq"]);
        if archive {
            disagrees(
                &found,
                &["batches whose records are in another order: 1\n", &batch],
            );
        } else {
            agrees(&found, &[]);
        }
        // Two batches.
        let two = (0..lines.len() - 1)
            .find(|at| lines[*at]["seq"] != lines[at + 1]["seq"])
            .unwrap();
        case.plant(&swapped(&whole, two));
        disagrees(
            &case.run(&["verify"]),
            &["records whose batch or epoch goes back: "],
        );

        case.plant(&whole.replacen("\"value\":", "\"val\":", 1));
        let found = case.run(&["verify"]);
        disagrees(
            &found,
            &["not what was written: 1\n  topic league, partition 0, offset 0\n"],
        );
        case.plant(&whole);
        agrees(&case.run(&["verify"]), &[]);
    }
}

#[test]
fn an_epoch_in_part_and_a_sealed_batch_that_was_not_published_are_found_and_what_waits_is_no_error()
{
    let case = LocalCase::new(true);
    case.run(&["--rounds", "3"]).good();
    let data = case.dir.path().join("data");
    let known = case.lines().last().unwrap().clone();
    let seed = Tampered::open(&data).seed;
    let (cell, ..) = Tampered::open(&data).find(&live_key(&case.lines()));
    let mut journal = Journal::open(&data.join("journal"), Options::default()).unwrap();
    let epoch = Epoch(journal.sealed().epoch.0 + 1);
    let body = |key: &str| {
        let mut batch = Builder::new(&Head {
            cell,
            polled_at: 5,
            topic: "league".into(),
            source: "league".into(),
            label: String::new(),
        });
        batch.push(&Change {
            kind: Kind::Added,
            partition: 0,
            hash: hash::key(seed, key.as_bytes()),
            print: Fingerprint {
                raw: hash::raw(seed, b"{\"a\":1}"),
                canon: 0,
                rule: 1,
            },
            key,
            value: Some(b"{\"a\":1}"),
            silent: false,
        });
        batch.take().unwrap()
    };
    let one = journal.append(epoch, &body("one"), None).unwrap();
    let two = journal.append(epoch, &body("two"), Some(&[])).unwrap();
    journal.sync().unwrap();
    drop(journal);
    agrees(
        &case.run(&["verify"]),
        &["note: 2 changes are sealed and not published yet\n"],
    );

    // The commit record says that they are published.
    let text = fs::read_to_string(case.live()).unwrap();
    let line = |n: u64, key: &str, seq: Seq| {
        let offset = known["offset"].as_u64().unwrap() + n;
        format!(
            "{{\"offset\":{offset},\"key\":\"{key}\",\"value\":{{\"a\":1}},\"change\":\"added\",\
             \"epoch\":{epoch},\"seq\":{seq},\"polled_at\":5}}\n"
        )
    };
    let commit = |seq: Seq| {
        let mut commit: Value = serde_json::from_slice(&fs::read(case.commit()).unwrap()).unwrap();
        commit["seq"] = json!(seq.0);
        fs::write(case.commit(), commit.to_string()).unwrap();
    };
    case.plant(&format!("{text}{}", line(1, "one", one)));
    commit(one);
    let found = case.run(&["verify"]);
    disagrees(
        &found,
        &[
            "epochs that are published in part: 1\n",
            &format!("batch {one}: its epoch"),
        ],
    );
    commit(two);
    let found = case.run(&["verify"]);
    let missing = "changes that the topic does not have: 1\n";
    disagrees(
        &found,
        &[missing, "key \"two\"", "in the journal; not in the topic"],
    );
    case.plant(&format!(
        "{text}{}{}",
        line(1, "one", one),
        line(2, "two", two)
    ));
    agrees(&case.run(&["verify"]), &[]);

    // What expired is not missing.
    let cut = text
        .lines()
        .take(50)
        .map(|line| line.len() + 1)
        .sum::<usize>();
    let all = fs::read_to_string(case.live()).unwrap();
    case.plant(&all[cut..]);
    let mut commit: Value = serde_json::from_slice(&fs::read(case.commit()).unwrap()).unwrap();
    commit["topics"]["league"]["0"]["first"] = json!(50);
    commit["topics"]["league"]["0"]["next"] = json!(all.lines().count());
    fs::write(case.commit(), commit.to_string()).unwrap();
    let found = case.run(&["verify"]);
    agrees(
        &found,
        &["note: 50 changes are compacted or expired in the topic\n"],
    );
}

#[test]
fn a_directory_that_is_damaged_stale_or_of_another_time_is_told_with_exit_4() {
    let case = LocalCase::new(true);
    case.run(&["--rounds", "2"]).good();
    let data = case.dir.path().join("data");
    let old = fs::read(case.commit()).unwrap();
    case.run(&["--rounds", "4"]).good();
    agrees(&case.run(&["verify"]), &[]);
    let refused = |what: &str| {
        let ended = case.run(&["verify"]);
        assert_eq!(ended.code(), 4, "{}\n{}", ended.out, ended.err);
        assert!(ended.err.contains(what), "{what} in {}", ended.err);
    };
    let new = fs::read(case.commit()).unwrap();
    fs::write(case.commit(), &old).unwrap();
    refused("is older than the other");
    fs::write(case.commit(), &new).unwrap();

    let pages = Tampered::open(&data).pages;
    let position = pages.small("position").unwrap().unwrap();
    let set = |bytes: &[u8]| {
        let pages = Tampered::open(&data).pages;
        pages.put_small("position", bytes).unwrap();
        pages.store().flush().unwrap();
    };
    drop(pages);
    set(&1_u64.to_le_bytes());
    refused("is at batch 1, the journal says it was at");
    set(&position);
    agrees(&case.run(&["verify"]), &[]);

    // One bit of a page, where the store keeps it.
    let key = live_key(&case.lines());
    let (_, hash, _) = Tampered::open(&data).find(&key);
    let mut flipped = 0;
    for (path, mut bytes) in files(&data.join("state")) {
        let wanted = hash.0.to_le_bytes();
        let found = bytes.windows(16).position(|window| window == wanted);
        if let Some(at) = found {
            bytes[at] ^= 1;
            fs::write(path, bytes).unwrap();
            flipped += 1;
        }
    }
    assert!(flipped > 0);
    refused("data/state");
    fs::remove_dir_all(data.join("state")).unwrap();
    refused("is missing, the journal says it was at batch");
    fs::remove_dir_all(data.join("journal")).unwrap();
    refused("nothing to verify");
}

/// A pipeline without Kafka.
struct LocalCase {
    dir: tempfile::TempDir,
    sim: Sim,
}

impl LocalCase {
    fn new(archive: bool) -> LocalCase {
        let dir = tempfile::tempdir().unwrap();
        let sim = Sim::start(dir.path(), &BUSY);
        let url = dir.path().join("archive");
        let archive = match archive {
            true => format!(
                "[archive]\nurl = \"file://{}\"\nroll = {{ records = 100 }}\n",
                url.display()
            ),
            false => String::new(),
        };
        let text = format!(
            r#"
name = "local"
data_dir = "data"
[source.league]
url = "http://127.0.0.1:{}/{{region}}/lol/league/v4/challengerleagues/by-queue/{{queue}}"
vars = {{ region = ["kr", "euw1"], queue = ["RANKED_SOLO_5x5", "RANKED_FLEX_SR"] }}
headers = {{ X-Riot-Token = "${{env:DELTAPOLL_TEST_TOKEN}}" }}
records = "/entries"
key = ["/puuid", "/summonerId"]
record_key = "{{region}}:{{queue}}:{{key}}"
every = "15ms"
removed_after = 1
{archive}"#,
            sim.port
        );
        fs::write(dir.path().join("deltapoll.toml"), text).unwrap();
        LocalCase { dir, sim }
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        Program::run(self.dir.path(), arguments)
    }

    fn live(&self) -> PathBuf {
        self.dir.path().join("data/topics/league/0.ndjson")
    }

    fn commit(&self) -> PathBuf {
        self.dir.path().join("data/topics/@commit.json")
    }

    /// The lines of the topic; and what replaces them, with a commit record that counts them.
    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.live()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn plant(&self, text: &str) {
        fs::write(self.live(), text).unwrap();
        let mut commit: Value = serde_json::from_slice(&fs::read(self.commit()).unwrap()).unwrap();
        commit["topics"]["league"]["0"]["bytes"] = json!(text.len());
        commit["topics"]["league"]["0"]["next"] = json!(text.lines().count());
        fs::write(self.commit(), commit.to_string()).unwrap();
    }
}

/// Lines with offsets that fit: without the one at `at`.
fn without(text: &str, at: usize) -> String {
    let lines = text.lines().enumerate().filter(|(n, _)| *n != at);
    numbered(lines.map(|(_, line)| line))
}

/// The same with the line at `at` and the next one swapped.
fn swapped(text: &str, at: usize) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.swap(at, at + 1);
    numbered(lines.into_iter())
}

fn numbered<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let number = |(n, line): (usize, &str)| {
        let (_, rest) = line.split_once(',').unwrap();
        format!("{{\"offset\":{n},{rest}\n")
    };
    lines.enumerate().map(number).collect()
}
