"""The command `docker compose`, played by podman-compose on Podman.

What Docker's Compose does and these two do not is done here: it waits for the conditions of
`depends_on` and asks for health (Podman leaves that to systemd), makes containers again whose image
is another one, and copies files. `tests/stack/engine.py` puts it onto the PATH as `docker`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

PROJECT = "mimic-reg"
PATIENCE = 900  # seconds for a service to become healthy


def podman(*arguments, check=True):
    """What a command of Podman's prints."""
    done = subprocess.run(
        ["podman", *arguments], stdout=subprocess.PIPE, text=True, check=check, timeout=600
    )
    return done.stdout.strip()


def containers(service, *, running=False):
    """Names of a service's containers, without those of `run`."""
    labels = (f"io.podman.compose.project={PROJECT}", f"com.docker.compose.service={service}")
    filters = [f"--filter=label={label}" for label in labels]
    every = [] if running else ["--all"]
    names = podman("ps", *every, *filters, "--format={{.Names}}").split()
    return [name for name in names if "tmp" not in name]


def state(name):
    (found,) = json.loads(podman("inspect", name))
    return found


class Compose:
    """The project of a folder with a compose.yaml."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.services = yaml.safe_load((self.folder / "compose.yaml").read_text())["services"]
        self.environment = os.environ | {"BUILDAH_FORMAT": "docker"}  # keeps HEALTHCHECK

    def run(self, *arguments):
        """Run podman-compose; return its exit code."""
        # like Docker, mount nothing for writing that compose.yaml does not name
        options = ["--profile", "tools", "--podman-run-args=--read-only-tmpfs=false"]
        command = ["podman-compose", *options, *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, check=False)
        return done.returncode

    def profiles(self):
        lines = (self.folder / ".env").read_text().splitlines()
        given = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
        return os.environ.get("COMPOSE_PROFILES", given.get("COMPOSE_PROFILES", "cuda")).split(",")

    def wanted(self, named):
        """The services named, or all of the active profiles, after those that they depend on."""
        active = set(self.profiles())
        found = []

        def add(name):
            for other in self.services[name].get("depends_on", ()):
                add(other)
            if name not in found:
                found.append(name)

        for name, service in self.services.items():
            if name in named or (not named and active >= set(service.get("profiles", ()))):
                add(name)
        return found

    def up(self, named, *, wait=False, options=()):
        """Start services, each once what it depends on is as it must be."""
        started = self.wanted(named)
        for name in started:
            for other, how in self.services[name].get("depends_on", {}).items():
                self.await_condition(other, how["condition"])
            for container in containers(name):
                if state(container)["Image"] != self.image(container):
                    podman("rm", "--force", container)
            ended = [state(c)["State"]["Status"] == "exited" for c in containers(name)]
            if self.services[name].get("restart") == "on-failure" and any(ended):
                podman("start", *containers(name))
            elif code := self.run("up", "--detach", "--no-deps", *options, name):
                return code
        if wait:
            for name in started:
                once = self.services[name].get("restart") == "on-failure"
                self.await_condition(
                    name, "service_completed_successfully" if once else "service_healthy"
                )
        return 0

    def image(self, container):
        return podman("image", "inspect", "--format={{.Id}}", state(container)["ImageName"])

    def await_condition(self, service, condition):
        end = time.monotonic() + PATIENCE
        while not self.holds(service, condition):
            if time.monotonic() > end:
                podman("logs", "--tail=30", *containers(service))
                sys.exit(f"{service} is not {condition.removeprefix('service_')}")
            time.sleep(2)

    def holds(self, service, condition):
        found = containers(service)
        if not found:
            return False
        status = state(found[0])["State"]
        if condition == "service_completed_successfully":
            return status["Status"] == "exited" and status["ExitCode"] == 0
        return healthy(found[0])


def healthy(container):
    """Run a container's health check once, as Docker does every few seconds."""
    command = ["podman", "healthcheck", "run", container]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0


def main(arguments):
    """Do what `docker compose …` would."""
    parser = argparse.ArgumentParser(prog="docker")
    parser.add_argument("compose", choices=["compose"])
    parser.add_argument("--project-directory", default=".")
    parser.add_argument("command")
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    given = parser.parse_args(arguments)
    compose, rest = Compose(given.project_directory), given.rest
    options = [word for word in rest if word.startswith("-")]
    words = [word for word in rest if not word.startswith("-")]
    if given.command == "up":
        recreate = [o for o in options if o == "--force-recreate"]
        return compose.up(words, wait="--wait" in options, options=recreate)
    if given.command == "run":
        if "--no-deps" in rest:
            rest.remove("--no-deps")
        else:
            service = next(word for word in rest if word in compose.services)
            needed = compose.services[service].get("depends_on", {})
            if not all(compose.holds(name, how["condition"]) for name, how in needed.items()):
                compose.up([*needed])
        terminal = [] if sys.stdin.isatty() or "-T" in rest else ["-T"]
        return compose.run("run", "--no-deps", *terminal, *rest)
    if given.command == "cp":
        source, target = words
        service, _, path = source.partition(":")
        podman("cp", f"{containers(service)[0]}:{path}", target)
        return 0
    if given.command == "ps" and "--services" in rest:
        running = [name for name in compose.services if containers(name, running=True)]
        print("\n".join(running))  # noqa: T201
        return 0
    if given.command in ("start", "stop", "kill", "restart"):
        seconds = "60"
        if "--timeout" in rest:
            seconds = words.pop(words.index(rest[rest.index("--timeout") + 1]))
        order = [n for n in compose.wanted(()) if not words or n in words]
        order = order if given.command == "start" else order[::-1]
        limit = [f"--time={seconds}"] if given.command in ("stop", "restart") else []
        for container in [c for name in order for c in containers(name)]:
            podman(given.command, *limit, container, check=given.command != "kill")
        return 0
    if given.command == "build" and not words:
        images = {
            compose.services[n]["image"]: n
            for n in compose.wanted(())
            if "build" in compose.services[n]
        }
        rest += images.values()  # podman-compose would build it again for each service
    return compose.run(given.command, *rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
