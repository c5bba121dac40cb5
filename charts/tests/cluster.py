"""What stands for the cluster: network namespaces with a Service between them, and the container runtime."""

import os
import pathlib
import subprocess
import time

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")).resolve()
# The storage that `make image` has built into. podman takes runc here because crun wants limits raised.
PODMAN = [
    "podman", "--root", f"{TARGET}/image/storage", "--runroot", f"{TARGET}/image/run", "--storage-driver", "vfs",
    "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--log-level", "error",
]
# Long enough for a machine that does other things too; nothing waits for it where all is well.
PATIENCE = 60.0
# Where the Service is for peers, and the pod behind it with its ports.
SERVICE, HUB = "203.0.113.1", "10.244.0.2"


def said(*command: str, given: str = "") -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"chart-test: {' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def wait(what: str, until, why) -> None:
    """Asks again and again. What does not come about is told with the log."""
    end = time.monotonic() + PATIENCE
    while not until():
        if time.monotonic() > end:
            raise SystemExit(f"chart-test: not within {PATIENCE:.0f} s: {what}\n{why()}")
        time.sleep(0.05)


class Network:
    """A namespace for each pod, and one between them that forwards and is the Service: ports 500 and 4500 lead to the hub's."""

    ADDRESSES = {"hub": (HUB, "10.244.0.1"), "branch-12": ("198.51.100.12", "198.51.100.1"),
                 "branch-13": ("192.0.2.13", "192.0.2.1"), "load": ("198.18.0.2", "198.18.0.1")}

    def __init__(self) -> None:
        self.between = f"cv-{os.getpid()}"
        self.namespaces = {name: f"cv-{os.getpid()}-{name}" for name in self.ADDRESSES}

    def __enter__(self) -> "Network":
        within = lambda namespace, *command: said("ip", "netns", "exec", namespace, *command)
        said("ip", "netns", "add", self.between)
        within(self.between, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for i, (name, (address, gateway)) in enumerate(self.ADDRESSES.items()):
            there = self.namespaces[name]
            said("ip", "netns", "add", there)
            within(self.between, "ip", "link", "add", f"to{i}", "type", "veth", "peer", "name", "eth0", "netns", there)
            within(self.between, "ip", "address", "add", f"{gateway}/24", "dev", f"to{i}")
            within(self.between, "ip", "link", "set", f"to{i}", "up")
            within(there, "ip", "link", "set", "lo", "up")
            within(there, "ip", "address", "add", f"{address}/24", "dev", "eth0")
            within(there, "ip", "link", "set", "eth0", "up")
            within(there, "ip", "route", "add", "default", "via", gateway)
        rules = f"""
          table ip service {{
            chain to {{
              type nat hook prerouting priority dstnat;
              ip daddr {SERVICE} udp dport 500 dnat to {HUB}:1500
              ip daddr {SERVICE} udp dport 4500 dnat to {HUB}:14500
            }}
          }}"""
        subprocess.run(["ip", "netns", "exec", self.between, "nft", "-f", "-"], input=rules, text=True, check=True)
        return self

    def __exit__(self, *_) -> None:
        for namespace in [*self.namespaces.values(), self.between]:
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)
