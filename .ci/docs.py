#!/usr/bin/env python3
"""Checks the documents: docs.py [DIRECTORY OF THE CRATE'S RUSTDOC PAGES]

In all Markdown files of the repository: each relative link leads to a file, each anchor to a heading of it, each reference
to a definition. The source tree in docs/DESIGN.md is that of src/, and imports go up in it. examples/README.md lists each
example once. With a directory: in the pages that rustdoc made of the documents, each relative link leads to a page and each
anchor to an element of it.
"""

import html.parser
import pathlib
import re
import subprocess
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src"
CODE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
DEFINITION = re.compile(r"^ {0,3}\[([^\]]+)\]: +(\S+)$", re.MULTILINE)
INLINE = re.compile(r"\]\(([^)\s]+)\)")
REFERENCE = re.compile(r"\[([^\[\]]+)\](?:\[([^\[\]]*)\])?(?![(:])")

problems = []


def problem(place, what):
    problems.append(f"{place}: {what}")


def name(label):
    return " ".join(label.lower().split())


def anchors_of(text):
    """The anchors of the headings, as GitHub makes them; rustdoc makes the same."""
    anchors = set()
    for heading in re.findall(r"^#{1,6} +(.+)$", CODE.sub("", text), re.MULTILINE):
        heading = re.sub(r"\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])?", r"\1", heading).strip().lower()
        slug = anchor = re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")
        count = 0
        while anchor in anchors:
            count += 1
            anchor = f"{slug}-{count}"
        anchors.add(anchor)
    return anchors


def check_markdown(path):
    text = path.read_text(encoding="utf-8")
    place = path.relative_to(ROOT)
    prose = CODE.sub("", text)
    definitions = {name(label): target for label, target in DEFINITION.findall(prose)}
    prose = DEFINITION.sub("", prose)
    used = {name(label or shown) for shown, label in REFERENCE.findall(prose)}
    # A label may be code; brackets within code are none.
    bare = SPAN.sub("``", re.sub(r"^#.*", "", prose, flags=re.MULTILINE))
    for shown, label in REFERENCE.findall(bare):
        if (label or "`" not in shown) and name(label or shown) not in definitions:
            problem(place, f"[{label or shown}] is not defined")
    for label in definitions.keys() - used:
        problem(place, f"[{label}] is defined and not used")
    for target in [*definitions.values(), *INLINE.findall(bare)]:
        url = urllib.parse.urlsplit(target)
        if url.scheme:
            continue
        file = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
        if not file.exists():
            problem(place, f"{target}: no such file")
        elif url.fragment and url.fragment not in anchors_of(file.read_text(encoding="utf-8")):
            problem(place, f"{target}: no such heading")
    return len(definitions) + len(INLINE.findall(bare))


def check_design(path):
    """The source tree: it is listed as it is, imports go to entries above, and files that are named elsewhere exist."""
    text = path.read_text(encoding="utf-8")
    for file in re.findall(r"`((?:[\w-]+/)*[\w-]+(?:\.rs|/))`", text):
        if not any((ROOT / base / file).exists() for base in ("src", "")):
            problem("docs/DESIGN.md", f"{file}: no such file")
    tree = re.search(r"^```text\n(lib\.rs.*?)^```$", text, re.MULTILINE | re.DOTALL)
    listed, folder = [], ""
    for indent, entry in re.findall(r"^( *)([\w/.]+)", tree.group(1), re.MULTILINE):
        folder = folder if indent else entry
        listed.append(f"{folder}{entry}" if indent else entry)
    tests = re.findall(r"^#\[cfg\(test\)\]\nmod (\w+);$", (SOURCES / "lib.rs").read_text(), re.MULTILINE)
    for folder in {entry.rstrip("/").rpartition("/")[0] for entry in listed}:
        for file in (SOURCES / folder).iterdir():
            entry = str(file.relative_to(SOURCES)) + "/" * file.is_dir()
            if entry not in listed and file.stem not in tests:
                problem("docs/DESIGN.md", f"src/{entry} is not listed")
    above = []
    for entry in listed[1:]:
        if not (SOURCES / entry).exists():
            problem("docs/DESIGN.md", f"src/{entry} is listed, and does not exist")
            continue
        if "/" in entry.rstrip("/"):
            continue
        module = entry.removesuffix(".rs").rstrip("/")
        for file in [SOURCES / entry] if entry.endswith(".rs") else (SOURCES / entry).rglob("*.rs"):
            code = re.sub(r"//.*", "", file.read_text(encoding="utf-8")).split("#[cfg(test)]\nmod tests")[0]
            for imported in sorted(set(re.findall(r"\bcrate::([a-z_]+)", code)) - {module, *above}):
                problem(file.relative_to(ROOT), f"crate::{imported} is not above it in docs/DESIGN.md")
        above.append(module)


def check_examples(path):
    """Each example has one line in the list of examples."""
    rows = re.findall(r"^\| \[`(\w+)`\]\(\1\.rs\) \|", path.read_text(encoding="utf-8"), re.MULTILINE)
    for example in path.parent.glob("*.rs"):
        if rows.count(example.stem) != 1:
            problem("examples/README.md", f"{example.name} has {rows.count(example.stem)} lines")


class Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.anchors, self.links = set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if "id" in attributes:
            self.anchors.add(attributes["id"])
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])


def check_page(path):
    page = Page(path)
    for target in page.links:
        url = urllib.parse.urlsplit(target)
        if url.scheme:
            continue
        file = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
        if not file.exists():
            problem(path, f"{target}: no such page")
        elif url.fragment and not file.name.endswith(".rs.html"):
            if urllib.parse.unquote(url.fragment) not in Page(file).anchors:
                problem(path, f"{target}: no such anchor")
    return len(page.links)


listing = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True)
links = sum(check_markdown(ROOT / file) for file in listing.stdout.splitlines())
check_design(ROOT / "docs/DESIGN.md")
check_examples(ROOT / "examples/README.md")
for directory in map(pathlib.Path, sys.argv[1:]):
    pages = [directory / page.stem.lower() / "index.html" for page in (ROOT / "docs").glob("*.md")]
    links += sum(map(check_page, [directory / "index.html", *pages]))
print(*problems, f"{links} links, {len(problems)} problems", sep="\n")
sys.exit(bool(problems))
