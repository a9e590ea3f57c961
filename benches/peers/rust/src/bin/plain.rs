//! What anybody writes first: parse everything, keep everything, compare.
//!
//! Nothing is durable: a restart publishes everything again. What is gone is not noticed.

use std::collections::HashMap;

use deltapoll_peers::{Args, Failure, Publisher};
use serde_json::Value;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::read()?;
    if args.headers {
        return Err("only tight gives headers".into());
    }
    let mut publisher = Publisher::new(&args)?;
    let client = reqwest::Client::new();
    let mut seen: HashMap<String, Value> = HashMap::new();
    for _ in 0..args.polls {
        let answer = client.get(&args.url).send().await?.error_for_status()?;
        let ladder: Value = answer.json().await?;
        let entries = ladder["entries"].as_array().ok_or("no entries")?;
        for entry in entries {
            let key = entry["puuid"].as_str().ok_or("no puuid")?;
            if seen.get(key) != Some(entry) {
                publisher.send(key, &entry.to_string(), "changed").await?;
                seen.insert(key.to_owned(), entry.clone());
            }
        }
        publisher.finish().await?;
    }
    Ok(())
}
