"""The pod of a rendered StatefulSet as a container: what the kubelet would do, by podman."""

import os
import pathlib
import subprocess

import yaml

from cluster import PODMAN, said

CHART = pathlib.Path(__file__).parent.parent / "culvert"


class Pod:
    """Starts with the `with`, and is removed at its end."""

    def __init__(self, name, helm, values, folder, namespace, secrets, image):
        self.name, self.folder, self.namespace, self.secrets = name, folder, namespace, secrets
        rendered = said(helm, "template", "culvert", str(CHART), "--values", str(values))
        objects = [document for document in yaml.safe_load_all(rendered) if document]
        self.config_maps = {o["metadata"]["name"]: o["data"] for o in objects if o["kind"] == "ConfigMap"}
        self.stateful_set = next(o for o in objects if o["kind"] == "StatefulSet")
        self.spec = self.stateful_set["spec"]["template"]["spec"]
        self.container = self.spec["containers"][0]
        self.image, self.identity = image, f"culvert-chart-{os.getpid()}-{name}"
        self.metrics = next(p["containerPort"] for p in self.container["ports"] if p["name"] == "metrics")

    def __enter__(self) -> "Pod":
        self.folder.mkdir(parents=True)
        said(*PODMAN, "run", "--detach", "--name", self.identity, "--network", f"ns:/run/netns/{self.namespace}",
             *self.rights(), *self.mounts(), *self.environment(), "--entrypoint", self.container["command"][0], self.image,
             *self.container["command"][1:], *self.container["args"])
        return self

    def __exit__(self, *_) -> None:
        subprocess.run([*PODMAN, "rm", "--force", "--time", "0", self.identity], capture_output=True)

    def rights(self) -> list[str]:
        """User, groups, capabilities, seccomp, sysctls. What the pod does not ask for is taken away."""
        pod, container = self.spec["securityContext"], self.container["securityContext"]
        assert pod["seccompProfile"]["type"] == "RuntimeDefault"  # which is podman's default
        assert container["allowPrivilegeEscalation"] is False and container["readOnlyRootFilesystem"] is True
        flags = [
            "--user", f"{pod['runAsUser']}:{pod['runAsGroup']}", "--group-add", str(pod["fsGroup"]),
            "--security-opt", "no-new-privileges", "--read-only", "--read-only-tmpfs=false",
            # Lower than the engine's own, which this machine may not raise.
            "--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096",
        ]
        flags += [f"--cap-drop={name.lower()}" for name in container["capabilities"]["drop"]]
        flags += [f"--cap-add={name}" for name in container["capabilities"].get("add", [])]
        for sysctl in pod.get("sysctls", []):
            # In a namespace that is there already the runtime sets none.
            said("ip", "netns", "exec", self.namespace, "sysctl", "-qw", f"{sysctl['name']}={sysctl['value']}")
        return flags

    def environment(self) -> list[str]:
        return [f"--env={variable['name']}={variable['value']}" for variable in self.container.get("env", [])]

    def mounts(self) -> list[str]:
        flags = []
        volumes = {volume["name"]: volume for volume in self.spec["volumes"]}
        claims = {claim["metadata"]["name"] for claim in self.stateful_set["spec"].get("volumeClaimTemplates", [])}
        for mount in self.container["volumeMounts"]:
            name, path = mount["name"], mount["mountPath"]
            volume = volumes.get(name, {})
            mode = "ro" if mount.get("readOnly") else "rw"
            if name in claims or "emptyDir" in volume:
                # Bound from the machine, as the kubelet does, in memory too; fsGroup has been given to it.
                place = self.folder / name
                place.mkdir()
                os.chown(place, 0, self.spec["securityContext"]["fsGroup"])
                place.chmod(0o2775 if name in claims else 0o2777)
                flags += ["--volume", f"{place}:{path}:{mode}"]
            elif "hostPath" in volume:
                flags += ["--device", volume["hostPath"]["path"]]
            else:
                source = self.project(name, volume)
                flags += ["--volume", f"{source / mount['subPath'] if 'subPath' in mount else source}:{path}:{mode}"]
        return flags

    def project(self, name: str, volume: dict) -> pathlib.Path:
        """A volume of files as the kubelet makes it: links to a folder that it exchanges as a whole."""
        files, mode = {}, 0o644
        if "configMap" in volume:
            files = {file: text.encode() for file, text in self.config_maps[volume["configMap"]["name"]].items()}
        else:
            about = volume.get("secret") or volume["projected"]
            mode = about["defaultMode"]
            for source in about.get("sources", [{"secret": {**about, "name": about.get("secretName")}}]):
                secret = self.secrets[source["secret"]["name"]]
                items = source["secret"].get("items", [{"key": key, "path": key} for key in secret])
                files |= {item["path"]: secret[item["key"]] for item in items}
        folder = self.folder / name
        group = self.spec["securityContext"]["fsGroup"] if "configMap" not in volume else 0
        for file, content in files.items():
            place = folder / "..now" / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            os.chown(place, 0, group)
            place.chmod(mode)
        (folder / "..data").symlink_to("..now")
        for top in {file.split("/")[0] for file in files}:
            (folder / top).symlink_to(f"..data/{top}")
        return folder

    def pid(self) -> int:
        return int(said(*PODMAN, "inspect", "--format", "{{.State.Pid}}", self.identity))

    def exec(self, *command: str, given: str = "") -> str:
        """As `kubectl exec -i`."""
        return said(*PODMAN, "exec", "--interactive", self.identity, *command, given=given)

    def beside(self, *command: str) -> str:
        """A container of the same rights, with a network of its own."""
        tmp = ["--mount", "type=tmpfs,destination=/tmp,tmpfs-mode=1777,notmpcopyup"]
        return said(*PODMAN, "run", "--rm", "--network", "none", *self.rights(), *tmp,
                    "--entrypoint", command[0], self.image, *command[1:])

    def signal(self, name: str) -> None:
        said(*PODMAN, "kill", "--signal", name, self.identity)

    def ended(self) -> int:
        """Waits for the end; the exit code."""
        return int(said("timeout", "60", *PODMAN, "wait", self.identity))

    def log(self) -> str:
        done = subprocess.run([*PODMAN, "logs", self.identity], capture_output=True, text=True)
        return done.stdout + done.stderr

    def get(self, path: str) -> tuple[int, str]:
        """What the metrics port of the pod answers, asked from within its network. 0 if nothing does."""
        code = (
            "import sys, urllib.request, urllib.error\n"
            "try:\n answer = urllib.request.urlopen(sys.argv[1], timeout=5)\n"
            "except urllib.error.HTTPError as error: answer = error\n"
            "except OSError as error: print(0); print(error); sys.exit()\n"
            "print(answer.status); print(answer.read().decode())"
        )
        url = f"http://127.0.0.1:{self.metrics}{path}"
        text = said("ip", "netns", "exec", self.namespace, "python3", "-c", code, url)
        status, _, answer = text.partition("\n")
        return int(status), answer.strip()
