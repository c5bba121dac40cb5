//! The report as one page that needs nothing else.

use super::plot;
use super::summary::{Rows, Summary};

const STYLE: &str = "body{font:15px sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #ccc;padding:.3em .8em;text-align:left}\
.failed{color:#b00020;font-weight:bold}svg{max-width:100%;height:auto}";

/// The whole page.
pub(super) fn page(summary: &Summary) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let verdict = if summary.passed() { "<p>passed</p>" } else { "<p class=failed>failed</p>" };
    let tables: String = summary.tables().iter().map(table).collect();
    let mut plots = String::new();
    if !summary.latencies.is_empty() {
        plots += &plot::percentiles(&summary.latencies)?;
    }
    for series in &summary.series {
        plots += &plot::over_time(series)?;
    }
    let load = escape(summary.load);
    let version = env!("CARGO_PKG_VERSION");
    Ok(format!(
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8><title>loadtest {load}</title><style>{STYLE}</style></head>\
         <body><h1>loadtest {load}</h1>{verdict}{tables}{plots}<p>seed {}, loadtest {version}</p></body></html>\n",
        summary.seed
    ))
}

fn table(Rows { head, rows }: &Rows) -> String {
    let cells = |tag: &str, cells: &[String]| -> String {
        let cell = |text: &String| {
            let class = if text == "FAILED" { " class=failed" } else { "" };
            format!("<{tag}{class}>{}</{tag}>", escape(text))
        };
        cells.iter().map(cell).collect()
    };
    let rows: String = rows.iter().map(|row| format!("<tr>{}</tr>", cells("td", row))).collect();
    format!("<table><tr>{}</tr>{rows}</table>\n", cells("th", head))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use crate::engine::summary::tests::example;

    #[test]
    fn a_page_has_its_plots_inside_and_fetches_nothing() {
        let page = super::page(&example()).expect("it can be drawn");
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(
            page.contains("<td class=failed>FAILED</td>") && page.contains("CPU of the &lt;responder&gt;")
        );
        // The name of the SVG name space is none that is fetched.
        let outside = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!["http:", "https:", "src=", "href="].iter().any(|link| outside.contains(link)));
        for number in ["NaN", "inf"] {
            assert!(!page.contains(number));
        }
    }
}
