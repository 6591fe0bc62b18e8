"""`python image.py FOLDER`: make a virtual environment with the gateway's dependencies into what its image holds.

Adds the command, takes out what the gateway never reads, and compiles the rest, as a read-only file system cannot be
written to later. Run by the Dockerfile, in the stage that builds; it needs the standard library and `strip`.
"""

from __future__ import annotations

import compileall
import csv
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

AWS_SERVICES = frozenset({"firehose", "s3", "sagemaker-runtime", "signin", "sso", "sso-oidc", "sts"})
"""Services whose descriptions stay with botocore: those credentials come from, and those usage may be sent to.

https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
"""
NEVER_IMPORTED = ("faker", "markdown-it-py", "mdurl", "polyfactory", "pygments", "rich", "rich-click")
"""Distributions that Litestar asks for: a command of its own and examples in documents need them; nothing here does."""
SOURCES = (".c", ".h", ".pxd", ".pxi", ".pyi", ".pyx")
"""What only compilers and type checkers read."""
TESTS = frozenset({"test", "tests"})
COMMAND = """#!{python} -P
import sys

from gateway.cli import main

if __name__ == "__main__":
    sys.exit(main(prog_name="lmi-gateway"))
"""


def main(folder: Path) -> None:
    """Finish the environment `folder`, whose `app` folder holds the gateway's packages.

    Raises:
        SystemExit: it is not such an environment, or something in it is not as expected.
    """
    found = list(folder.glob("lib/python3.*/site-packages"))
    if len(found) != 1 or not (folder / "app" / "gateway").is_dir():
        raise SystemExit(f"{folder} is no environment with a folder app/gateway in it")
    (packages,) = found
    before = _size(folder)
    for path in list(unread(packages)):
        _remove(path)
    libraries = list(with_symbols(packages))
    if libraries:
        subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)  # noqa: S603, S607 - files found here
    (packages / "lmi-gateway.pth").write_text(f"{folder / 'app'}\n")
    command = folder / "bin" / "lmi-gateway"
    command.write_text(COMMAND.format(python=folder / "bin" / "python"))
    command.chmod(0o755)
    for part in (packages, folder / "app"):
        # By their hash, not their time: the same files give the same image. Unchecked, as nothing changes in an image.
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        if not compileall.compile_dir(part, quiet=2, force=True, workers=0, invalidation_mode=mode):
            raise SystemExit(f"{part} holds modules that cannot be compiled")
    print(f"from {before / 1e6:.1f} to {_size(folder) / 1e6:.1f} MB")


def unread(packages: Path) -> Iterator[Path]:
    """Yield the files and folders below `site-packages` that the gateway never reads."""
    for service in packages.glob("botocore/data/*"):
        if service.is_dir() and service.name not in AWS_SERVICES:
            yield service
    yield from packages.glob("boto3/data/*")
    yield from packages.glob("boto3/examples")
    for name in NEVER_IMPORTED:
        yield from _installed(packages, name)
    for path in packages.rglob("*"):
        if path.suffix in SOURCES or (path.name in TESTS and path.is_dir()):
            yield path


def with_symbols(packages: Path) -> Iterator[Path]:
    """Yield the compiled modules from which names for debuggers can be taken.

    Not those of wheels that bring libraries along: such files have been edited in a way that `strip` can break.
    """
    bringing = {path.name.removesuffix(".libs") for path in packages.glob("*.libs")}
    edited = {top for name in bringing for top in _top_folders(packages, name)} | {f"{name}.libs" for name in bringing}
    for path in sorted(packages.rglob("*.so")):
        if path.relative_to(packages).parts[0] not in edited:
            yield path


def _installed(packages: Path, distribution: str) -> Iterator[Path]:
    """Yield the top-level folders and files that a distribution has put into `packages`, its metadata included."""
    yield from (packages / name for name in _top_folders(packages, distribution))


def _top_folders(packages: Path, distribution: str) -> set[str]:
    name = distribution.replace("-", "_")
    records = [path for path in packages.glob("*.dist-info/RECORD") if path.parent.name.lower().startswith(f"{name}-")]
    if len(records) != 1:
        raise SystemExit(f"{distribution} is not installed once, but {len(records)} times")
    with records[0].open(newline="") as file:
        tops = {Path(row[0]).parts[0] for row in csv.reader(file)}
    return {top for top in tops if top != ".."}  # which leads to its commands


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python image.py FOLDER")
    main(Path(sys.argv[1]))
