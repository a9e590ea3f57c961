//! Random use of the journal against a list of all that it must hold.

use super::*;
use crate::dice::Dice;

/// What the journal must hold: everything, and how much of it a reopen must find.
#[derive(Clone, Default)]
struct Model {
    batches: Vec<(u64, Vec<u8>, bool)>,
    facts: Facts,
    retired: u64,
    epoch: u64,
}

impl Model {
    fn check(&self, journal: &Journal, dice: &mut Dice) {
        let sealed = self.batches.len() as u64;
        assert_eq!(journal.sealed().seq, Seq(sealed));
        let oldest = journal.oldest().0;
        assert!(
            oldest <= self.retired + 1,
            "{oldest} is past {}",
            self.retired
        );
        let position = oldest - 1 + dice.below(sealed + 2 - oldest);
        let mut reader = journal.readers().after(Seq(position)).unwrap();
        for (index, (epoch, body, last)) in self.batches.iter().enumerate() {
            if index as u64 >= position {
                let frame = reader.next().unwrap().expect("sealed");
                assert_eq!(frame.seq, Seq(index as u64 + 1));
                assert_eq!(
                    (frame.epoch.0, &frame.body, frame.last),
                    (*epoch, body, *last)
                );
            }
        }
        assert_eq!(reader.next().unwrap(), None);
    }
}

#[test]
fn model_random_appends_syncs_rolls_retires_and_reopens_agree_with_a_list() {
    let mut dice = Dice::new(11);
    let dir = tempfile::tempdir().unwrap();
    let mut journal = small(dir.path()).unwrap();
    let (mut durable, mut model) = (Model::default(), Model::default());
    for _ in 0..1500 {
        match dice.below(12) {
            0..=4 => {
                let before = model.clone();
                model.epoch += 1 + dice.below(3);
                let batches = 1 + dice.below(3);
                for index in 1..=batches {
                    let body = vec![index as u8; dice.below(200) as usize];
                    let name = format!("fact {}", dice.below(9));
                    let value = (!dice.once_in(3)).then(|| model.epoch.to_string());
                    let end = (index == batches).then(|| vec![(name, value)]);
                    let seq = journal
                        .append(Epoch(model.epoch), &body, end.as_deref())
                        .unwrap();
                    model.batches.push((model.epoch, body, end.is_some()));
                    assert_eq!(seq, Seq(model.batches.len() as u64));
                    facts::apply(&mut model.facts, end.into_iter().flatten());
                    if dice.once_in(6) && index < batches {
                        journal.sync().unwrap();
                        durable = before.clone();
                    }
                }
            }
            5 | 6 => {
                let changes = [fact(&format!("control {}", dice.below(5)), "x")];
                journal.record(&changes).unwrap();
                facts::apply(&mut model.facts, changes);
            }
            7 | 8 => {
                journal.sync().unwrap();
                durable = model.clone();
            }
            9 => {
                journal.roll().unwrap();
                durable = model.clone();
            }
            10 => {
                journal.sync().unwrap();
                let held = model.batches.len() as u64 - model.retired;
                model.retired += dice.below(held + 1);
                durable = model.clone();
                journal.retire(Seq(model.retired)).unwrap();
            }
            _ => {
                let abandoned = dice.once_in(2);
                if abandoned {
                    journal
                        .append(Epoch(model.epoch + 1), b"half", None)
                        .unwrap();
                }
                if dice.once_in(2) {
                    journal.sync().unwrap();
                    durable = model.clone();
                }
                drop(journal);
                journal = small(dir.path()).unwrap();
                // What was not synced was in the buffer only.
                model = durable.clone();
                model.check(&journal, &mut dice);
            }
        }
        assert_eq!(journal.facts(), &model.facts);
        if journal.sealed().seq == Seq(durable.batches.len() as u64) {
            durable.check(&journal, &mut dice);
        }
    }
    journal.sync().unwrap();
    model.check(&journal, &mut dice);
}
