#!/usr/bin/env python3
"""Starts what the chart renders, in the image, with the rights that Kubernetes gives and no more, and sends packets through it.

Three pods, each in a network namespace: `hub` as an ordinary user behind a Service (here nftables between them), and two
branches of the profile `tun`. Podman with runc is the kubelet; `pod.py` translates. Needs root. Usage: run.py HELM IMAGE.
"""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile

from cluster import HUB, PODMAN, SERVICE, Network, said, wait
from pod import Pod

HERE = pathlib.Path(__file__).parent
# What Secrets hold here, by their names: what the cases refer to.
SECRETS = {
    "culvert-vault": {"secrets.key": os.urandom(32)},
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
    for path, expected in [("/startupz", 200), ("/livez", 200), ("/readyz", ready)]:
        status, answer = pod.get(path)
        check(f"{pod.name}: {path} {expected}", status == expected, f"{status} {answer}")


def main() -> None:
    helm, image = sys.argv[1:3]
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="culvert-chart-")))
        network = stack.enter_context(Network())
        pods = {}
        # The hub last: it has the longest drain, and everybody else is to be gone by then.
        for name, user, capabilities in [("hub", 65532, 0), ("branch-12", 0, NET_ADMIN), ("branch-13", 0, NET_ADMIN)]:
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

        print("  ..  quickstart in a container of the hub's rights")
        summary = hub.beside("/usr/bin/culvert", "quickstart", "--for", "5s")
        check("quickstart: nothing lost, nothing crossed", " 0 lost" in summary and " 0 crossed" in summary, summary)

        hub.signal("TERM")
        wait("SIGTERM takes readiness away", lambda: hub.get("/readyz")[0] == 503, hub.log)
        check_probes(hub, ready=503)
        check("packets go while it drains", goes())
        hub.signal("TERM")
        check("the second signal ends it in order", hub.ended() == 0, hub.log())
        told = lambda: "closed by the peer" in branch.exec("/usr/bin/culvert", "explain", "branch/hub")
        wait("the branches are told", told, branch.log)
        log = hub.log() + branch.log() + pods["branch-13"].log()
        check("no secret is in any log", "chart-test-psk" not in log)
    print(f"chart-test: {image} of {said(*PODMAN, '--version').strip()}: all well")


main()
