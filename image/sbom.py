#!/usr/bin/env python3
"""Everything that is in the binaries, as a CycloneDX document: crates as locked, and what crates bring along in C.

What is only used to build or to test is left out. Usage: sbom.py TARGET, in the workspace.
"""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
import uuid

# Crates that carry sources of another project in their own, which the version tells behind the plus sign.
BUNDLED = {
    "openssl-src": ("openssl", "Apache-2.0", "cpe:2.3:a:openssl:openssl:{}:*:*:*:*:*:*:*"),
    "tikv-jemalloc-sys": ("jemalloc", "BSD-2-Clause", "cpe:2.3:a:jemalloc:jemalloc:{}:*:*:*:*:*:*:*"),
}
# The package whose crates are looked at: both binaries are of it.
ROOT = "culvert"


def said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def in_binary(metadata: dict, root: str) -> tuple[set[str], dict[str, set[str]]]:
    """The packages that are linked, with what each depends on. Procedural macros and build scripts are not."""
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    macros = {
        package for package, about in packages.items()
        if any("proc-macro" in target["kind"] for target in about["targets"])
    }
    edges: dict[str, set[str]] = {}
    waiting = [root]
    while waiting:
        here = waiting.pop()
        if here in edges:
            continue
        edges[here] = set()
        # What compiles the sources that a crate carries is not linked either.
        if packages[here]["name"] in BUNDLED:
            continue
        for dependency in nodes[here]["deps"]:
            kinds = {kind["kind"] for kind in dependency["dep_kinds"]}
            there = dependency["pkg"]
            # `openssl-src` is a dependency of a build script, and what it builds is linked.
            bundled = packages[there]["name"] in BUNDLED
            if there in macros or (None not in kinds and not bundled):
                continue
            edges[here].add(there)
            waiting.append(there)
    return set(edges), edges


def of_crate(package: dict, checksums: dict) -> dict:
    name, version = package["name"], package["version"]
    component = {
        "type": "library",
        "bom-ref": reference(package),
        "name": name,
        "version": version,
        "purl": reference(package),
    }
    if package.get("license"):
        component["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum := checksums.get((name, version)):
        component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package.get("repository"):
        component["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return component


def reference(package: dict) -> str:
    # A plus sign means a space in an address.
    return f"pkg:cargo/{package['name']}@{package['version'].replace('+', '%2B')}"


def bundled(package: dict) -> dict | None:
    """What a crate has of another project."""
    if package["name"] not in BUNDLED:
        return None
    name, licence, cpe = BUNDLED[package["name"]]
    version = re.match(r"[0-9.]+", package["version"].partition("+")[2]).group().rstrip(".")
    return {
        "type": "library",
        "bom-ref": f"pkg:generic/{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:generic/{name}@{version}",
        "cpe": cpe.format(version),
        "licenses": [{"expression": licence}],
    }


def toolchain() -> list[dict]:
    """What the compiler and the C library put into every binary."""
    rust = re.search(r"rustc ([0-9.]+)", said("rustc", "--version")).group(1)
    glibc = re.search(r"([0-9]+\.[0-9]+)\s*$", said("ldd", "--version").splitlines()[0]).group(1)
    made = []
    for name, version, licence in [
        ("rust-std", rust, "MIT OR Apache-2.0"),
        ("glibc", glibc, "LGPL-2.1-or-later"),
    ]:
        purl = f"pkg:generic/{name}@{version}"
        made.append({
            "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
            "licenses": [{"expression": licence}],
        })
    return made


def main() -> None:
    target = sys.argv[1]
    metadata = json.loads(said("cargo", "metadata", "--format-version=1", "--locked", "--filter-platform", target))
    with open("Cargo.lock", "rb") as file:
        lock = tomllib.load(file)
    checksums = {(p["name"], p["version"]): p["checksum"] for p in lock["package"] if "checksum" in p}
    packages = {package["id"]: package for package in metadata["packages"]}
    root = next(i for i, p in packages.items() if p["name"] == ROOT and i in metadata["workspace_members"])
    linked, edges = in_binary(metadata, root)

    components, dependencies = [], []
    for package in sorted(linked - {root}, key=lambda i: (packages[i]["name"], packages[i]["version"])):
        components.append(of_crate(packages[package], checksums))
    for package in sorted(linked, key=lambda i: packages[i]["name"]):
        needs = sorted(reference(packages[other]) for other in edges[package])
        if inner := bundled(packages[package]):
            components.append(inner)
            needs.append(inner["bom-ref"])
        if package == root:
            built_in = toolchain()
            components.extend(built_in)
            needs.extend(component["bom-ref"] for component in built_in)
        dependencies.append({"ref": reference(packages[package]), "dependsOn": needs})

    found = {component["name"] for component in components}
    for _, (name, _, _) in BUNDLED.items():
        if name not in found:
            sys.exit(f"{name} was to be found in the binaries, and no crate brings it: see BUNDLED")

    # The serial number is of the contents: what is the same has the same.
    content = json.dumps([components, dependencies], sort_keys=True).encode()
    serial = uuid.UUID(bytes=hashlib.sha256(content).digest()[:16], version=4)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application", "bom-ref": reference(packages[root]), "name": ROOT,
                "version": packages[root]["version"], "purl": reference(packages[root]),
                "licenses": [{"expression": packages[root]["license"]}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    }
    json.dump(document, sys.stdout, indent=1)
    print()


main()
