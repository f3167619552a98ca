#!/usr/bin/env python3
"""Asks Python's pathlib what patterns find in trees, and prints the answers as JSON.

    python3.13 pathlib_glob.py [SEED [TREES [PATTERNS]]] > pathlib_glob.json

Made for `Path.glob` of Python 3.13 or later; before, it meant something else. The unit test of the worker's globs reads
the checked-in output, and a longer one of other seeds must pass it as well.
"""

import json
import os
import random
import sys
import tempfile
from pathlib import Path

FIXED = [
    "**", "**/", "*", "*/", "?", "**/*.ipynb", "*.ipynb", "a/**", "a/**/", "a/*", "a", "a/", "./a/x.ipynb", "a//x.ipynb",
    "a/./x.ipynb", "a/../x.ipynb", "../a", "..", "", ".", "./", "./.", "/a", "/", "//a", "a**", "**x", "***", "a**/x.ipynb",
    "**/**", "**/**/", "a/**/**", "**/a/**", "**/.*", ".*", ".*/**", "[ab]/*", "[!a]", "[!a]/**", "[a-c]/**", "[c-a]", "[!c-a]",
    "[]]", "[!]]", "[]", "[!]", "[", "[a", "a[", "[a-]", "[-a]", "[--a]", "[a-b-c]", "[a--]", "[]-a]", "[!-]", "[^a]", "[[]", "[&&]",
    "{a,b}", "\\a", "A/**", "*.IPYNB", "x.ipynb/**", "x.ipynb/", "x.ipynb", "link", "link/", "link/**", "link/**/", "link/*", "*/**",
    "**/link/**", "sp [1].ipynb", "sp [[]1[]].ipynb", "é*", "?.ipynb", "**/?", "**/??", "**/[!.]*", "*[*", "[?*]", "a/**/x.ipynb",
    "**/a/x.ipynb", "a/*/x.ipynb", "**/*/", "*/*/", "**/*/*.ipynb", "x.ipynb/.", "**/.", "a/.", "[a-c-e]", "[a-cx-z]", "[z-ax]", "[xz-a]",
    "[a-bc-]", "[!a-b-]", "[~|]", "[]!a]", "[!!]", "**/*-*", "*\n*", "[+--]", "[a\\-z]", "[\\]", "[^]", "[^^]", "[b^]",
]
NAMES = ["a", "b", "c", "A", ".a", ".git", "x.ipynb", "y.ipynb", "x.IPYNB", "a-b", "]", "[", "-", "!", "^", "é", "a b", "d\ne", "\\", "sp [1].ipynb", "z.py", "*", "?"]
PIECES = ["*", "?", "**", "a", "b", "c", ".", "-", "[", "]", "!", "x", ".ipynb", "[ab]", "[!a]", "[a-c]", "[!-]", "^", "\\", "é", " "]


def make_tree(root, rng, depth):
    for name in rng.sample(NAMES, rng.randint(1, 7)):
        path = root / name
        kind = rng.random()
        if depth and kind < 0.45:
            path.mkdir()
            make_tree(path, rng, depth - 1)
        else:
            path.write_text("")


def kind(path):
    if path.is_symlink():
        return "link" if path.is_dir() else "file"
    return "directory" if path.is_dir() else "file"


def pattern(rng):
    segments = []
    for _ in range(rng.randint(1, 4)):
        form = rng.random()
        if form < 0.3:
            segments.append("**")
        elif form < 0.5:
            segments.append(rng.choice(NAMES))
        elif form < 0.55:
            segments.append(rng.choice(["", ".", "..", "link"]))
        else:
            segments.append("".join(rng.choice(PIECES) for _ in range(rng.randint(1, 5))))
    return "/".join(segments) + rng.choice(["", "", "", "/"])


def tree(rng, patterns):
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        make_tree(root, rng, 3)
        directories = [path for path in root.rglob("*") if path.is_dir()]
        (root / "link").symlink_to(rng.choice(directories) if directories else ".")
        (root / "l.ipynb").symlink_to("nowhere")
        (root / "dir.ipynb").mkdir()
        (root / "to.ipynb").symlink_to("dir.ipynb")
        paths = []
        for parent, below, files in os.walk(root):
            paths += [Path(parent, name) for name in below + files]
        paths.sort()
        answers = []
        for text in [*FIXED, *(pattern(rng) for _ in range(patterns))]:
            try:
                found = set(root.glob(text))
                answers.append([text, [i for i, path in enumerate(paths) if path in found]])
            except (NotImplementedError, ValueError) as error:
                answers.append([text, type(error).__name__])
        return {"paths": [[str(path.relative_to(root)), kind(path)] for path in paths], "patterns": answers}


def main():
    assert sys.version_info >= (3, 13), "Path.glob meant something else before Python 3.13"
    seed, trees, patterns = (int(text) for text in (*sys.argv[1:], *("1", "4", "150")[len(sys.argv) - 1 :]))
    rng = random.Random(seed)
    json.dump([tree(rng, patterns) for _ in range(trees)], sys.stdout, ensure_ascii=False, separators=(",", ":"))
    print()


main()
