"""Which container the engine imitates: LMI 15 to 28, or the vLLM or TGI container of some release.

The vLLM inside each LMI release, and what changed on the wire between vLLM releases: the response models of
https://github.com/vllm-project/vllm (vllm/entrypoints/openai/**/protocol.py), and
https://github.com/aws/deep-learning-containers (docs/src/data/djl-inference).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from deploy.local.engine.tgi import release as tgi_release

VLLM_OF_LMI = {
    15: (0, 8, 4),
    16: (0, 10, 2),
    17: (0, 11, 1),
    18: (0, 12, 0),
    19: (0, 14, 0),
    20: (0, 15, 1),
    21: (0, 16, 0),
    22: (0, 17, 0),
    23: (0, 18, 0),
    24: (0, 19, 0),
    25: (0, 20, 1),
    26: (0, 22, 1),
    27: (0, 23, 0),
    28: (0, 26, 0),
}
NEWEST_VLLM = (0, 33, 0)
OLDEST_VLLM = (0, 8, 4)

NAMES = (
    *(f"lmi{release}" for release in VLLM_OF_LMI),
    "vllm",
    "vllm-0.11 (any release from 0.8.4 on)",
    "tgi",
    "tgi-2.4 (any release from 1.4 on)",
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """A container's release, asked by feature: `dialect.since(0, 23)` is vLLM 0.23.0 or later."""

    name: str
    lmi: int | None
    """The LMI release, or None for another container."""
    vllm: tuple[int, int, int]
    """The release of the vLLM inside; TGI has none."""
    tgi: tuple[int, int, int] | None = None
    """The TGI release, or None for another container."""

    def since(self, major: int, minor: int, patch: int = 0) -> bool:
        """Return whether the vLLM inside is that release or a later one."""
        return self.vllm >= (major, minor, patch)

    @property
    def reasoning_fields(self) -> tuple[str, ...]:
        """Where reasoning is found in a message: 0.11 renamed the field, 0.16 dropped the old name."""
        if not self.since(0, 11):
            return ("reasoning_content",)
        return ("reasoning",) if self.since(0, 16) else ("reasoning", "reasoning_content")

    @property
    def reasoning_efforts(self) -> tuple[str, ...]:
        """The values of reasoning_effort, which 0.8 does not know at all."""
        if self.since(0, 22):
            return ("none", "minimal", "low", "medium", "high", "xhigh", "max")
        return ("none", "low", "medium", "high") if self.since(0, 18) else ("low", "medium", "high")

    @property
    def raises_errors(self) -> bool:
        """Whether a bad prompt or parameter is an exception (0.18 on) and no returned ErrorResponse."""
        return self.since(0, 18)

    @property
    def validation_is_final(self) -> bool:
        """Whether vLLM's own validators end the request with their text, past pydantic's."""
        return self.since(0, 27)

    @property
    def tools_by_parser(self) -> bool:
        """Whether a required or named tool is written in the model's own markup: before, it was bare JSON."""
        return self.since(0, 26)

    @property
    def fingerprint(self) -> str | None:
        """The system_fingerprint of every reply, or None where there is none."""
        if not self.since(0, 22):
            return None
        version = ".".join(map(str, self.vllm))
        return f"vllm-{version}-10ca1e11"


def parse(name: str) -> Dialect:
    """Return the dialect of a name such as `lmi27`, `vllm`, `vllm-0.11`, `vllm-0.32.0`, `tgi` or `tgi-2.4`.

    Raises:
        ValueError: no such dialect; the text lists what there is.
    """
    if name == "vllm":
        return Dialect(name, None, NEWEST_VLLM)
    if (found := re.fullmatch(r"lmi(\d{2})", name)) and int(found[1]) in VLLM_OF_LMI:
        release = int(found[1])
        return Dialect(name, release, VLLM_OF_LMI[release])
    if found := re.fullmatch(r"vllm-?(\d+)\.(\d+)(?:\.(\d+))?", name):
        version = (int(found[1]), int(found[2]), int(found[3] or 0))
        # vllm-0.8 is the oldest release known, 0.8.4.
        if version[:2] == OLDEST_VLLM[:2] and found[3] is None:
            version = OLDEST_VLLM
        if OLDEST_VLLM <= version <= (*NEWEST_VLLM[:2], 99):
            return Dialect(name, None, version)
    if (tgi := _tgi(name)) is not None:
        return Dialect(name, None, NEWEST_VLLM, tgi)
    raise ValueError(f"unknown dialect {name!r}: dialects are {', '.join(NAMES)}")


def _tgi(name: str) -> tuple[int, int, int] | None:
    """Return the release that a name such as `tgi-2.4` or `tgi-2.0.3` means: without a patch, the last of its line."""
    if name == "tgi":
        return tgi_release.NEWEST
    found = re.fullmatch(r"tgi-?(\d+)\.(\d+)(?:\.(\d+))?", name)
    if found is None:
        return None
    line = (int(found[1]), int(found[2]))
    newest = tgi_release.KNOWN.get(line)
    version = (*line, int(found[3])) if found[3] else newest
    return version if newest is not None and version is not None and version >= tgi_release.OLDEST else None
