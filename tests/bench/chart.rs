//! A plot as SVG: a few lines over a logarithmic axis, plain enough to be read as text.

use std::fmt::Write as _;

use super::table::shown;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// Room for what stands beside the axes.
const LEFT: f64 = 70.0;
const BELOW: f64 = 50.0;
const ABOVE: f64 = 50.0;
const RIGHT: f64 = 20.0;
const COLORS: [&str; 3] = ["#1b6ca8", "#c0392b", "#2e7d32"];

/// What is drawn.
pub struct Chart {
    /// The sentence above it.
    pub title: String,
    /// What goes to the right, and upwards.
    pub axes: [&'static str; 2],
    /// Names, and points as (right, up); all above 0.
    pub lines: Vec<(&'static str, Vec<(f64, f64)>)>,
}

/// From values to places: both axes are logarithmic, and end at powers of ten.
struct Scale {
    from: f64,
    to: f64,
}

impl Scale {
    fn over(values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min).max(1e-3);
        let most = values.fold(least, f64::max);
        let (from, to) = (least.log10().floor(), most.log10().ceil());
        Self { from, to: if to > from { to } else { from + 1.0 } }
    }

    /// 0 to 1.
    fn place(&self, value: f64) -> f64 {
        (value.max(1e-3).log10() - self.from) / (self.to - self.from)
    }

    fn marks(&self) -> impl Iterator<Item = f64> + use<> {
        (self.from as i32..=self.to as i32).map(|power| 10_f64.powi(power))
    }
}

impl Chart {
    /// Whether there is something to draw.
    pub fn has_points(&self) -> bool {
        self.lines.iter().any(|(_, points)| !points.is_empty())
    }

    /// The file's text.
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let right = Scale::over(points().map(|point| point.0));
        let up = Scale::over(points().map(|point| point.1));
        let x = |value| LEFT + right.place(value) * (WIDTH - LEFT - RIGHT);
        let y = |value| HEIGHT - BELOW - up.place(value) * (HEIGHT - BELOW - ABOVE);
        let (bottom, end) = (HEIGHT - BELOW, WIDTH - RIGHT);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
            self.title
        );
        for value in right.marks() {
            let x = x(value);
            let _never = writeln!(
                svg,
                "<path d=\"M{x:.1} {ABOVE}V{bottom}\" stroke=\"#ddd\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                shown(value)
            );
        }
        for value in up.marks() {
            let y = y(value);
            let _never = writeln!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{end}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                shown(value)
            );
        }
        let [to_the_right, upwards] = self.axes;
        let _never = writeln!(
            svg,
            "<text x=\"{end}\" y=\"{:.1}\" text-anchor=\"end\">{to_the_right}</text><text x=\"{LEFT}\" y=\"40\">{upwards}</text>",
            HEIGHT - 10.0
        );
        for (index, ((name, points), color)) in self.lines.iter().zip(COLORS).enumerate() {
            let places: Vec<_> =
                points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
            let _never = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
                places.join(" ")
            );
            for place in &places {
                let (x, y) = place.split_once(',').unwrap_or_default();
                let _never = writeln!(svg, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{color}\"/>");
            }
            let beside = LEFT + 200.0 + 90.0 * index as f64;
            let _never = writeln!(svg, "<text x=\"{beside}\" y=\"40\" fill=\"{color}\">{name}</text>");
        }
        svg.push_str("</svg>\n");
        svg
    }
}
