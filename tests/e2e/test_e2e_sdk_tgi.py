"""TGI's own client and huggingface_hub's `text_generation`, unchanged, each in a process of its own.

A script stops at the first answer that is not TGI's.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.full_stack import Stack
from tests.support.sdks import run_python
from tests.support.stack import KEY


@pytest.mark.parametrize(
    ("script", "folder"),
    [
        pytest.param("tgi_text_generation", "sdks-text-generation", id="text-generation"),
        pytest.param("tgi_huggingface_hub", "sdks", id="huggingface_hub"),
        pytest.param("tgi_huggingface_hub", "sdks-text-generation", id="huggingface_hub below 1"),
    ],
)
def test_every_answer_is_tgis(stack: Stack, tmp_path: Path, script: str, folder: str) -> None:
    ran = run_python(["-m", f"tests.e2e.clients.{script}", stack.gateway.url, KEY], folder, tmp_path, {})
    assert (ran.exit_code, ran.refused) == (0, []), ran.errors[-4000:]
