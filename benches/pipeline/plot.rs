//! Panels of lines over named places, with a logarithmic axis, as SVG.

use std::fmt::Write as _;

/// One line; a value for each tick.
pub struct Line {
    pub name: String,
    pub dashed: bool,
    pub values: Vec<f64>,
}

/// Lines with axes of their own.
pub struct Panel {
    pub title: String,
    /// What the ticks are of.
    pub axis: String,
    pub ticks: Vec<String>,
    pub lines: Vec<Line>,
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
const GAP: f64 = 30.0;
/// Below the plot: ticks, the axis' name, and a row for each line.
const AXIS: f64 = 56.0;
const ROW: f64 = 18.0;
/// The second column of names: dashed lines.
const COLUMN: f64 = WIDTH / 2.0;
/// Told apart by the colour-blind too; the dashed ones begin again.
const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];
/// Lines that lie on each other are told apart by these, and by those below being broader.
const WIDTHS: [f64; 3] = [6.0, 3.5, 1.5];
const MARK: f64 = 4.0;
/// What an axis may begin and end with, in each decade.
const STEPS: [f64; 3] = [1.0, 2.0, 5.0];

/// Draws panels beside each other.
pub fn svg(panels: &[Panel], note: &str) -> String {
    let rows = panels.iter().map(|panel| columns(&panel.lines));
    let rows = rows.map(|[solid, dashed]| solid.max(dashed)).max();
    let legend = rows.unwrap_or(0) as f64 * ROW;
    let width = panels.len() as f64 * (LEFT + WIDTH + GAP);
    let height = TOP + HEIGHT + AXIS + legend + 2.0 * ROW;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut add = |element: String| writeln!(out, "{element}").expect("strings take everything");
    for (n, panel) in panels.iter().enumerate() {
        add(format!(
            "<g transform=\"translate({},{TOP})\">",
            LEFT + n as f64 * (LEFT + WIDTH + GAP)
        ));
        draw(panel, &mut add);
        add("</g>".into());
    }
    add(text(LEFT, height - ROW / 2.0, "start", note));
    out + "</svg>\n"
}

/// How many lines are solid, and dashed.
fn columns(lines: &[Line]) -> [usize; 2] {
    let dashed = lines.iter().filter(|line| line.dashed).count();
    [lines.len() - dashed, dashed]
}

fn draw(panel: &Panel, add: &mut impl FnMut(String)) {
    let marks = marks(panel.lines.iter().flat_map(|line| &line.values));
    let (bottom, top) = (marks[0].log10(), marks[marks.len() - 1].log10());
    let y = |value: f64| HEIGHT * (top - value.log10()) / (top - bottom);
    let x = |tick: usize| WIDTH * (tick as f64 + 0.5) / panel.ticks.len() as f64;
    add(format!(
        "<text y=\"-14\" font-weight=\"bold\">{}</text>",
        escaped(&panel.title)
    ));
    for mark in marks {
        add(line((0.0, y(mark)), (WIDTH, y(mark)), "#dddddd"));
        add(text(-8.0, y(mark) + 4.0, "end", &number(mark)));
    }
    for (n, tick) in panel.ticks.iter().enumerate() {
        add(line((x(n), HEIGHT), (x(n), HEIGHT + 5.0), "black"));
        add(text(x(n), HEIGHT + 19.0, "middle", tick));
    }
    add(line((0.0, 0.0), (0.0, HEIGHT), "black"));
    add(line((0.0, HEIGHT), (WIDTH, HEIGHT), "black"));
    add(text(WIDTH / 2.0, HEIGHT + 36.0, "middle", &panel.axis));
    let mut rows = [0.0; 2];
    for (n, of) in panel.lines.iter().enumerate() {
        let points: Vec<(f64, f64)> = (of.values.iter().enumerate())
            .map(|(n, value)| (x(n), y(*value)))
            .collect();
        let row = &mut rows[usize::from(of.dashed)];
        let at = (
            if of.dashed { COLUMN } else { 0.0 },
            HEIGHT + AXIS + *row * ROW,
        );
        *row += 1.0;
        curve(n, of.dashed, &points, add);
        curve(n, of.dashed, &[at, (at.0 + 30.0, at.1)], add);
        add(text(at.0 + 40.0, at.1 + 4.0, "start", &of.name));
    }
}

/// The `n`th line of a panel.
fn curve(n: usize, dashed: bool, points: &[(f64, f64)], add: &mut impl FnMut(String)) {
    let (colour, width) = (COLOURS[n % COLOURS.len()], WIDTHS[n % WIDTHS.len()]);
    let dashes = if dashed {
        " stroke-dasharray=\"6 4\""
    } else {
        ""
    };
    let joined: Vec<String> = points
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    add(format!(
        "<polyline points=\"{}\" stroke=\"{colour}\" stroke-width=\"{width}\" fill=\"none\"{dashes}/>",
        joined.join(" ")
    ));
    let fill = if dashed { "white" } else { colour };
    for (x, y) in points {
        add(format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{MARK}\" stroke=\"{colour}\" fill=\"{fill}\"/>"
        ));
    }
}

/// From the last step below all values to the first above them.
fn marks<'a>(values: impl Iterator<Item = &'a f64> + Clone) -> Vec<f64> {
    let low = values.clone().copied().fold(f64::INFINITY, f64::min);
    let low = low.clamp(f64::MIN_POSITIVE, f64::MAX);
    let high = values.copied().fold(low, f64::max);
    let decades = low.log10().floor() as i32..=high.log10().floor() as i32 + 1;
    let all = decades.flat_map(|decade| STEPS.map(|step| step * 10f64.powi(decade)));
    let all: Vec<f64> = all.collect();
    let first = all.iter().rposition(|mark| *mark <= low).unwrap_or(0);
    let last = all.iter().position(|mark| *mark > high);
    all[first..=last.unwrap_or(all.len() - 1)].to_vec()
}

fn line(from: (f64, f64), to: (f64, f64), colour: &str) -> String {
    format!(
        "<path d=\"M{:.1} {:.1} L{:.1} {:.1}\" stroke=\"{colour}\"/>",
        from.0, from.1, to.0, to.1
    )
}

fn text(x: f64, y: f64, anchor: &str, what: &str) -> String {
    let what = escaped(what);
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn number(value: f64) -> String {
    match value {
        1e6.. => format!("{} M", value / 1e6),
        1e3.. => format!("{} k", value / 1e3),
        _ => format!("{value}"),
    }
}
