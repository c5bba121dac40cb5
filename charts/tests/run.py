#!/usr/bin/env python3
"""Starts what the chart renders, in the image, with the rights that Kubernetes gives and no more, and sends packets through it.

Pods, each in a network namespace: `hub` as an ordinary user behind a Service (here nftables between them), two branches of the
profile `tun`, and one of many tunnels. Podman with runc is the kubelet; `pod.py` translates. Needs root.
Usage: run.py HELM IMAGE LOADTEST.
"""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile

from cluster import HUB, PODMAN, SERVICE, TARGET, Network, said, wait
from pod import Pod

HERE = pathlib.Path(__file__).parent
# What Secrets hold here, by their names: what the cases refer to.
SECRETS = {
    "culvert-vault": {"secrets.key": os.urandom(32)},
    "culvert-tokens": {"watcher": b"chart-test-token-that-is-long-enough"},
    "acme-psk": {"branch-12": b"chart-test-psk-of-branch-12", "branch-13": b"chart-test-psk-of-branch-13"},
}
NET_ADMIN = 1 << 12


def check(what: str, good: bool, more: object = "") -> None:
    if not good:
        raise SystemExit(f"chart-test: {what}: {more}")
    print(f"  ok  {what}", flush=True)


def check_rights(pod: Pod, user: int, capabilities: int) -> None:
    """What the kernel says of the process: of what podman grants beyond Kubernetes nothing may be left."""
    status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pod.pid()}/status").read_text().splitlines())
    for name, expected in [
        ("CapEff", capabilities), ("CapPrm", capabilities), ("CapBnd", capabilities), ("CapAmb", 0), ("CapInh", 0),
    ]:
        check(f"{pod.name}: {name} is {expected:x}", int(status[name], 16) == expected, status[name])
    check(f"{pod.name}: user {user}", set(status["Uid"].split()) == {str(user)}, status["Uid"])
    check(f"{pod.name}: no new privileges, seccomp", status["NoNewPrivs"] + status["Seccomp"] == "12", status)
    root = next(
        line.split() for line in pathlib.Path(f"/proc/{pod.pid()}/mountinfo").read_text().splitlines()
        if line.split()[4] == "/"
    )
    check(f"{pod.name}: read-only root", "ro" in root[5].split(","), root)


def check_probes(pod: Pod, ready: int = 200) -> None:
    for path, expected in [("/startupz", 200), ("/livez", 200), ("/servez", 200), ("/readyz", ready)]:
        status, answer = pod.get(path)
        check(f"{pod.name}: {path} {expected}", status == expected, f"{status} {answer}")


def make_certificate(folder: pathlib.Path) -> pathlib.Path:
    """A certificate for the API, that signs itself."""
    certificate, key = folder / "tls.crt", folder / "tls.key"
    said("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "1",
         "-subj", "/CN=culvert-grpc", "-addext", "subjectAltName=DNS:culvert-grpc",
         "-keyout", str(key), "-out", str(certificate))
    SECRETS["culvert-tls"] = {"tls.crt": certificate.read_bytes(), "tls.key": key.read_bytes()}
    return certificate


def check_api(hub: Pod, certificate: pathlib.Path, namespace: str, folder: pathlib.Path) -> None:
    """The API from another pod: TLS, a token of a Secret, and no more than its role."""
    token = folder / "token"
    token.write_bytes(SECRETS["culvert-tokens"]["watcher"])
    port = next(p["containerPort"] for p in hub.container["ports"] if p["name"] == "grpc")
    client = ["ip", "netns", "exec", namespace, str(TARGET / "image/context/rootfs/usr/bin/culvert"),
              "--server", f"https://{HUB}:{port}", "--server-name", "culvert-grpc", "--ca", str(certificate)]
    call = lambda *arguments: subprocess.run([*client, *arguments], capture_output=True, text=True)
    listed = call("--token-file", str(token), "get", "peers")
    check("the API serves a token of a Secret over TLS", "branch-12" in listed.stdout, listed)
    for what, arguments in [
        ("who shows nothing", ["get", "peers"]),
        ("a viewer who would delete", ["--token-file", str(token), "delete", "acme/branch-12"]),
    ]:
        done = call(*arguments)
        check(f"the API refuses {what}", done.returncode == 8, done)


def check_load(pod: Pod, loadtest: str) -> None:
    """Thousands of tunnels that rekey under traffic: threads of the static binaries meet in the libraries that are linked in."""
    ports = {p["name"]: str(p["containerPort"]) for p in pod.container["ports"]}
    done = subprocess.run(
        ["ip", "netns", "exec", pod.namespace, loadtest, "tunnels", "--count", "3000", "--rate", "4", "--for", "1s",
         "--settle", "1s", "--ike-port", ports["ike"], "--natt-port", ports["ike-natt"]],
        capture_output=True, text=True,
    )
    check("3000 tunnels rekey under traffic", done.returncode == 0 and "(3000 Child, 3000 IKE)" in done.stdout,
          f"{done.stdout}{done.stderr}{pod.log()}")
    check_probes(pod)


def main() -> None:
    helm, image, loadtest = sys.argv[1:4]
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="culvert-chart-")))
        network = stack.enter_context(Network())
        certificate = make_certificate(folder)
        pods = {}
        # The hub last: it has the longest drain, and everybody else is to be gone by then.
        for name, user, capabilities in [("hub", 65532, 0), ("branch-12", 0, NET_ADMIN), ("branch-13", 0, NET_ADMIN),
                                        ("load", 65532, 0)]:
            pod = Pod(name, helm, HERE / "run" / f"{name}.yaml", folder / name, network.namespaces[name], SECRETS, image)
            pods[name] = stack.enter_context(pod)
            wait(f"{name} is ready", lambda: pod.get("/readyz")[0] == 200, pod.log)
            check_rights(pod, user, capabilities)
            check_probes(pod)
        hub, branch = pods["hub"], pods["branch-12"]
        across = ["ip", "netns", "exec", network.namespaces["branch-12"], "ping", "-c", "1", "-W", "1", "10.13.0.1"]
        goes = lambda: subprocess.run(across, capture_output=True).returncode == 0
        wait("a packet goes from branch to branch through the hub", goes, lambda: hub.log() + branch.log())
        check("a packet goes from branch 12 through the hub to branch 13", goes())
        peers = hub.exec("/usr/bin/culvert", "get", "peers")
        check("the hub lists both as ESTABLISHED", peers.count("ESTABLISHED") == 2, peers)
        ends = branch.exec("/usr/bin/culvert", "get", "sas", "-o", "json"), hub.exec("/usr/bin/culvert", "get", "sas", "-o", "json")
        through = f'"remoteAddress": "{SERVICE}:4500"' in ends[0] and f'"localAddress": "{HUB}:14500"' in ends[1]
        check("the tunnels go by the Service to the high ports of an ordinary user", through, ends)

        applied = hub.exec("/usr/bin/culvert", "apply", "-f", "-", given="kind: Tenant\nname: globex\n")
        check("a manifest is applied by exec", "tenants/globex created" in applied, applied)
        daemon = ["/usr/bin/culvertd", "--config", "/etc/culvert/culvertd.toml"]
        hub.exec(*daemon, "backup", "/var/lib/culvert/copy.redb")
        copy = hub.exec(*daemon, "check-store", "/var/lib/culvert/copy.redb")
        check("a copy of the store is made while it runs, and is whole", "2 tenants, 2 peers, 2 secrets" in copy, copy)
        check_api(hub, certificate, network.namespaces["branch-12"], folder)
        check_load(pods["load"], loadtest)

        print("  ..  quickstart in a container of the hub's rights")
        summary = hub.beside("/usr/bin/culvert", "quickstart", "--for", "5s")
        check("quickstart: nothing lost, nothing crossed", " 0 lost" in summary and " 0 crossed" in summary, summary)

        hub.signal("TERM")
        wait("SIGTERM takes readiness for new work away, and not the packets", lambda: hub.get("/readyz")[0] == 503, hub.log)
        check_probes(hub, ready=503)
        check("packets go while it drains", goes())
        hub.signal("TERM")
        check("the second signal ends it in order", hub.ended() == 0, hub.log())
        told = lambda: "closed by the peer" in branch.exec("/usr/bin/culvert", "explain", "branch/hub")
        wait("the branches are told", told, branch.log)
        log = hub.log() + branch.log() + pods["branch-13"].log()
        check("no secret is in any log", "chart-test-psk" not in log and "chart-test-token" not in log)
    print(f"chart-test: {image} of {said(*PODMAN, '--version').strip()}: all well")


main()
