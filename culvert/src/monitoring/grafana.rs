//! A dashboard as Grafana reads it.

use serde_json::{Value, json};

use super::panels::{Choice, Dashboard, Look, Panel};

/// Columns of a dashboard in Grafana.
const COLUMNS: u32 = 24;
/// The version of the schema that is written: that of Grafana 10, which later ones read.
const SCHEMA: u32 = 39;

/// The source of data is chosen at the top.
fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

/// As text, the same for the same dashboard.
pub(super) fn write(dashboard: &Dashboard) -> Result<String, String> {
    let mut panels = Vec::new();
    let (mut y, mut id) = (0, 0);
    for (title, row) in &dashboard.rows {
        id += 1;
        panels.push(json!({
            "type": "row", "id": id, "title": title, "collapsed": false, "panels": [],
            "gridPos": { "h": 1, "w": COLUMNS, "x": 0, "y": y },
        }));
        y += 1;
        let (mut x, mut high) = (0, 0);
        for panel in row {
            let (width, height) = size(panel.look);
            if x + width > COLUMNS {
                (x, y, high) = (0, y + high, 0);
            }
            id += 1;
            panels.push(of_panel(panel, id, (width, height, x, y)));
            (x, high) = (x + width, high.max(height));
        }
        y += high;
    }
    let choices = dashboard.choices.iter().map(choice);
    let datasource =
        json!({ "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus" });
    let value = json!({
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.help,
        "tags": ["culvert"],
        "editable": false,
        "schemaVersion": SCHEMA,
        "time": { "from": "now-6h", "to": "now" },
        "refresh": "30s",
        "templating": { "list": std::iter::once(datasource).chain(choices).collect::<Vec<_>>() },
        "links": [{ "type": "dashboards", "tags": ["culvert"], "title": "Culvert", "asDropdown": true, "includeVars": true }],
        "panels": panels,
    });
    serde_json::to_string_pretty(&value).map(|text| text + "\n").map_err(|error| error.to_string())
}

const fn size(look: Look) -> (u32, u32) {
    match look {
        Look::Stat => (6, 4),
        Look::Lines | Look::Stack | Look::Table => (12, 8),
        Look::States => (12, 5),
    }
}

fn choice(choice: &Choice) -> Value {
    let query = format!("label_values({}, {})", choice.from.written(), choice.of);
    json!({
        "name": choice.name, "label": choice.label, "type": "query", "datasource": source(),
        "query": { "query": query, "refId": choice.name }, "definition": query,
        "refresh": 2, "sort": 1, "includeAll": choice.all, "multi": choice.all, "allValue": ".*",
    })
}

fn of_panel(panel: &Panel, id: u32, (w, h, x, y): (u32, u32, u32, u32)) -> Value {
    let table = panel.look == Look::Table;
    let targets: Vec<Value> = panel
        .queries
        .iter()
        .zip('A'..)
        .map(|((legend, query), id)| {
            json!({
                "refId": id.to_string(), "datasource": source(), "expr": query.written(),
                "legendFormat": legend, "instant": table, "range": !table,
                "format": if table { "table" } else { "time_series" },
            })
        })
        .collect();
    let custom = match panel.look {
        Look::Stack => json!({ "stacking": { "mode": "normal" }, "fillOpacity": 30 }),
        Look::Lines => json!({ "fillOpacity": 0 }),
        Look::Stat | Look::States | Look::Table => json!({}),
    };
    let options = match panel.look {
        Look::Stat => json!({ "reduceOptions": { "calcs": ["lastNotNull"] }, "textMode": "auto" }),
        Look::Lines | Look::Stack => {
            json!({ "legend": { "displayMode": "list", "placement": "bottom" }, "tooltip": { "mode": "multi" } })
        }
        Look::States | Look::Table => json!({}),
    };
    let kind = match panel.look {
        Look::Stat => "stat",
        Look::Lines | Look::Stack => "timeseries",
        Look::States => "state-timeline",
        Look::Table => "table",
    };
    let hidden = json!([{ "id": "organize", "options": { "excludeByName": { "Time": true, "__name__": true, "job": true } } }]);
    json!({
        "type": kind, "id": id, "title": panel.title, "description": panel.help, "datasource": source(),
        "gridPos": { "h": h, "w": w, "x": x, "y": y },
        "fieldConfig": { "defaults": { "unit": panel.unit, "custom": custom }, "overrides": [] },
        "options": options,
        "transformations": if table { hidden } else { json!([]) },
        "targets": targets,
    })
}
