"""Reads a Dockerfile, and does in a folder of this machine what a stage of it does in an image.

What cannot be done without Docker is replaced, and nothing else: `/opt/…` and `/build` lie below a folder, a base image
is the Python that runs the tests, and where pip would fetch what a lock file names, the same files are copied from the
environment of the tests, by what each distribution says it has installed.
https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
PINNED = re.compile(r"^([a-z0-9][\w.-]*==[^\s;\\]+(?: ; [^\\]+?)?) *\\?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction, its continued lines joined."""

    word: str
    text: str

    def exec_form(self) -> list[str]:
        """Return the words of an instruction in exec form; a shell form is an error, as it would get no signals."""
        found = json.loads(self.text[self.text.index("[") :])  # after the options of a HEALTHCHECK
        assert isinstance(found, list), self.text
        return found


@dataclass(slots=True)
class Stage:
    name: str
    base: str
    steps: list[Step] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [step.text for step in self.steps if step.word == word]

    def environment(self) -> dict[str, str]:
        return {name: value for text in self.all("ENV") for name, value in re.findall(r"(\w+)=(\S+)", text)}

    def last(self, word: str) -> Step:
        return [step for step in self.steps if step.word == word][-1]


def stages(text: str) -> dict[str, Stage]:
    """Return the stages by their names, in their order."""
    found: dict[str, Stage] = {}
    current = None
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = found[name] = Stage(name, base)
        elif word and current is not None:
            current.steps.append(Step(word, rest.strip()))
    return found


def context(ignored: str) -> list[Path]:
    """Return the files that a `.dockerignore` sends to the builder, relative to the project."""
    rules = [line for line in ignored.splitlines() if line and not line.startswith("#")]
    kept = []
    for path in sorted(path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts):
        name = path.relative_to(ROOT)
        candidates = [str(name), *map(str, name.parents)]
        taken = True
        for rule in rules:
            pattern = rule.removeprefix("!")
            forms = {pattern, pattern.removeprefix("**/")} if pattern.startswith("**/") else {pattern}
            if any(_matches(candidate, form) for form in forms for candidate in candidates):
                taken = rule.startswith("!")
        if taken:
            kept.append(name)
    return kept


def _matches(name: str, pattern: str) -> bool:
    # In these rules a star stops at a slash, as in a shell.
    parts, wanted = name.split("/"), pattern.split("/")
    if pattern.startswith("**"):
        wanted = wanted[1:]
    if "*" in pattern and "/" not in pattern and pattern != "*":
        return fnmatch.fnmatchcase(parts[-1], pattern)
    if len(wanted) == 1 and wanted[0] == "__pycache__":
        return wanted[0] in parts
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


class Build:
    """A stage, done below `folder`; what only tells how to run it is left to whoever runs it."""

    def __init__(self, folder: Path, stage: Stage, **arguments: str) -> None:
        self.folder = folder
        self.arguments = arguments
        self.installed: set[str] = set()
        """The locked requirements that were put into the environment."""
        self.context = folder / "context"
        for path in context((ROOT / ".dockerignore").read_text()):
            target = self.context / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, target)
        self.workdir = folder
        work = {"ARG": self._arg, "WORKDIR": self._workdir, "COPY": self._copy, "RUN": self._run}
        for step in stage.steps:
            if step.word in work:
                work[step.word](step.text)

    def inside(self, text: str) -> str:
        """Return a command with the image's folders replaced by those on this machine."""
        return re.sub(r"(?<![\w.])/(opt|build)\b", rf"{self.folder}/\1", text)

    def _arg(self, text: str) -> None:
        name, _, default = text.partition("=")
        self.arguments.setdefault(name, default)

    def _workdir(self, text: str) -> None:
        self.workdir = Path(self.inside(text))
        self.workdir.mkdir(parents=True, exist_ok=True)

    def _copy(self, text: str) -> None:
        if text.startswith("--from="):
            return  # another stage's folder, done by itself
        *sources, target = text.split()
        for source in sources:
            origin, destination = self.context / source, self.workdir / self.inside(target)
            assert origin.exists(), f"{source} is not sent to the builder"
            if origin.is_dir():
                shutil.copytree(origin, destination)
            else:
                destination = destination / origin.name if target.endswith("/") else destination
                destination.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(origin, destination)

    def _run(self, text: str) -> None:
        (self.folder / "bin").mkdir(exist_ok=True)
        python = self.folder / "bin" / "python"
        if not python.exists():
            # `python` is the base image's; asked for pip it writes down what it would install.
            base = Path(sys.base_prefix, "bin", "python3")
            python.write_text(
                f'#!/bin/sh\nif [ "$1 $2" = "-m pip" ]; then printf "%s\\n" "$@" >{self.folder}/pip; exit; fi\n'
                f'exec {base} "$@"\n'
            )
            python.chmod(0o755)
        environment = {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", **self.arguments}
        done = subprocess.run(
            ["/bin/sh", "-eu", "-c", self.inside(text)],
            cwd=self.workdir,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        asked = self.folder / "pip"
        if asked.exists():
            self._install(asked.read_text().splitlines())
            asked.unlink()

    def _install(self, words: list[str]) -> None:
        assert words[2] == "--python"
        assert words[4] == "install"
        assert {"--require-hashes", "--no-cache-dir", "--only-binary"} <= set(words)
        (packages,) = Path(words[3]).parents[1].glob("lib/python3*/site-packages")
        for lock in (words[at + 1] for at, word in enumerate(words) if word == "-r"):
            for requirement in locked(self.workdir / lock):
                put(requirement, packages)
                self.installed.add(requirement.name)


def locked(lock: Path) -> list[Requirement]:
    """Return what a lock file asks for on this machine."""
    parsed = [Requirement(line) for line in PINNED.findall(lock.read_text())]
    assert parsed
    return [each for each in parsed if each.marker is None or each.marker.evaluate()]


def put(requirement: Requirement, packages: Path) -> None:
    """Copy a distribution's files from the environment of the tests into the folder `packages`, but its scripts."""
    found: Distribution = distribution(requirement.name)
    assert requirement.specifier.contains(found.version), f"{requirement} is tested as {found.version}"
    for file in found.files or []:
        source = Path(str(found.locate_file(file)))
        if ".." in file.parts or "__pycache__" in file.parts or not source.exists():
            continue
        target = packages / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def size_of(folder: Path) -> int:
    """Return the bytes of the files below a folder; links count as nothing."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
