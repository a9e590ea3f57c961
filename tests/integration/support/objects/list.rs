//! Listings of the object server.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use axum::response::{IntoResponse, Response};

use super::{Object, Shared, lock};

pub(super) fn list(store: &Shared, bucket: &str, query: &BTreeMap<String, String>) -> Response {
    let text = |name: &str| query.get(name).map_or("", String::as_str);
    let (prefix, delimiter) = (text("prefix"), text("delimiter"));
    let after = query.get("continuation-token").or(query.get("start-after"));
    let after = after.map_or("", String::as_str);
    let most: usize = query
        .get("max-keys")
        .and_then(|text| text.parse().ok())
        .unwrap_or(1000);
    let (mut listed, mut common) = (Vec::new(), BTreeSet::new());
    let mut next = None;
    let store = lock(store);
    let of_bucket = store.objects.iter().filter(|((of, _), _)| of == bucket);
    for ((_, name), object) in of_bucket {
        if !name.starts_with(prefix) || name.as_str() <= after {
            continue;
        }
        if listed.len() + common.len() == most {
            next = listed
                .last()
                .map(|(name, _): &(&String, &Object)| (*name).clone());
            break;
        }
        let rest = &name[prefix.len()..];
        match rest.find(delimiter).filter(|_| !delimiter.is_empty()) {
            Some(at) => {
                let folder = format!("{prefix}{}", &rest[..at + delimiter.len()]);
                if folder.as_str() > after {
                    common.insert(folder);
                }
            }
            None => listed.push((name, object)),
        }
    }
    let mut xml = String::from("<ListBucketResult>");
    for (
        name,
        Object {
            bytes,
            generation,
            listed,
            ..
        },
    ) in listed
    {
        let (name, size) = (escape(name), bytes.len());
        write!(
            xml,
            "<Contents><Key>{name}</Key><Size>{size}</Size><LastModified>{listed}</LastModified>\
             <ETag>\"{generation}\"</ETag></Contents>"
        )
        .unwrap();
    }
    for folder in common {
        write!(
            xml,
            "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>",
            escape(&folder)
        )
        .unwrap();
    }
    if let Some(next) = next {
        write!(
            xml,
            "<NextContinuationToken>{}</NextContinuationToken>",
            escape(&next)
        )
        .unwrap();
    }
    xml.push_str("</ListBucketResult>");
    xml.into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
