//! What a careful programmer writes in an afternoon: entries are slices of the body, known by hashes.
//!
//! Nothing is durable: a restart publishes everything again. What is gone is not noticed.

use std::borrow::Cow;
use std::collections::HashMap;

use deltapoll_peers::{Args, Failure, Publisher};
use serde::Deserialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

#[derive(Deserialize)]
struct Ladder<'a> {
    #[serde(borrow)]
    entries: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    puuid: Cow<'a, str>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::read()?;
    let mut publisher = Publisher::new(&args)?;
    let client = reqwest::Client::new();
    let mut seen: HashMap<u128, u64> = HashMap::new();
    for number in 0..args.polls {
        let answer = client.get(&args.url).send().await?.error_for_status()?;
        let body = answer.bytes().await?;
        publisher.polled(number)?;
        let ladder: Ladder = serde_json::from_slice(&body)?;
        for entry in ladder.entries {
            let Entry { puuid } = serde_json::from_str(entry.get())?;
            let hash = xxh3_64(entry.get().as_bytes());
            let known = seen.insert(xxh3_128(puuid.as_bytes()), hash);
            if known != Some(hash) {
                let change = if known.is_some() { "changed" } else { "added" };
                publisher.send(&puuid, entry.get(), change).await?;
            }
        }
        publisher.finish().await?;
    }
    Ok(())
}
