"""The systemd unit: what it starts, how long it waits, and how little it may do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.config.settings import Settings, own_variables
from gateway.http.server import CUT_GRACE_S
from tests.deploy.stack.dockerfile import ROOT

FOLDER = ROOT / "deploy/stack/systemd"
UNIT = FOLDER / "lmi-gateway.service"
VARIABLES = FOLDER / "gateway.env"
# Directives of systemd 250 by the section they belong to.
# https://www.freedesktop.org/software/systemd/man/latest/systemd.directives.html
DIRECTIVES = {
    "Unit": {"Description", "Wants", "After", "StartLimitIntervalSec", "StartLimitBurst"},
    "Service": {
        "Type", "LoadCredential", "Environment", "EnvironmentFile", "ExecStartPre", "ExecStart", "Restart",
        "RestartSec",
        "KillSignal", "KillMode", "TimeoutStopSec", "LimitNOFILE", "TasksMax", "DynamicUser", "UMask", "ProtectSystem",
        "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateUsers", "PrivateIPC", "ProtectProc", "ProtectClock",
        "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables",
        "ProtectControlGroups", "NoNewPrivileges", "RemoveIPC", "RestrictAddressFamilies", "RestrictNamespaces",
        "RestrictRealtime", "RestrictSUIDSGID", "LockPersonality", "CapabilityBoundingSet", "AmbientCapabilities",
        "SystemCallArchitectures", "SystemCallFilter", "SystemCallErrorNumber",
    },
    "Install": {"WantedBy"},
}  # fmt: skip


def sections(text: str) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for line in text.splitlines():
        if head := re.fullmatch(r"\[(\w+)\]", line):
            found[head[1]] = []
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals, line
            found[list(found)[-1]].append((name, value))
    return found


SERVICE = dict(sections(UNIT.read_text())["Service"])


def test_every_directive_exists_in_its_section() -> None:
    assert {name: {key for key, _ in pairs} for name, pairs in sections(UNIT.read_text()).items()} == DIRECTIVES


def test_systemd_itself_finds_nothing_wrong_where_there_is_one(tmp_path: Path) -> None:
    # The rest of this file holds without it.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/lmi-gateway/bin/lmi-gateway", "/bin/true"))
    complaints = []
    for arguments in (["verify"], ["security", "--offline=true", "--threshold=20", "--no-pager"]):
        if program := shutil.which("systemd-analyze"):
            done = subprocess.run([program, *arguments, unit], capture_output=True, text=True, timeout=60)
            complaints += [(arguments[0], done.stdout + done.stderr)] if done.returncode else []
    assert complaints == []


@pytest.mark.parametrize(
    ("directive", "value"),
    [
        pytest.param("DynamicUser", "yes", id="a user of its own"),
        pytest.param("ProtectSystem", "strict", id="no file can be written"),
        pytest.param("ProtectHome", "yes", id="no home can be read"),
        pytest.param("PrivateTmp", "yes", id="a temporary folder of its own"),
        pytest.param("NoNewPrivileges", "yes", id="no way to more rights"),
        pytest.param("CapabilityBoundingSet", "", id="no capability"),
        pytest.param("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX", id="networks only"),
        pytest.param("KillMode", "mixed", id="the signal to stop goes to the supervisor"),
        pytest.param("KillSignal", "SIGTERM", id="and asks it to"),
    ],
)
def test_the_unit_says(directive: str, value: str) -> None:
    assert SERVICE[directive] == value


def test_the_gateway_has_more_time_to_stop_than_it_takes() -> None:
    drain_s = Settings.model_fields["drain_timeout_s"].default
    assert float(SERVICE["TimeoutStopSec"]) >= drain_s + CUT_GRACE_S + 5


def test_what_is_started_is_checked_first_and_reads_the_copy_of_the_configuration() -> None:
    program = "/opt/lmi-gateway/bin/lmi-gateway"
    assert (SERVICE["ExecStartPre"], SERVICE["ExecStart"]) == (f"{program} check", f"{program} serve")
    name, _, source = SERVICE["LoadCredential"].partition(":")
    assert source == "/etc/lmi-gateway/gateway.yaml"
    assert SERVICE["Environment"] == f"LMI_GATEWAY_CONFIG=%d/{name}"
    assert SERVICE["EnvironmentFile"] == f"-/etc/lmi-gateway/{VARIABLES.name}"


@pytest.mark.parametrize("commented", [pytest.param(False, id="as it is"), pytest.param(True, id="with all of it")])
def test_the_variables_are_settings(tmp_path: Path, commented: bool) -> None:
    text = VARIABLES.read_text()
    lines = [line.removeprefix("#") for line in text.splitlines()] if commented else text.splitlines()
    given = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line))
    path = tmp_path / "gateway.yaml"
    path.write_text("models: [{name: m, deployments: [{endpoint: e, region: us-east-1, container: lmi, version: 27}]}]")
    own = {name: value for name, value in given.items() if name.startswith("LMI_GATEWAY_")}
    assert own_variables(own) == own
    settings = load(path, own).settings
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.limits_store == ("redis" if commented else "memory")
