"""What a hand-written picture of the docs must be: readable in light and dark, and by ear, and nothing that runs."""

from __future__ import annotations

from xml.etree import ElementTree

from tests.docs.reading import DOCS


def complaints(name: str) -> list[str]:
    """Return what is wrong with the picture docs/images/`name`."""
    picture = DOCS / "images" / name
    names = {element.tag.rpartition("}")[2] for element in ElementTree.parse(picture).iter()}
    found = [f"has no {each}" for each in sorted({"title", "desc"} - names)]
    found += [f"has a {each}" for each in sorted(names & {"script", "image", "foreignObject"})]
    if "prefers-color-scheme: dark" not in picture.read_text(encoding="utf-8"):
        found.append("has no colours for the dark")
    return found
