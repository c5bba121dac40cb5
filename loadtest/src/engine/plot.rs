//! Plots of a report, as SVG that stands in a page.

use hdrhistogram::Histogram;
use plotters::prelude::*;

use super::live::Series;

/// Width and height of a plot.
const SIZE: (u32, u32) = (860, 320);

type Drawn = Result<String, Box<dyn std::error::Error + Send + Sync>>;

/// Values over time, each series by itself.
pub(super) fn over_time(series: &Series) -> Drawn {
    plot(&series.name, "seconds", &[(&series.name, series.points.clone())], |at| format!("{at:.0}"))
}

/// Latency by percentile; further right by one is ten times rarer.
pub(super) fn percentiles(latencies: &[(&'static str, &'static str, Histogram<u64>)]) -> Drawn {
    let curves = latencies.iter().map(|(_, label, histogram)| {
        let points = histogram.iter_quantiles(5).map(|at| {
            let rest = (1.0 - at.quantile_iterated_to()).max(1.0 / histogram.len().max(1) as f64);
            (-rest.log10(), at.value_iterated_to() as f64 / 1e6)
        });
        (*label, points.collect::<Vec<_>>())
    });
    let curves: Vec<_> = curves.collect();
    plot("latency in ms by percentile", "percentile", &curves, |nines| {
        let whole = (nines - nines.round()).abs() < 1e-3;
        let percent = 100.0 * (1.0 - 10f64.powf(-nines.round()));
        if whole { format!("{}", (percent * 1e6).round() / 1e6) } else { String::new() }
    })
}

fn short(value: &f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn plot(title: &str, x_name: &str, curves: &[(&str, Vec<(f64, f64)>)], x: impl Fn(f64) -> String) -> Drawn {
    let most = |of: fn(&(f64, f64)) -> f64| {
        curves.iter().flat_map(|(_, points)| points).map(of).fold(0.0, f64::max).max(1e-6)
    };
    let (right, top) = (most(|point| point.0), most(|point| point.1) * 1.1);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 16))
            .margin(12)
            .margin_right(36)
            .x_label_area_size(36)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..right, 0.0..top)
            .map_err(|error| error.to_string())?;
        let label = |at: &f64| x(*at);
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(x_name).x_label_formatter(&label).y_label_formatter(&short).max_light_lines(0);
        mesh.draw().map_err(|error| error.to_string())?;
        for (number, (name, points)) in curves.iter().enumerate() {
            let colour = Palette99::pick(number).to_rgba();
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
            let drawn = chart.draw_series(line).map_err(|error| error.to_string())?;
            drawn.label(*name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        }
        if curves.len() > 1 {
            let mut labels = chart.configure_series_labels();
            labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE).border_style(BLACK);
            labels.draw().map_err(|error| error.to_string())?;
        }
        area.present().map_err(|error| error.to_string())?;
    }
    Ok(svg)
}
