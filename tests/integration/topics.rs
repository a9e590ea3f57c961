//! Topics and the progress topic as the directory knows them, and as a real broker has them.

use crate::support::memory::Memory;
use crate::support::publisher::{Case, Hands, outcome, send, stranger};
use deltapoll::change::Seq;
use deltapoll::fault::Exit;
use deltapoll::follower::{Facts, Follower};
use deltapoll::io::kafka::progress;

#[test]
fn r23_a_progress_topic_that_forgets_is_refused() {
    let case = Case::new("policy");
    let hands = Hands::on(case.bootstrap());
    hands.create(&case.config.progress_topic(), 1, "compact,delete");
    let fault = case.prepare(&Memory::default()).unwrap_err();
    assert_eq!(fault.exit, Exit::Directory);
    assert!(fault.message.contains("cleanup.policy"), "{fault}");
}

#[test]
fn r23_a_progress_topic_that_the_journal_remembers_must_be_there() {
    let case = Case::new("forgotten");
    let journal = Memory::default();
    case.prepare(&journal).unwrap();
    Hands::on(case.bootstrap()).delete(&case.config.progress_topic());
    let fault = case.prepare(&journal).unwrap_err();
    assert_eq!(fault.exit, Exit::Directory);
    assert!(fault.message.contains("is gone"), "{fault}");
}

#[test]
fn r23_a_progress_topic_with_two_partitions_is_refused() {
    let case = Case::new("two");
    Hands::on(case.bootstrap()).create(&case.config.progress_topic(), 2, "compact");
    let fault = case.prepare(&Memory::default()).unwrap_err();
    assert_eq!(fault.exit, Exit::Directory);
    assert!(fault.message.contains("has 2 partitions"), "{fault}");
}

#[test]
fn r23_a_progress_topic_that_was_made_again_is_refused() {
    let case = Case::new("again");
    let journal = Memory::default();
    case.prepare(&journal).unwrap();
    let (hands, topic) = (Hands::on(case.bootstrap()), case.config.progress_topic());
    hands.delete(&topic);
    hands.create(&topic, 1, "compact");
    let fault = case.prepare(&journal).unwrap_err();
    assert_eq!(fault.exit, Exit::Directory);
    assert!(fault.message.contains("deleted and made again"), "{fault}");
}

#[test]
fn r23_a_progress_topic_that_lost_its_records_is_refused() {
    let case = Case::new("truncated");
    let journal = Memory::default();
    let upto = journal.seal(&case.topic, &[("a", Some("1"))]);
    case.start(&journal, Seq(0)).advance(upto).unwrap();
    Hands::on(case.bootstrap()).truncate(&case.config.progress_topic());
    let fault = outcome(case.setup(&journal, upto), upto).unwrap_err();
    assert_eq!(fault.exit, Exit::Directory);
    for part in ["holds no record", "nothing was fenced"] {
        assert!(fault.message.contains(part), "{fault}");
    }
    assert_eq!(case.pairs(), ["a=1"]);
}

#[test]
fn r23_damage_and_strangers_in_the_progress_topic_are_told_apart() {
    let case = Case::new("damage");
    let journal = Memory::default();
    case.prepare(&journal).unwrap();
    let stranger = stranger(case.bootstrap());
    let topic = case.config.progress_topic();
    send(&stranger, &topic, "other/0", "junk");
    let mut publisher = case.start(&journal, Seq(0));
    assert_eq!(
        publisher.start().unwrap(),
        Seq(0),
        "a stranger's record is not ours to read"
    );
    let key = progress::key(&case.config.name);
    send(&stranger, &topic, &key, "junk");
    let mut publisher = case.start(&journal, Seq(0));
    let fault = publisher.start().unwrap_err();
    assert_eq!(fault.exit, Exit::Directory);
    assert!(fault.message.contains("damaged"), "{fault}");
}

#[test]
fn r22_a_topic_that_was_made_again_is_refused() {
    let case = Case::new("again");
    let hands = Hands::on(case.bootstrap());
    hands.create(&case.topic, 2, "compact");
    let journal = Memory::default();
    let plan = case.prepare(&journal).unwrap();
    assert_eq!(plan.topics[&case.topic].partitions, 2);
    hands.delete(&case.topic);
    hands.create(&case.topic, 2, "compact");
    let fault = case.prepare(&journal).unwrap_err();
    assert_eq!(fault.exit, Exit::Directory);
    let was = plan.topics[&case.topic]
        .id
        .clone()
        .expect("brokers have topic ids");
    assert!(fault.message.contains(&was), "{fault}");
    assert!(fault.message.contains("republish"), "{fault}");
}

#[test]
fn r22_a_lowered_partition_count_is_refused() {
    let case = Case::new("lowered");
    let journal = Memory::default();
    case.prepare(&journal).unwrap();
    let name = format!("topic/{}", case.topic);
    let fact = journal.get(&name).unwrap();
    let more = fact.replace("\"partitions\":1", "\"partitions\":3");
    assert_ne!(fact, more);
    journal.set(vec![(name, Some(more))], true).unwrap();
    let fault = case.prepare(&journal).unwrap_err();
    assert_eq!(fault.exit, Exit::Directory);
    assert!(
        fault.message.contains("has 1 partitions") && fault.message.contains("to 3"),
        "{fault}"
    );
}

#[test]
fn r22_a_raised_partition_count_keeps_the_old_mapping() {
    let case = Case::new("raised");
    let journal = Memory::default();
    case.prepare(&journal).unwrap();
    Hands::on(case.bootstrap()).raise(&case.topic, 4);
    let plan = case.prepare(&journal).unwrap();
    assert_eq!(plan.topics[&case.topic].partitions, 1);
}

#[test]
fn r32_another_cluster_is_refused() {
    let case = Case::new("cluster");
    let journal = Memory::default();
    case.prepare(&journal).unwrap();
    let other = vec![("kafka/cluster".to_string(), Some("\"other\"".to_string()))];
    journal.set(other, true).unwrap();
    let fault = case.prepare(&journal).unwrap_err();
    assert_eq!(fault.exit, Exit::Directory);
    assert!(fault.message.contains("'other'"), "{fault}");
}
