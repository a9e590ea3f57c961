//! The configuration of the demo: everything in one process, nothing to install.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::read::keep_literals;
use super::secret::Text;
use super::{Archive, Checkpoint, Codec, Config, Format, Limits, Local, Removed, Roll, Source};

/// The name under which the demo keeps its state.
pub const NAME: &str = "demo";
/// What the demo sends as `X-Riot-Token`; the simulated API takes any.
pub const TOKEN: &str = "demo-token";

/// Polls the simulated league API at `address` each second, into the local topic log and a directory
/// of Avro objects, all under `data_dir`.
///
/// # Errors
/// When `data_dir` cannot be made absolute.
pub fn embedded(address: SocketAddr, data_dir: &Path) -> Result<Config, String> {
    let url =
        format!("http://{address}/{{region}}/lol/league/v4/challengerleagues/by-queue/{{queue}}");
    let values = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
    let source = Source {
        url,
        vars: BTreeMap::from([
            ("region".to_owned(), values(&["kr", "euw1"])),
            ("queue".to_owned(), values(&["RANKED_SOLO_5x5"])),
        ]),
        headers: BTreeMap::from([("X-Riot-Token".to_owned(), Text::new(TOKEN))]),
        every: Duration::from_secs(1),
        records: "/entries".to_owned(),
        key: values(&["/puuid", "/summonerId"]),
        record_key: "{region}:{key}".to_owned(),
        ignore: Vec::new(),
        removed: Removed::Tombstone,
        removed_after: 2,
        complete: true,
        topic: None,
        format: Format::Json,
    };
    let config = Config {
        name: NAME.to_owned(),
        data_dir: data_dir.to_owned(),
        source: BTreeMap::from([("challenger".to_owned(), source)]),
        on_cell_removed: None,
        kafka: None,
        local: Local::default(),
        archive: Some(Archive {
            url: directory_url(&data_dir.join("archive"))?,
            codec: Codec::default(),
            roll: Roll::default(),
            options: BTreeMap::new(),
        }),
        checkpoint: Checkpoint::default(),
        limits: Limits::default(),
    };
    keep_literals(&config);
    Ok(config)
}

fn directory_url(path: &Path) -> Result<String, String> {
    let told = |what: String| format!("the directory {}: {what}", path.display());
    let absolute: PathBuf = std::path::absolute(path).map_err(|error| told(error.to_string()))?;
    let url = reqwest::Url::from_file_path(absolute);
    url.map(String::from)
        .map_err(|()| told("is not absolute".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check;

    #[test]
    fn the_demo_is_a_sound_configuration_of_two_cells() {
        let address = "127.0.0.1:4711".parse().unwrap();
        let config = embedded(address, Path::new("some where")).unwrap();
        check::check(&config).unwrap();
        let cells = crate::config::cell::expand("challenger", &config.source["challenger"]);
        let urls: Vec<_> = cells.iter().map(|cell| cell.url.as_str()).collect();
        assert_eq!(
            urls,
            ["kr", "euw1"].map(|region| format!(
                "http://127.0.0.1:4711/{region}/lol/league/v4/challengerleagues/by-queue/RANKED_SOLO_5x5"
            ))
        );
        let archive = config.archive.unwrap().url;
        assert!(archive.starts_with("file:///"), "{archive}");
        assert!(archive.ends_with("/some%20where/archive"), "{archive}");
    }
}
