#!/usr/bin/env bash
# Builds the book into target/book and follows every link of it that stays within. Usage: build.sh FOLDER-OF-MDBOOK.
set -euo pipefail
tools=$(realpath "$1")
cd "$(dirname "$0")/.."
out=$(realpath -m "${CARGO_TARGET_DIR:-target}")/book
cd docs
# A page that is not in SUMMARY.md would not be built, and a link to it would lead nowhere.
for page in src/*.md; do
  name=$(basename "$page")
  [[ $name == SUMMARY.md ]] || grep -q "($name)" src/SUMMARY.md || { echo "docs: SUMMARY.md does not have $name" >&2; exit 1; }
done
said=$("$tools/mdbook" build --dest-dir "$out" . 2>&1) || { echo "$said" >&2; exit 1; }
if grep -qE 'WARN|ERROR' <<<"$said"; then echo "$said" >&2; exit 1; fi
"$tools/python" links.py "$out"
