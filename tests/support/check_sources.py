#!/usr/bin/env python3
"""Checks what a compiler does not: which folder includes which, and that files stay small.

Dependencies run one way: main -> server -> rpc -> engine -> store -> kernels, and rpc, client ->
proto. The table below is the whole rule: a folder may include itself and the folders in its row. The
most specific row holds.
"""

import argparse
import pathlib
import re
import sys

MAX_LINES = 500

ALLOWED = {
    "kernels": ["kernels"],
    "kernels/base": [],
    "kernels/codec": ["kernels/base"],
    "kernels/mustafar": ["kernels/base"],
    "server": ["server", "kernels", "proto"],
    "server/base": ["kernels/base"],
    "server/store": ["server/base", "kernels"],
    "server/engine": ["server/store", "server/base", "kernels"],
    "server/rpc": ["server/engine", "server/store", "server/base", "kernels", "proto"],
    # Implements what engine and rpc report to.
    "server/observability": ["server/rpc", "server/engine", "server/base", "kernels"],
    "client/cpp": ["proto", "kernels/base"],
    # `plan` computes block sizes, and `replay` rounds as the codec does.
    "client/cli": ["client/cpp", "proto", "kernels/base", "kernels/codec"],
    "tests": ["kernels", "server", "client", "proto", "tests"],
}
FOLDERS = ("kernels", "server", "client", "tests")
SUFFIXES = {".h", ".cc", ".cuh", ".cu"}

_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
# Generated code is included by the path of its .proto.
_PROTO = re.compile(r"^(kvattend|google/rpc)/.*\.pb\.h$")


def is_below(path: str, folder: str) -> bool:
    return path.startswith(folder + "/")


def check_include(source: str, included: str) -> str | None:
    """Says what is wrong where `source` includes `included`, both relative to the root."""
    if _PROTO.match(included):
        included = "proto/" + included
    elif "/" not in included:
        return f'"{included}" is not a path from the root of the repository'
    elif not any(is_below(included, folder) for folder in FOLDERS):
        return None  # a library's
    row = max((folder for folder in ALLOWED if is_below(source, folder)), key=len)
    if any(is_below(included, folder) for folder in [row, *ALLOWED[row]]):
        return None
    return f'{row} must not include "{included}"'


def check_file(root: pathlib.Path, path: pathlib.Path) -> list[str]:
    source = path.relative_to(root).as_posix()
    lines = path.read_text(encoding="utf-8").splitlines()
    problems = []
    if len(lines) > MAX_LINES:
        problems.append(f"{source}: {len(lines)} lines, more than {MAX_LINES}")
    for number, line in enumerate(lines, start=1):
        if match := _INCLUDE.match(line):
            if problem := check_include(source, match.group(1)):
                problems.append(f"{source}:{number}: {problem}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=pathlib.Path)
    root = parser.parse_args().root.resolve()
    files = [
        path
        for folder in FOLDERS
        for path in sorted((root / folder).rglob("*"))
        if path.suffix in SUFFIXES
    ]
    problems = [problem for path in files for problem in check_file(root, path)]
    if not files:
        problems.append(f"{root}: no sources found")
    print("\n".join(problems) or f"{len(files)} files are as they should be")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
