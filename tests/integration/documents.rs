//! What the documents say is tried: every configuration in them is sound, and the README's table has
//! every field with its default.

use std::collections::BTreeSet;
use std::path::Path;

use deltapoll::config::{Config, check_shape, parse, warnings};
use deltapoll::fault::Exit;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const MINIMAL: &str = "name = \"n\"\n[source.s]\nurl = \"http://h\"\nkey = [\"/id\"]\n";

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn is_sound(text: &str, origin: &str) {
    let config = parse(text, origin).unwrap();
    check_shape(&config).unwrap_or_else(|fault| panic!("{origin}: {fault}"));
    assert_eq!(warnings(&config), [""; 0], "{origin}");
}

#[test]
fn every_example_is_a_sound_configuration() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let text = std::fs::read_to_string(&path).unwrap();
            is_sound(&text, &path.display().to_string());
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen} examples");
}

#[test]
fn every_configuration_in_the_readme_is_sound() {
    let readme = read("README.md");
    let blocks: Vec<_> = readme.split("```toml\n").skip(1).collect();
    assert!(blocks.len() >= 2, "{} blocks", blocks.len());
    for block in blocks {
        is_sound(block.split("```").next().unwrap(), "README.md");
    }
}

#[test]
fn no_configuration_however_mangled_ends_in_a_panic() {
    let examples = ["examples/riot.toml", "examples/secured.toml"].map(read);
    let pieces = [
        "\"", "'", "[", "]", "{", "}", "=", "\n", "0", "-", "~", "/", ":", "$", "${", "\u{e9}",
    ];
    let mut random = StdRng::seed_from_u64(7);
    let (mut sound, mut wrong) = (0, 0);
    for round in 0..5_000 {
        let mut text: Vec<char> = examples[round % 2].chars().collect();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..text.len());
            let until = text.len().min(at + random.random_range(0..30));
            let piece = pieces[random.random_range(0..pieces.len())];
            text.splice(at..until, piece.chars());
        }
        let text: String = text.into_iter().collect();
        let checked = parse(&text, "a.toml").and_then(|config| {
            drop(warnings(&config));
            check_shape(&config)
        });
        match checked {
            Ok(()) => sound += 1,
            Err(fault) => {
                assert_eq!(fault.exit, Exit::Usage, "round {round}:\n{text}");
                assert!(!fault.message.is_empty(), "round {round}:\n{text}");
                wrong += 1;
            }
        }
    }
    assert!(sound > 100 && wrong > 1_000, "{sound} sound, {wrong} wrong");
}

/// Rows of the README's configuration table: section, field, default.
fn table() -> Vec<(String, String, String)> {
    let readme = read("README.md");
    let table = readme.split("## Configuration").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let mut section = String::new();
    let mut rows = Vec::new();
    for line in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let field = cells[1].trim_matches(['*', '`']).to_owned();
        if cells[1].starts_with("**") {
            section = field.replace("NAME", "s");
        } else {
            rows.push((
                section.clone(),
                field,
                cells[2].trim_matches('`').to_owned(),
            ));
        }
    }
    rows
}

/// The fields of `section`, as the error for an unknown one lists them.
fn fields(section: &str, required: &str, table: &str) -> Vec<String> {
    let unknown = match table {
        "" => "zzzzzzzzzzzz = 1\n".to_owned(),
        table => format!("{table} = {{ zzzzzzzzzzzz = 1 }}\n"),
    };
    let text = match section {
        "" => format!("{unknown}{MINIMAL}"),
        "[source.s]" => format!("{MINIMAL}{unknown}"),
        section => format!("{MINIMAL}{section}\n{required}{unknown}"),
    };
    let told = parse(&text, "a.toml").unwrap_err().message;
    let names = told
        .split_once("there are ")
        .unwrap_or_else(|| panic!("{told}"))
        .1;
    names
        .split(", ")
        .map(|name| name.trim_matches('\'').to_owned())
        .collect()
}

#[test]
fn the_readme_has_every_field_once() {
    let sections = [
        ("", ""),
        ("[source.s]", ""),
        ("[kafka]", "bootstrap = \"h:1\"\n"),
        ("[local]", ""),
        ("[archive]", "url = \"file:///a\"\n"),
        ("[checkpoint]", ""),
        ("[limits]", ""),
    ];
    let mut known = BTreeSet::new();
    for (section, required) in sections {
        for field in fields(section, required, "") {
            let is_section =
                section.is_empty() && sections.iter().any(|s| s.0 == format!("[{field}]"));
            match (section, field.as_str()) {
                ("", "source") => {}
                _ if is_section => {}
                ("[kafka]", "create") | ("[archive]", "roll") => {
                    for inner in fields(section, required, &field) {
                        known.insert((section.to_owned(), format!("{field}.{inner}")));
                    }
                }
                _ => {
                    known.insert((section.to_owned(), field));
                }
            }
        }
    }
    let rows = table();
    let shown: BTreeSet<_> = rows
        .iter()
        .map(|(section, field, _)| (section.clone(), field.clone()))
        .collect();
    assert_eq!(shown, known);
    assert_eq!(rows.len(), shown.len(), "no field is there twice");
}

#[test]
fn the_defaults_in_the_readme_are_those_of_the_program() {
    let sections = "[kafka]\nbootstrap = \"h:1\"\n[archive]\nurl = \"s3://b\"\n";
    let plain = |config: &Config| format!("{config:?}");
    let default = plain(&parse(&format!("{MINIMAL}{sections}"), "a.toml").unwrap());
    let mut tried = 0;
    for (section, field, value) in table() {
        let written = value.starts_with('"') || value.parse::<u64>().is_ok() || value == "true";
        if !written || field == "progress_topic" {
            continue;
        }
        tried += 1;
        let line = format!("{field} = {value}\n");
        let text = match section.as_str() {
            "" => format!("{line}{MINIMAL}{sections}"),
            "[source.s]" => format!("{MINIMAL}{line}{sections}"),
            "[kafka]" | "[archive]" => format!("{MINIMAL}{sections}")
                .replace(&format!("{section}\n"), &format!("{section}\n{line}")),
            section => format!("{MINIMAL}{sections}{section}\n{line}"),
        };
        let config =
            parse(&text, "a.toml").unwrap_or_else(|fault| panic!("{section} {field}: {fault}"));
        assert_eq!(plain(&config), default, "{section} {field} = {value}");
    }
    assert!(tried >= 20, "{tried} defaults");
}

/// Every row of the README's table of faults names what is there.
#[test]
fn the_readmes_table_of_faults_names_tests_that_exist() {
    let readme = read("README.md");
    let table = readme.split("| fault | tests |").nth(1).unwrap();
    let table = table.split("\n\n").next().unwrap();
    let sources: String = [
        "pipeline.rs",
        "crash.rs",
        "archive_faults.rs",
        "backfill.rs",
        "backfill/archive.rs",
        "backfill/steps.rs",
    ]
    .map(|file| read(&format!("tests/integration/{file}")))
    .concat();
    let mut named = 0;
    for row in table.lines().filter(|line| line.starts_with("| ")) {
        for name in row.rsplit('|').nth(1).unwrap().split(", ") {
            let name = name.trim();
            match name.strip_prefix('`') {
                Some(test) => {
                    let test = format!("fn {}()", test.trim_end_matches('`'));
                    assert!(sources.contains(&test), "{test}");
                }
                None => drop(read(name)),
            }
            named += 1;
        }
    }
    assert!(named >= 12, "{named} tests");
}
