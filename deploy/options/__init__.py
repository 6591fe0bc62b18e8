"""Which options a container of some version has: LMI's `option.*`, the arguments of vLLM and of TGI.

vllm.json is made by scripts/vllm_options.py of vLLM's source releases; a release that it does not hold is taken for the
newest one before it that it does, and one between two of which one knows an option and the other does not, for both.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from deploy import images
from deploy.manifestfile import hinted, meaning, shown
from deploy.options import lmi, tgi

ParserKind = Literal["tool_parsers", "reasoning_parsers"]
EXAMPLES: dict[str, Any] = {"bool": True, "int": 1, "float": 1, "list": [1], "json": {"key": 1}, "str": "text"}
"""How a value is written → one that is."""
_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "list": "a list",
    "json": "a mapping",
    "str": "text",
}


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of vLLM."""

    kind: str
    """How its value is written: bool, int, float, str, list or json."""
    spans: tuple[tuple[str, str], ...]
    """The releases that have it: first and last, as often as it came back."""

    def known_to(self, version: str) -> bool:
        """Return whether a release has it; what both neighbours of an unread release lack, it lacks too."""
        return any(
            _ordered(first) <= _ordered(after) and _ordered(before) <= _ordered(last)
            for before, after in [_neighbours(version)]
            for first, last in self.spans
        )

    def absent_words(self, version: str) -> str:
        """Return when it was, or will be, there."""
        first, last = self.spans[0][0], self.spans[-1][1]
        if _ordered(version) < _ordered(first):
            return f"first seen in vLLM {first}"
        return f"last seen in vLLM {last}"


@functools.cache
def _tables() -> dict[str, Any]:
    text = importlib.resources.files(__name__).joinpath("vllm.json").read_text()
    tables: dict[str, Any] = json.loads(text)
    return tables


@functools.cache
def vllm_arguments(table: Literal["engine", "server"]) -> dict[str, Argument]:
    """Return vLLM's arguments of every release: those of its engine, or those of its server alone."""
    return {
        name: Argument(kind, tuple((first, last) for first, last in spans))
        for name, (kind, *spans) in _tables()[table].items()
    }


@functools.cache
def parsers(kind: ParserKind) -> dict[str, Argument]:
    """Return the parsers of every release of vLLM."""
    return {
        name: Argument("str", tuple((first, last) for first, last in spans)) for name, spans in _tables()[kind].items()
    }


def releases() -> tuple[str, ...]:
    """Return the releases of vLLM that were read, oldest first."""
    return tuple(_tables()["versions"])


@functools.cache
def _neighbours(version: str) -> tuple[str, str]:
    """Return the read releases that say what an unread one has: of its own minor version, else the two around it."""
    read = releases()
    if version in read:
        return version, version
    minor = _ordered(version)[:2]
    own = [one for one in read if _ordered(one)[:2] == minor]
    if own:
        return own[-1], own[-1]
    before = [one for one in read if _ordered(one) < _ordered(version)]
    after = [one for one in read if _ordered(one) > _ordered(version)]
    return (before or after)[-1 if before else 0], (after or before)[0 if after else -1]


def _ordered(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version)[:3])


def lmi_names(version: int) -> set[str]:
    """Return every option of an LMI container: its own, and the arguments of its vLLM."""
    own = {name for name, option in lmi.OPTIONS.items() if option.since <= version}
    engine = images.LMI_VLLM[version]
    return own | {name for name, argument in vllm_arguments("engine").items() if argument.known_to(engine)}


def kind_of(name: str) -> str | None:
    """Return how the value of an option or argument is written, None where nothing knows it."""
    if name in lmi.OPTIONS:
        return lmi.OPTIONS[name].kind
    found = vllm_arguments("engine").get(name) or vllm_arguments("server").get(name)
    return found.kind if found else tgi.ARGUMENTS.get(name)


def one_value_in_lmi(name: str) -> bool:
    """Tell whether LMI gives vLLM the text of an argument as one value, so that a JSON array would be none."""
    return name not in lmi.OPTIONS and kind_of(name) != "json"


def lmi_fault(name: str, value: Any, version: int, *, own: bool = True) -> str | None:
    """Return what is wrong with an option of LMI; `own` is false where only vLLM's arguments belong."""
    option = lmi.OPTIONS.get(name) if own or name not in vllm_arguments("engine") else None
    argument = vllm_arguments("engine").get(name)
    if name in lmi.IN_MANIFEST:
        return f"is said by {lmi.IN_MANIFEST[name]}"
    if name in lmi.INSTEAD:
        return f"LMI calls this option.{lmi.INSTEAD[name]}"
    if option is not None:
        if not own:
            return "is an option of LMI's own: say it under option"
        if option.since > version:
            return f"unknown to LMI {version}: it is there since LMI {option.since}"
        if name == "chat_template" and version < 24 and re.fullmatch(r"\S*(/|\.jinja)\S*", str(value)):
            return f"is the template itself in LMI {version}, which would take this for its text: LMI 24 opens files"
        return _value_fault(option.kind, value, name)
    if argument is None:
        return f"unknown {'option' if own else 'argument'}{hinted(name, lmi_names(version))}"
    engine = images.LMI_VLLM[version]
    if not argument.known_to(engine):
        return f"unknown to LMI {version}, which runs vLLM {engine}: {argument.absent_words(engine)}"
    if argument.kind != "json" and isinstance(value, list) and len(value) != 1:
        return "is a list, of which LMI passes one value on to vLLM, and not more"
    return _value_fault(argument.kind, value, name)


def vllm_fault(name: str, value: Any, version: str) -> str | None:
    """Return what is wrong with an argument of the vLLM container."""
    tables: Iterable[dict[str, Argument]] = (vllm_arguments("engine"), vllm_arguments("server"))
    if name in ("model", "revision", "trust_remote_code"):
        return f"is said by model.{name.replace('model', 'id')}"
    found = [table[name] for table in tables if name in table]
    if not found:
        known = {one for table in tables for one, argument in table.items() if argument.known_to(version)}
        return f"unknown argument{hinted(name, known)}"
    argument = next((one for one in found if one.known_to(version)), None)
    if argument is None:
        return f"unknown to vLLM {version}: {found[0].absent_words(version)}"
    return _value_fault(argument.kind, value, name)


def tgi_fault(name: str, value: Any) -> str | None:
    """Return what is wrong with an argument of TGI's launcher."""
    if name in tgi.IN_MANIFEST:
        return f"is said by {tgi.IN_MANIFEST[name]}"
    if name not in tgi.ARGUMENTS:
        return f"unknown argument{hinted(name, tgi.ARGUMENTS)}"
    return _value_fault(tgi.ARGUMENTS[name], value, name)


def parser_fault(kind: ParserKind, name: str, version: str) -> str | None:
    """Return what is wrong with the name of a tool or reasoning parser in a release of vLLM."""
    word = kind.removesuffix("_parsers")
    parser = parsers(kind).get(name)
    if parser is None:
        known = [one for one, found in parsers(kind).items() if found.known_to(version)]
        return f"vLLM has no {word} parser {shown(name)}{hinted(name, known)}"
    if not parser.known_to(version):
        return f"vLLM {version} has no {word} parser {name!r}: {parser.absent_words(version)}"
    return None


def tokens(value: Any) -> int | None:
    """Return a number of tokens as vLLM reads it, 8k as 8000 and 8K as 8192; None if it is none."""
    found = meaning(value)
    if isinstance(found, str) and (match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kKmMgG])", found)):
        power = "kmg".index(match[2].lower()) + 1
        return int(float(match[1]) * (1000 if match[2].islower() else 1024) ** power)
    return found if _number(found, int) else None


_POSITIVE = frozenset(
    {
        *("max_model_len", "max_rolling_batch_size", "max_num_seqs", "max_num_batched_tokens", "num_shard"),
        *("tensor_parallel_degree", "tensor_parallel_size", "pipeline_parallel_size", "max_total_tokens"),
        *("max_input_tokens", "max_input_length", "max_loras", "max_lora_rank", "gpu_memory_utilization"),
    }
)
_AUTOMATIC = {"max_model_len": -1, "tensor_parallel_degree": "max"}
"""Words for "find out by yourself"."""
_AT_MOST_1 = frozenset({"gpu_memory_utilization", "cuda_memory_fraction"})


def _value_fault(kind: str, value: Any, name: str) -> str | None:
    found = meaning(value)
    if name in _AUTOMATIC and found == _AUTOMATIC[name]:
        return None
    if name in _POSITIVE and isinstance(found, int | float) and not isinstance(found, bool) and found <= 0:
        return f"expected more than 0, found {shown(value)}"
    if name in _AT_MOST_1 and isinstance(found, int | float) and not isinstance(found, bool) and found > 1:
        return f"expected a share of 1 at most, such as 0.9, found {shown(value)}"
    fits = {
        "bool": isinstance(found, bool),
        # vLLM takes 8k and 1M for some numbers.
        "int": _number(found, int) or (isinstance(found, str) and re.fullmatch(r"[0-9.]+[kKmMgG]", found) is not None),
        "float": _number(found, int) or _number(found, float),
        "list": not isinstance(found, dict),
        "json": True,
        "str": not isinstance(found, dict),
    }
    return None if found is not None and fits[kind] else f"expected {_WORDS[kind]}, found {shown(value)}"


def _number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
