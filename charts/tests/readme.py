"""README.md of the chart: README.head.md, and a table of values.yaml by its `# --` comments."""

import json
import pathlib
import re

import yaml


def rows(text: str) -> list[tuple[str, str]]:
    """Fields with their descriptions, in the order of the file."""
    found, path, waiting = [], [], []
    for line in text.splitlines():
        comment = re.match(r"\s*# (-- )?(.*)", line)
        if comment:
            if comment.group(1):
                waiting = [comment.group(2)]
            elif waiting:
                waiting.append(comment.group(2))
            continue
        field = re.match(r"(\s*)([A-Za-z0-9_]+):", line)
        if field and len(field.group(1)) // 2 <= len(path):
            path[len(field.group(1)) // 2:] = [field.group(2)]
            if waiting:
                found.append((".".join(path), " ".join(waiting)))
        waiting = []
    return found


def at(values: dict, path: str):
    for part in path.split("."):
        values = values[part]
    return values


def text(chart: pathlib.Path) -> str:
    source = (chart / "values.yaml").read_text()
    values = yaml.safe_load(source)
    lines = [(chart / "README.head.md").read_text().rstrip(), "", "| value | default | |", "|---|---|---|"]
    for path, description in rows(source):
        default = json.dumps(at(values, path)).replace("|", "\\|")
        lines.append(f"| `{path}` | `{default}` | {description} |")
    return "\n".join(lines) + "\n"


def undescribed(chart: pathlib.Path) -> list[str]:
    """Values without a description or a place in the schema, and the other way around; defaults that may be taken away."""
    source = (chart / "values.yaml").read_text()
    values, described = yaml.safe_load(source), {path for path, _ in rows(source)}
    schema = json.loads((chart / "values.schema.json").read_text())
    complaints = []

    def walk(values: dict, schema: dict, above: str) -> None:
        known = schema.get("properties", {})
        for name, value in values.items():
            path = f"{above}{name}"
            if name not in known:
                complaints.append(f"values.schema.json does not have {path}")
            elif path in described:
                continue
            elif isinstance(value, dict) and value:
                walk(value, known[name], f"{path}.")
            else:
                complaints.append(f"values.yaml does not describe {path}")
        for name in known:
            if name not in values and name != "global" and not (above == "resources."):
                complaints.append(f"values.yaml does not have {above}{name}")

    def needs(values: dict, schema: dict, above: str) -> bool:
        """Whether there is a default here that a template takes for given: Helm takes a value that is null away, and the template has 0."""
        needed = False
        for name, value in values.items():
            known = schema.get("properties", {}).get(name, {})
            if isinstance(value, dict):
                is_needed = "properties" in known and needs(value, known, f"{above}{name}.")
            else:
                is_needed = value not in (None, "", []) and "null" not in known.get("type", [])
            if is_needed and name not in schema.get("required", []):
                complaints.append(f"values.schema.json does not require {above}{name}")
            needed = needed or is_needed
        return needed

    walk(values, schema, "")
    # Who wants neither requests nor limits takes them away.
    needs({name: value for name, value in values.items() if name != "resources"}, schema, "")
    return complaints
