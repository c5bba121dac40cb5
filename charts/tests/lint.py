#!/usr/bin/env python3
"""Everything about the chart that needs no image.

helm lint; renders of every case in cases/ held against golden/ (`--write` makes them anew) and against the schemas of the three
newest versions of Kubernetes; values that the schema refuses, with the field it names, and some that it takes; README.md; the version.
"""

import difflib
import pathlib
import re
import subprocess
import sys
import tempfile

import kubernetes_validate
import yaml

import readme

HERE = pathlib.Path(__file__).parent
CHART = HERE.parent / "culvert"
VERSIONS = ["1.35", "1.36", "1.37"]
# Kinds of the Prometheus operator, whose schemas come with it and not with Kubernetes.
OPERATOR = "monitoring.coreos.com/"
FAULTS: list[str] = []


def fault(text: str) -> None:
    FAULTS.append(text)
    print(f"chart: {text}", file=sys.stderr)


def helm(*arguments: str) -> subprocess.CompletedProcess:
    tool = HERE / "../../" / sys.argv[1]
    return subprocess.run([tool, *arguments], capture_output=True, text=True)


def render(values: pathlib.Path) -> str:
    done = helm("template", "culvert", str(CHART), "--namespace", "vpn", "--values", str(values))
    if done.returncode:
        fault(f"{values.name}: {done.stderr.strip()}")
        return ""
    return done.stdout


def shorten(text: str) -> str:
    """Dashboards and rules as their names: what is in them is made, and checked, elsewhere."""
    documents = []
    for document in re.split(r"^---\n", text, flags=re.M):
        found = yaml.safe_load(document)
        if found and found["kind"] == "PrometheusRule":
            names = [group["name"] for group in found["spec"]["groups"]]
            document = re.sub(r"^spec:\n.*", f"spec: # groups {', '.join(names)}\n", document, flags=re.M | re.S)
        if found and found["metadata"]["name"].endswith("-dashboards"):
            document = re.sub(r"^data:\n.*", f"data: # {', '.join(found['data'] or [])}\n", document, flags=re.M | re.S)
        documents.append(document)
    return "---\n".join(documents)


def check_golden(case: pathlib.Path, text: str, write: bool) -> None:
    golden = HERE / "golden" / case.name
    if write:
        golden.write_text(text)
        return
    old = golden.read_text() if golden.exists() else ""
    difference = list(difflib.unified_diff(old.splitlines(), text.splitlines(), str(golden), "rendered", lineterm=""))
    if difference:
        fault(f"{case.name}: the render is another; `make chart-golden` takes it over\n  " + "\n  ".join(difference[:40]))


def check_schemas(case: pathlib.Path, text: str) -> int:
    checked = 0
    for document in filter(None, yaml.safe_load_all(text)):
        name = f"{case.name}: {document['kind']} {document['metadata']['name']}"
        if document["apiVersion"].startswith(OPERATOR):
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
                checked += 1
            except kubernetes_validate.ValidationError as error:
                fault(f"{name}: Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}")
    return checked


def check_refused() -> int:
    refused = yaml.safe_load((HERE / "refused.yaml").read_text())
    for one in refused:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(one["values"], file)
            file.flush()
            done = helm("template", "culvert", str(CHART), "--values", file.name)
        if done.returncode == 0:
            fault(f"{one['values']} is not refused")
        elif one["says"] not in done.stderr:
            fault(f"{one['values']}: expected {one['says']!r} in: {done.stderr.strip()}")
    return len(refused)


def check_accepted() -> None:
    for values in yaml.safe_load((HERE / "accepted.yaml").read_text()):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(values, file)
            file.flush()
            done = helm("template", "culvert", str(CHART), "--values", file.name)
        if done.returncode:
            fault(f"{values} is refused: {done.stderr.strip()}")


def check_readiness(case: pathlib.Path, text: str) -> None:
    """A pod that is to end is still sent packets, for as long as its readiness probe says yes: it must not be one that the end takes away."""
    for document in filter(None, yaml.safe_load_all(text)):
        if document["kind"] == "StatefulSet":
            (container,) = document["spec"]["template"]["spec"]["containers"]
            if container["readinessProbe"]["httpGet"]["path"] != "/servez":
                fault(f"{case.name}: readiness is asked for at another place than /servez")


def check_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    workspace = re.search(r'^version = "(.*)"', (HERE / "../../Cargo.toml").read_text(), re.M).group(1)
    for field in ["version", "appVersion"]:
        if chart[field] != workspace:
            fault(f"Chart.yaml: {field} is {chart[field]}, Cargo.toml has {workspace}")


def main() -> None:
    write = "--write" in sys.argv
    done = helm("lint", "--strict", str(CHART))
    if done.returncode:
        fault(f"helm lint: {done.stdout}{done.stderr}")
    cases = sorted((HERE / "cases").glob("*.yaml"))
    checked = 0
    for case in cases:
        text = render(case)
        checked += check_schemas(case, text)
        check_golden(case, shorten(text), write)
        check_readiness(case, text)
    refused = check_refused()
    check_accepted()
    check_version()
    if write:
        (CHART / "README.md").write_text(readme.text(CHART))
    elif readme.text(CHART) != (CHART / "README.md").read_text():
        fault("README.md is not what values.yaml says; `make chart-golden` writes it")
    for complaint in readme.undescribed(CHART):
        fault(complaint)
    if FAULTS:
        sys.exit(1)
    print(f"chart: {len(cases)} cases, {checked} objects fit the schemas of {', '.join(VERSIONS)}, {refused} odd values refused")


main()
