//! The small facts that the journal carries, and their encoding.
//!
//! ```text
//! fact*  name: u32 length + UTF-8 | 0, or 1 and value: u32 length + UTF-8
//! ```

use std::collections::BTreeMap;

/// Every small durable fact, by name.
pub type Facts = BTreeMap<String, String>;

/// A fact's name, and its new value or `None`: it ceases.
pub type FactChange = (String, Option<String>);

pub(super) fn apply(facts: &mut Facts, changes: impl IntoIterator<Item = FactChange>) {
    for (name, value) in changes {
        match value {
            Some(value) => facts.insert(name, value),
            None => facts.remove(&name),
        };
    }
}

pub(super) fn encode<'a>(changes: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in changes {
        push(&mut out, name);
        out.push(u8::from(value.is_some()));
        if let Some(value) = value {
            push(&mut out, value);
        }
    }
    out
}

/// `None`: not what [`encode`] made.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<FactChange>> {
    let mut changes = Vec::new();
    while !bytes.is_empty() {
        let name = take(&mut bytes)?;
        let (present, rest) = bytes.split_first()?;
        bytes = rest;
        let value = match present {
            0 => None,
            1 => Some(take(&mut bytes)?),
            _ => return None,
        };
        changes.push((name, value));
    }
    Some(changes)
}

fn push(out: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("a fact is far below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn take(bytes: &mut &[u8]) -> Option<String> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_read_back_and_a_cut_never_panics() {
        let changes: Vec<FactChange> = vec![
            ("position/publish".into(), Some("17".into())),
            ("gone".into(), None),
            (String::new(), Some(String::new())),
        ];
        let bytes = encode(changes.iter().map(|(n, v)| (n.as_str(), v.as_deref())));
        assert_eq!(decode(&bytes), Some(changes));
        let whole = (0..bytes.len()).filter(|cut| decode(&bytes[..*cut]).is_some());
        assert_eq!(whole.collect::<Vec<_>>(), [0, 4 + 16 + 1 + 4 + 2, 36]);
    }
}
