//! What is planted in the archive is found and named.

use super::*;

/// Bucket and name.
type Key = (String, String);

/// A pipeline that archived twice, whose objects agree.
fn archived(name: &str) -> Case {
    let case = Case::new(name, &BUSY);
    for _ in 0..2 {
        case.run(&["--rounds", "12", "--flush-archive"]).good();
    }
    agrees(&case.run(&["verify"]), &[]);
    case
}

/// The first and the last object of a lane that has two at least.
fn two(all: &BTreeMap<Key, Bytes>) -> (&Key, &Key) {
    let mut lanes: BTreeMap<&str, Vec<&Key>> = BTreeMap::new();
    for key in all.keys() {
        let lane = key.1.rsplit_once('/').unwrap().0;
        lanes.entry(lane).or_default().push(key);
    }
    let lane = lanes.values().find(|lane| lane.len() > 1);
    let lane = lane.expect("two runs, two objects");
    (lane[0], lane[lane.len() - 1])
}

/// What an object is called in the report.
fn short(key: &Key) -> String {
    key.1.split_once('/').unwrap().1.to_owned()
}

#[test]
fn kafka_objects_that_are_gone_cut_or_changed_are_found_and_named() {
    let case = archived("verify-objects");
    let all = case.objects.all();
    let (first, last) = two(&all);
    for gone in [first, last] {
        case.objects.replace(gone, None);
        let records = Header::read(&all[gone]).unwrap().records();
        for memory in ["256MiB", "64KiB"] {
            let found = case.run(&["verify", "--memory", memory]);
            disagrees(
                &found,
                &[
                    "topic verify-objects-",
                    ", offset ",
                    "key \"",
                    ": not in the archive",
                ],
            );
            let wanted = BTreeMap::from([
                ("changes that no object has".to_owned(), records),
                (
                    "records in the topic that were never sealed or are not archived".to_owned(),
                    records,
                ),
            ]);
            assert_eq!(kinds(&found), wanted, "{}", found.out);
        }
        case.objects.replace(gone, Some(all[gone].clone()));
    }
    let half = all[first].len() / 2;
    case.objects.replace(first, Some(all[first].slice(..half)));
    let cut = case.run(&["verify"]);
    let named = format!("object {}: it is cut off or damaged", short(first));
    disagrees(&cut, &["objects that are not sound: 1\n", &named]);

    for honest in [true, false] {
        let (bytes, key) = changed(&first.1, &all[first], honest);
        case.objects.replace(first, Some(bytes));
        let found = case.run(&["verify"]);
        let named = format!("key {key:?}");
        let object = format!("object {}", short(first));
        let differs = "records that differ between topic and archive or journal: 1\n";
        disagrees(&found, &[differs, &named, &object, ", offset "]);
        let digest = "its digest is not that of its changes";
        assert_eq!(found.out.contains(digest), !honest, "{}", found.out);
    }
    case.objects.replace(first, Some(all[first].clone()));
    agrees(&case.run(&["verify"]), &[]);
}

#[test]
fn kafka_planted_objects_of_others_and_too_many_are_found_and_named() {
    let case = archived("verify-others");
    let all = case.objects.all();
    let (first, last) = two(&all);
    // The same changes in two objects.
    let header = Header::read(&all[last]).unwrap();
    let twin = rewritten(
        &all[last],
        Header {
            first: header.first + 1,
            last: header.last + 1,
            ..header
        },
    );
    let name = last.1.rsplit_once('+').unwrap().0;
    let twin_key = (
        last.0.clone(),
        format!("{name}+{:010}.avro", header_first(&twin)),
    );
    case.objects.replace(&twin_key, Some(twin));
    let found = case.run(&["verify"]);
    disagrees(
        &found,
        &[
            "changes that several objects have: ",
            ": in the archive; not in the topic, or less often",
        ],
    );
    case.objects.replace(&twin_key, None);

    // Somebody else's object, and one of changes that nobody published.
    let header = Header::read(&all[first]).unwrap();
    let lineage = "ff".repeat(16);
    let theirs = rewritten(&all[first], Header { lineage, ..header });
    case.objects.replace(first, Some(theirs));
    let found = case.run(&["verify"]);
    disagrees(
        &found,
        &[
            "not sound: 1\n",
            ": it belongs to another directory (lineage ffff",
        ],
    );
    case.objects.replace(first, Some(all[first].clone()));
    let header = Header::read(&all[last]).unwrap();
    let ahead = of_one(&header.lineage, header.last + 1, Seq(99_999));
    let ahead_key = (
        last.0.clone(),
        format!("{name}+{:010}.avro", header.last + 1),
    );
    case.objects.replace(&ahead_key, Some(ahead));
    let found = case.run(&["verify"]);
    let told = ": it ends with batch 99999, committed are batches up to ";
    disagrees(
        &found,
        &["objects ahead of the topic: 1\n", &short(&ahead_key), told],
    );
    case.objects.replace(&ahead_key, None);
    agrees(&case.run(&["verify"]), &[]);
}

/// An object of one change.
fn of_one(lineage: &str, first: u64, seq: Seq) -> Bytes {
    let record = Record {
        key: "somebody",
        kind: Kind::Added,
        epoch: Epoch(1 << 42),
        seq,
        polled_at: 1,
        print: 1,
        value: Some("{}"),
    };
    let mut blocks = Blocks::new(Codec::Null, [7; 16]);
    blocks.push(&record).unwrap();
    let mut digester = Digester::default();
    digester.push(&record);
    let header = Header {
        lineage: lineage.to_owned(),
        first,
        last: first,
        seq_first: seq,
        seq_last: seq,
        digest: digester.digest(),
    };
    let metadata = header.metadata();
    let metadata: Vec<_> = metadata.iter().map(|(k, v)| (*k, v.as_str())).collect();
    blocks.file(&metadata).unwrap().concat().into()
}

fn header_first(bytes: &[u8]) -> u64 {
    Header::read(bytes).unwrap().first
}

/// The same changes under another header.
fn rewritten(bytes: &[u8], header: Header) -> Bytes {
    let mut blocks = Blocks::new(Codec::Null, [7; 16]);
    read::each(bytes, &mut |record| blocks.push(record).unwrap()).unwrap();
    let metadata = header.metadata();
    let metadata: Vec<_> = metadata.iter().map(|(k, v)| (*k, v.as_str())).collect();
    blocks.file(&metadata).unwrap().concat().into()
}
