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
const LEFT: f64 = 70.0;
const TOP: f64 = 40.0;
const GAP: f64 = 30.0;
/// Below the plot: ticks, the axis' name, and a row for each line.
const AXIS: f64 = 45.0;
const ROW: f64 = 16.0;
/// Told apart by the colour-blind too; the dashed ones begin again.
const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];

/// Draws panels beside each other.
pub fn svg(panels: &[Panel], note: &str) -> String {
    let rows = panels.iter().map(|panel| panel.lines.len()).max();
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

fn draw(panel: &Panel, add: &mut impl FnMut(String)) {
    let values = || panel.lines.iter().flat_map(|line| &line.values);
    let low = values().copied().fold(f64::INFINITY, f64::min);
    let high = values().copied().fold(f64::MIN_POSITIVE, f64::max);
    // Whole decades.
    let bottom = low.max(f64::MIN_POSITIVE).log10().floor();
    let top = high.log10().ceil().max(bottom + 1.0);
    let y = |log: f64| HEIGHT * (top - log) / (top - bottom);
    let x = |tick: usize| WIDTH * (tick as f64 + 0.5) / panel.ticks.len() as f64;
    add(text(0.0, -14.0, "start", &panel.title));
    for decade in bottom as i32..=top as i32 {
        let at = y(f64::from(decade));
        add(line((0.0, at), (WIDTH, at), "#dddddd"));
        let label = number(10f64.powi(decade));
        add(text(-8.0, at + 4.0, "end", &label));
    }
    for (n, tick) in panel.ticks.iter().enumerate() {
        add(line((x(n), HEIGHT), (x(n), HEIGHT + 5.0), "black"));
        add(text(x(n), HEIGHT + 19.0, "middle", tick));
    }
    add(line((0.0, 0.0), (0.0, HEIGHT), "black"));
    add(line((0.0, HEIGHT), (WIDTH, HEIGHT), "black"));
    add(text(WIDTH / 2.0, HEIGHT + 36.0, "middle", &panel.axis));
    for (n, of) in panel.lines.iter().enumerate() {
        let point = |(n, value): (usize, &f64)| format!("{:.1},{:.1}", x(n), y(value.log10()));
        let points: Vec<String> = of.values.iter().enumerate().map(point).collect();
        let style = format!(
            "stroke=\"{}\" stroke-width=\"2\" fill=\"none\"{}",
            COLOURS[n % COLOURS.len()],
            if of.dashed {
                " stroke-dasharray=\"5 4\""
            } else {
                ""
            }
        );
        add(format!(
            "<polyline points=\"{}\" {style}/>",
            points.join(" ")
        ));
        let row = HEIGHT + AXIS + n as f64 * ROW;
        add(format!("<path d=\"M0 {row} h30\" {style}/>"));
        add(text(38.0, row + 4.0, "start", &of.name));
    }
}

fn line(from: (f64, f64), to: (f64, f64), colour: &str) -> String {
    format!(
        "<path d=\"M{:.1} {:.1} L{:.1} {:.1}\" stroke=\"{colour}\"/>",
        from.0, from.1, to.0, to.1
    )
}

fn text(x: f64, y: f64, anchor: &str, what: &str) -> String {
    let what = what.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>")
}

fn number(value: f64) -> String {
    match value {
        1e6.. => format!("{} M", value / 1e6),
        1e3.. => format!("{} k", value / 1e3),
        _ => format!("{value}"),
    }
}
