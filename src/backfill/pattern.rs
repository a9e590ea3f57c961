//! What the names of stored snapshots say: which cell, and when it was polled.
//!
//! A pattern is a path with `{var}`, `{time:FORMAT}` and wildcards in it. It is matched against whole
//! names; what it finds is text, looked up and parsed by nobody else.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use regex_lite::Regex;

use crate::config::cell::{Part, parts};

/// What stands for something else in a pattern.
const SPECIAL: [char; 4] = ['{', '*', '?', '['];

/// RFC 3339, Unix milliseconds, Unix seconds.
const BARE_TIME: &str = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})|[0-9]{13}|[0-9]{10}";

/// A pattern below a directory.
#[derive(Debug)]
pub struct Pattern {
    regex: Regex,
    /// What each group of the expression is, in order.
    groups: Vec<Group>,
}

#[derive(Debug)]
enum Group {
    Var(String),
    /// With its format; without: RFC 3339, or Unix seconds or milliseconds.
    Time(Option<String>),
}

/// What a name says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Values of vars.
    pub vars: BTreeMap<String, String>,
    /// When it was polled (Unix ms).
    pub polled_at: Option<u64>,
}

/// Cuts a path into the directory that is looked through, and the pattern of names below it; without a
/// pattern there is nothing to cut.
#[must_use]
pub fn split(path: &str) -> Option<(&str, &str)> {
    let special = path.find(SPECIAL)?;
    let cut = path[..special].rfind('/').map_or(0, |slash| slash + 1);
    Some(path.split_at(cut))
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(pattern: &str) -> Result<Pattern, String> {
        let mut expression = String::from("^");
        let mut groups = Vec::new();
        for part in parts(pattern) {
            match part {
                Part::Text(text) => expression.push_str(&wildcards(text)),
                Part::Var("time") => {
                    expression.push_str(&format!("({BARE_TIME})"));
                    groups.push(Group::Time(None));
                }
                Part::Var(name) => match name.split_once(':') {
                    Some(("time", format)) => {
                        expression.push_str(&format!("({})", time_expression(format)?));
                        groups.push(Group::Time(Some(format.to_owned())));
                    }
                    Some((other, _)) => {
                        return Err(format!(
                            "{{{name}}}: only time has a format, {{{other}}} is a var"
                        ));
                    }
                    None => {
                        expression.push_str("([^/]+?)");
                        groups.push(Group::Var(name.to_owned()));
                    }
                },
            }
        }
        expression.push('$');
        let times = groups.iter().filter(|g| matches!(g, Group::Time(_)));
        if times.count() > 1 {
            return Err("{time} can be there once".into());
        }
        let regex = Regex::new(&expression);
        let regex = regex.map_err(|error| format!("the pattern '{pattern}' is wrong: {error}"))?;
        Ok(Pattern { regex, groups })
    }

    /// The vars that it names.
    pub fn vars(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().filter_map(|group| match group {
            Group::Var(name) => Some(name.as_str()),
            Group::Time(_) => None,
        })
    }

    /// Whether it says when.
    #[must_use]
    pub fn has_time(&self) -> bool {
        self.groups
            .iter()
            .any(|group| matches!(group, Group::Time(_)))
    }

    /// What to say to somebody whose names do not match.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self
            .groups
            .iter()
            .any(|group| matches!(group, Group::Time(None)))
        {
            true => {
                "; {time} is RFC 3339, or Unix seconds or milliseconds: say how else it is written, for \
                 example {time:%Y-%m-%dT%H%M%S}"
            }
            false => "",
        }
    }

    /// What `name` says; `None`: it does not match.
    ///
    /// # Errors
    /// When what stands for a time is none.
    pub fn read(&self, name: &str) -> Result<Option<Said>, String> {
        let Some(captures) = self.regex.captures(name) else {
            return Ok(None);
        };
        let mut said = Said::default();
        for (group, text) in self.groups.iter().zip(captures.iter().skip(1)) {
            let text = text.map_or("", |text| text.as_str());
            match group {
                Group::Var(var) => {
                    let before = said.vars.insert(var.clone(), text.to_owned());
                    if before.is_some_and(|before| before != text) {
                        return Ok(None);
                    }
                }
                Group::Time(format) => {
                    said.polled_at = Some(parse_time(text, format.as_deref())?);
                }
            }
        }
        Ok(Some(said))
    }
}

/// An expression for `text`, in which `*` is anything within a name, `**` anything at all, `?` a
/// character and `[...]` one of these.
fn wildcards(text: &str) -> String {
    let mut expression = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length;
        match first {
            '*' if rest.starts_with("**/") => {
                expression.push_str("(?:.*/)?");
                length = 3;
            }
            '*' if rest.starts_with("**") => {
                expression.push_str(".*");
                length = 2;
            }
            '*' => {
                expression.push_str("[^/]*");
                length = 1;
            }
            '?' => {
                expression.push_str("[^/]");
                length = 1;
            }
            '[' if rest.contains(']') => {
                length = rest.find(']').expect("it is there") + 1;
                expression.push_str(&rest[..length].replacen("[!", "[^", 1));
            }
            other => {
                expression.push_str(&regex_lite::escape(&other.to_string()));
                length = other.len_utf8();
            }
        }
        rest = &rest[length..];
    }
    expression
}

/// An expression for times in `format`.
fn time_expression(format: &str) -> Result<String, String> {
    let mut expression = String::new();
    let mut rest = format.chars();
    while let Some(first) = rest.next() {
        if first != '%' {
            expression.push_str(&regex_lite::escape(&first.to_string()));
            continue;
        }
        let mut field = rest.next().unwrap_or(' ').to_string();
        if field == "3" || field == "6" || field == "9" {
            field.extend(rest.next());
        }
        expression.push_str(match field.as_str() {
            "Y" => "[0-9]{4}",
            "m" | "d" | "H" | "M" | "S" | "y" => "[0-9]{2}",
            "j" => "[0-9]{3}",
            "s" | "f" | "3f" | "6f" | "9f" => "[0-9]+",
            "b" | "B" => "[A-Za-z]+",
            "F" => "[0-9]{4}-[0-9]{2}-[0-9]{2}",
            "T" => "[0-9]{2}:[0-9]{2}:[0-9]{2}",
            "z" => "[+-][0-9]{2}:?[0-9]{2}",
            _ => {
                return Err(format!(
                    "{{time:{format}}}: %{field} is not known; known are %Y %m %d %H %M %S %y %j %s %f %3f %b %B \
                     %F %T %z"
                ));
            }
        });
    }
    Ok(expression)
}

/// Unix milliseconds; what has no offset is UTC.
fn parse_time(text: &str, format: Option<&str>) -> Result<u64, String> {
    let millis = match format {
        None => bare_time(text),
        Some(format) if format.contains("%z") => DateTime::parse_from_str(text, format)
            .ok()
            .map(|time| time.timestamp_millis()),
        Some(format) => naive_time(text, format).map(|time| time.and_utc().timestamp_millis()),
    };
    let millis = millis.and_then(|millis| u64::try_from(millis).ok());
    millis.ok_or_else(|| match format {
        Some(format) => format!("'{text}' is not a time of the form {format}"),
        None => format!(
            "'{text}' is neither RFC 3339 nor Unix seconds or milliseconds: say how it is written, for \
             example {{time:%Y-%m-%dT%H%M%S}}"
        ),
    })
}

fn bare_time(text: &str) -> Option<i64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match (digits, text.len()) {
        (true, 10) => Some(text.parse::<i64>().ok()? * 1000),
        (true, 13) => text.parse().ok(),
        _ => Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis()),
    }
}

/// Hours without minutes and days without hours are their beginnings.
fn naive_time(text: &str, format: &str) -> Option<NaiveDateTime> {
    let whole = NaiveDateTime::parse_from_str(text, format);
    let hour = || NaiveDateTime::parse_from_str(&format!("{text} 00"), &format!("{format} %M"));
    let day = || {
        NaiveDate::parse_from_str(text, format)
            .ok()?
            .and_hms_opt(0, 0, 0)
    };
    whole.or_else(|_| hour()).ok().or_else(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pattern: &str, name: &str) -> Option<(String, Option<u64>)> {
        let said = Pattern::parse(pattern).unwrap().read(name).unwrap()?;
        let vars: Vec<_> = said.vars.iter().map(|(k, v)| format!("{k}={v}")).collect();
        Some((vars.join(","), said.polled_at))
    }

    #[test]
    fn names_say_vars_and_times() {
        let at = 1_785_575_106_000; // 2026-08-01T09:05:06Z
        for (pattern, name, vars, time) in [
            (
                "{region}/{queue}/{time:%Y-%m-%dT%H%M%S}.json.gz",
                "kr/SOLO/2026-08-01T090506.json.gz",
                "queue=SOLO,region=kr",
                Some(at),
            ),
            (
                "{time:%Y/%m/%d/%H%M%S}-{r}.json",
                "2026/08/01/090506-euw1.json",
                "r=euw1",
                Some(at),
            ),
            ("{r}-{time}.json", "kr-1785575106.json", "r=kr", Some(at)),
            ("{time}.json", "1785575106007.json", "", Some(at + 7)),
            ("{time}", "2026-08-01T11:05:06+02:00", "", Some(at)),
            (
                "{time:%Y%m%dT%H%M%S%z}",
                "20260801T110506+0200",
                "",
                Some(at),
            ),
            ("{time}*.json", "1785575106-17.json", "", Some(at)),
            ("{time:%s}.json", "1785575106.json", "", Some(at)),
            (
                "{time:%Y-%m-%d %H}",
                "2026-08-01 09",
                "",
                Some(at - 306_000),
            ),
            ("{time:%F}", "2026-08-01", "", Some(at - 32_706_000)),
            ("{r}/**/*.json", "kr/a/b/c.json", "r=kr", None),
            ("{r}/**/*.json", "kr/c.json", "r=kr", None),
            ("{r}/{r}-*.json", "kr/kr-1.json", "r=kr", None),
            ("[ab]?.json", "bx.json", "", None),
        ] {
            assert_eq!(
                said(pattern, name),
                Some((vars.to_owned(), time)),
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn names_that_do_not_match_say_nothing() {
        for (pattern, name) in [
            ("{r}/*.json", "kr/a/b.json"),
            ("{r}/*.json", "kr/a.json.gz"),
            ("*.json", "xjson"),
            ("{r}/{r}-*.json", "kr/euw1-1.json"),
            ("{time:%Y}.json", "20x6.json"),
            ("{time}.json", "monday.json"),
            ("{time}.json", "17855751060.json"),
            ("[!ab].json", "a.json"),
        ] {
            assert_eq!(said(pattern, name), None, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_pattern_or_a_time_is_said() {
        let wrong = |pattern| Pattern::parse(pattern).unwrap_err();
        assert!(wrong("{time:%Q}").contains("%Q is not known"));
        assert!(wrong("{region:x}").contains("{region} is a var"));
        assert!(wrong("{time}{time}").contains("once"));
        let read = |pattern, name| Pattern::parse(pattern).unwrap().read(name).unwrap_err();
        assert!(read("{time:%F}", "2026-13-01").contains("not a time of the form %F"));
        assert!(read("{time}", "2026-02-30T00:00:00Z").contains("say how it is written"));
    }

    #[test]
    fn a_path_is_cut_where_the_pattern_begins() {
        assert_eq!(split("a/b/c.json"), None);
        assert_eq!(split("a/b-{x}/c"), Some(("a/", "b-{x}/c")));
        assert_eq!(split("*.json"), Some(("", "*.json")));
        assert_eq!(split("gs://b/p/{t}.json"), Some(("gs://b/p/", "{t}.json")));
    }
}
