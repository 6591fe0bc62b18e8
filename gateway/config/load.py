"""The configuration from its file and the environment, or everything that is wrong with it at once.

Bytes → `document` (a tree that knows its lines) → plain values, converted by the type of their field → pydantic, field
by field → the rules between fields. A value that is wrong is left out of later steps: each problem is told once.
"""

from __future__ import annotations

import math
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.config import document
from gateway.config.callers import Issuer
from gateway.config.kinds import Kind, Loc, Section, kinds
from gateway.config.limits import Team
from gateway.config.models import Key, Model, ModelsFile
from gateway.config.problems import ConfigError, Problem, did_you_mean, path_of, shown
from gateway.config.settings import CONFIG_VARIABLE, PREFIX, Settings, aws_variables, own_variables
from gateway.config.tgi import Tgi
from gateway.config.usage import UsageSink

DEFAULT_PATH = Path("gateway.yaml")
MAX_FILE_BYTES = 1 << 20

_ROOT = Kind("mapping", "a mapping", section=ModelsFile)
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})([eE][+-]?[0-9]{1,3})?")
_WRONG = object()


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration that has passed every check."""

    settings: Settings
    keys: tuple[Key, ...]
    models: tuple[Model, ...]
    teams: tuple[Team, ...] = ()
    tgi: Tgi = field(default_factory=Tgi)
    issuers: tuple[Issuer, ...] = ()
    usage_sink: UsageSink | None = None

    @property
    def keys_possible(self) -> bool:
        """Callers have a way to say who they are."""
        return bool(self.keys or self.issuers) or self.settings.keys_store == "redis"


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Return the configuration of `path`, else of LMI_GATEWAY_CONFIG, else of ./gateway.yaml; variables win over it.

    Raises:
        ConfigError: the file cannot be read, or it or the environment is wrong.
    """
    path = path or Path(environ.get(CONFIG_VARIABLE) or DEFAULT_PATH)
    return parse(_bytes_of(path), str(path), environ)


def parse(data: bytes, source: str, environ: Mapping[str, str]) -> Config:
    """Return the configuration that the file's bytes and the environment make; `source` is the file's name in messages.

    Raises:
        ConfigError: `data` or `environ` is wrong.
    """
    variables = _Variables(environ)
    try:
        file = _file(data, source)
    except ConfigError as error:
        raise ConfigError([*variables.problems, *error.problems]) from None
    of_file = {
        name: value for name, value in file.settings if name in file.settings.model_fields_set and value is not None
    }
    of_aws = variables.of_aws(except_for={*of_file, *variables.own})
    if variables.problems:
        raise ConfigError(variables.problems)
    settings = Settings.model_validate({**of_aws, **of_file, **variables.own})
    if clashes := list(settings.clashes()):
        raise ConfigError(
            Problem(0, 0, PREFIX + name.upper(), message)
            if name in variables.own
            else Problem(0, 0, path_of(("settings", name)), message, source)
            for name, message in clashes
        )
    return Config(settings, file.keys, file.models, file.teams, file.tgi, file.issuers, file.usage_sink)


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        message = f"no such file; name one with --config or {CONFIG_VARIABLE}"
        raise ConfigError([Problem(0, 0, "", message, str(path))]) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        message = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise ConfigError([Problem(0, 0, "", message, str(path))]) from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError([Problem(0, 0, "", f"larger than {MAX_FILE_BYTES} bytes", str(path))])
    return data


def _file(data: bytes, source: str) -> ModelsFile:
    """Return the file as types, by itself, whatever the environment says.

    Raises:
        ConfigError: something is wrong with the file.
    """
    tree, problems = document.read_document(data, source)
    check = _Check(source, problems)
    values = check.converted(tree, _ROOT, ())
    file = check.validated(values)
    check.add_faults(_ROOT, values, ())
    check.add_file_faults(values)
    if check.problems or file is None:
        raise ConfigError(check.distinct())
    return file


class _Check:
    """One pass over one file: where each value is, which are wrong, and the problems so far."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.problems = problems
        self._source = source
        self._values: dict[Loc, document.Value] = {}
        self._wrong: set[Loc] = set()

    def converted(self, value: document.Value, kind: Kind, loc: Loc) -> Any:
        """Return `value` as plain Python of the field's type; a wrong part is absent from a mapping, None in a list."""
        self._values[loc] = value
        if isinstance(value, document.Scalar) and value.null:
            if kind.optional:
                return None
            if kind.shape in ("list", "mapping"):
                return [] if kind.shape == "list" else {}
        elif isinstance(value, document.Mapping) and kind.section:
            return self._section(value, kind.section, loc)
        elif isinstance(value, document.Sequence) and kind.item:
            items = (self.converted(item, kind.item, (*loc, at)) for at, item in enumerate(value.items))
            return [None if item is _WRONG else item for item in items]
        elif isinstance(value, document.Scalar) and not (
            value.quoted and kind.shape in ("integer", "number", "switch")
        ):
            try:
                return _from_text(value.text, kind)
            except ValueError:
                pass
        self._expected(kind, loc)
        return _WRONG

    def _section(self, mapping: document.Mapping, section: type[Section], loc: Loc) -> dict[str, Any]:
        fields = kinds(section)
        values = {}
        for name, (place, value) in mapping.entries.items():
            if name in fields:
                found = self.converted(value, fields[name], (*loc, name))
                if found is not _WRONG:
                    values[name] = found
                continue
            meant = did_you_mean(name, fields)
            hint = f"; did you mean {meant!r}?" if meant else f"; known keys: {', '.join(fields)}"
            self._add(place, (*loc, name), f"unknown key{hint}")
            if meant and meant not in mapping.entries:  # said once is enough: not also that it is missing
                self._wrong.add((*loc, meant))
        return values

    def validated(self, values: dict[str, Any]) -> ModelsFile | None:
        """Return the file as types, or None; what is wrong is added in our words and taken out of `values`."""
        try:
            return ModelsFile.model_validate(values)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_context=False, include_input=False)
            above = {found["loc"][:length] for found in errors for length in range(len(found["loc"]))}
            for found in errors:
                loc, kind = found["loc"], _ROOT.at(found["loc"])
                if any(loc[:length] in self._wrong for length in range(len(loc) + 1)):
                    continue
                if loc in above:
                    continue  # a list that is too short only without its wrong entries
                if found["type"] == "value_error" and kind.shape == "mapping":
                    continue  # a rule between fields, which add_faults tells with its place
                if found["type"] == "missing":
                    self._wrong.add(loc)
                    self._add(self._values[loc[:-1]].place, loc, f"missing; expected {kind.words}")
                else:
                    self._expected(kind, loc)
                    _leave_out(values, loc)
            return None

    def add_faults(self, kind: Kind, values: Any, loc: Loc) -> None:
        """Add the rules between fields that `values` break, from the inside out."""
        if kind.item and isinstance(values, list):
            for at, item in enumerate(values):
                self.add_faults(kind.item, item, (*loc, at))
        if kind.section and isinstance(values, dict):
            for name, child in kinds(kind.section).items():
                self.add_faults(child, values.get(name), (*loc, name))
            for inner, message in kind.section.faults(values):
                if not inner and any(wrong[: len(loc)] == loc for wrong in self._wrong):
                    continue  # what the section lacks as a whole may be what is wrong in it
                self._add(self._values[(*loc, *inner)].place, (*loc, *inner), message)

    def add_file_faults(self, values: dict[str, Any]) -> None:
        """Add what is wrong with the files that the settings name."""
        loc = ("settings", "ca_bundle")
        path = values.get("settings", {}).get("ca_bundle")
        if path and (fault := _ca_bundle_fault(path)):
            self._add(self._values[loc].place, loc, fault)

    def distinct(self) -> list[Problem]:
        """Return the problems, those of an alias or merge once and not once per use."""
        first = {(problem.line, problem.column, problem.message): problem for problem in reversed(self.problems)}
        return list(reversed(first.values()))

    def _expected(self, kind: Kind, loc: Loc) -> None:
        self._wrong.add(loc)
        value = self._values[loc]
        self._add(value.place, loc, f"expected {kind.words}, found {_found(value, kind)}")

    def _add(self, place: document.Place, loc: Loc, message: str) -> None:
        self.problems.append(Problem(place.line, place.column, path_of(loc), message, self._source))


class _Variables:
    """Settings from the environment, and what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self.own: dict[str, Any] = {}
        self._environ = environ
        fields = {PREFIX + name.upper(): name for name in Settings.model_fields}
        for variable in own_variables(environ):
            if variable in fields:
                self.own |= self._read(variable, fields[variable])
            else:
                meant = did_you_mean(variable[len(PREFIX) :], [*Settings.model_fields, "config"])
                hint = f"; did you mean {PREFIX + meant.upper()}?" if meant else ""
                self.problems.append(Problem(0, 0, path_of((variable,)), f"unknown variable{hint}"))

    def of_aws(self, except_for: set[str]) -> dict[str, Any]:
        """Return the settings that AWS' own variables supply, less those in `except_for`."""
        found: dict[str, Any] = {}
        for name, variable in aws_variables(self._environ).items():
            if name not in except_for:
                found |= self._read(variable, name)
        return found

    def _read(self, variable: str, name: str) -> dict[str, Any]:
        text, kind = self._environ[variable], kinds(Settings)[name]
        fault = f"expected {kind.words}, found {_found_text(text, kind)}"
        try:
            value = _from_text(text, kind)
            value = getattr(Settings.model_validate({name: value}), name)
        except ValueError:  # pydantic's ValidationError is one
            self.problems.append(Problem(0, 0, variable, fault))
            return {}
        if isinstance(value, Path) and (fault_of_file := _ca_bundle_fault(value)):
            self.problems.append(Problem(0, 0, variable, fault_of_file))
        return {name: value}


def _from_text(text: str, kind: Kind) -> str | int | float | bool | Path:
    """Return what `text` means in a field of this kind.

    Raises:
        ValueError: it means nothing there.
    """
    text.encode()  # a lone surrogate, which an escape or the environment can hold, raises UnicodeEncodeError
    if kind.shape == "integer" and _INTEGER.fullmatch(text):
        return int(text)
    if kind.shape == "number" and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    if kind.shape == "switch" and text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if kind.shape == "text" or (kind.shape == "choice" and text in kind.choices):
        return text
    if kind.shape == "path" and text and "\0" not in text:
        return Path(text)
    raise ValueError("not of this kind")


def _found(value: document.Value, kind: Kind) -> str:
    if isinstance(value, document.Mapping):
        return "a mapping"
    if isinstance(value, document.Sequence):
        return "a list" if value.items else "an empty list"
    if value.null:
        return "nothing"
    if kind.shape in ("integer", "number", "switch") and value.quoted:
        return f"the quoted text {shown(value.text)}"
    return _found_text(value.text, kind)


def _found_text(text: str, kind: Kind) -> str:
    if kind.secret:
        return "what looks like the key itself" if text.startswith("sk-") else f"other text ({len(text)} characters)"
    if kind.shape in ("integer", "number"):
        if _NUMBER.fullmatch(text) and not (kind.shape == "integer" and text.startswith(("0", "-0")) and text != "0"):
            return text
        return shown(text) + ("; write it in plain decimal digits" if text[:1].isdigit() else "")
    meant = did_you_mean(text, kind.choices)
    return shown(text) + (f"; did you mean {meant!r}?" if meant else "")


def _leave_out(values: Any, loc: Loc) -> None:
    *parents, last = loc
    for step in parents:
        values = values[step]
    if isinstance(last, int):
        values[last] = None
    else:
        values.pop(last, None)


def _ca_bundle_fault(path: Path) -> str | None:
    try:
        ssl.create_default_context(cafile=os.fspath(path))
    except ssl.SSLError:
        return f"expected a PEM file of certificates, found other contents in {str(path)!r}"
    except OSError as error:
        return f"{str(path)!r} cannot be read: {error.strerror}"
    return None
