#!/usr/bin/env python3
"""Plants each fault of src/ in turn, and looks how many seeds the simulated tests need to find it.

    tests/mutations.py              all, and writes the table into docs/MUTATIONS.md
    tests/mutations.py NAME ...     some, and prints what finds them

Ends with an error if one survives. Everything is compiled once, into a directory of its own, with
RUSTFLAGS='--cfg throng_mutations'.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "MUTATIONS.md"
# A few seeds are enough for most. The last entry is what `cargo test` runs.
PASSES = [4, 20, None]
SECONDS = 300
HEAD = """# Planted faults

`tests/mutations.py` plants one fault at a time into throng and runs the simulated tests (`tests/sim/`) with it. This table
is its output: how many seeds the first test needs that fails, counted from seed 0, and its message. A test without a
seed is a script. The faults are where `mutated!` is in `src/`.

| fault | seeds | found by | message |
|---|---|---|---|
"""


def names():
    found = set()
    for file in sorted((ROOT / "src").rglob("*.rs")):
        found |= set(re.findall(r'mutated!\(\s*"([^"]+)"', file.read_text(encoding="utf-8")))
    return sorted(found)


def build():
    env = dict(os.environ, RUSTFLAGS="--cfg throng_mutations", CARGO_TARGET_DIR=str(ROOT / "target" / "mutations"))
    command = ["cargo", "test", "-p", "throng", "--test", "sim", "--no-run", "--message-format=json"]
    output = subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = [json.loads(line) for line in output.splitlines()]
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "sim")


def run(binary, name, seeds):
    """The failures: tuples of seeds, test and message. None if the tests do not end."""
    env = dict(os.environ, THRONG_MUTATION=name, RUST_BACKTRACE="0")
    if seeds:
        env["THRONG_SEEDS"] = str(seeds)
    try:
        result = subprocess.run([binary], cwd=ROOT, env=env, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return None
    failures = []
    for test, output in re.findall(r"^---- (\S+) stdout ----\n(.*?)(?=^---- |\nfailures:)", result.stdout, re.M | re.S):
        seed = re.search(r"THRONG_SEED=(\d+)", output)
        message = re.search(r"panicked at [^\n]*\n([^\n]*)", output)
        failures.append((int(seed[1]) + 1 if seed else 0, test, message[1] if message else ""))
    if result.returncode and not failures:
        failures.append((1, "the process", "is aborted"))
    return failures


def find(binary, name):
    best = None
    for seeds in PASSES:
        failures = run(binary, name, seeds)
        if failures is None:
            return ("", "the tests", "do not end")
        if failures:
            # A script finds only what it was written for.
            best = min(failures, key=lambda failure: (failure[0] == 0, failure[0]))
            if best[0]:
                break
    return best


def main():
    binary = build()
    if failures := run(binary, "none", PASSES[0]):
        sys.exit(f"without a fault: {failures}")
    chosen = sys.argv[1:] or names()
    rows, survivors = [], []
    for name in chosen:
        found = find(binary, name)
        if not found:
            survivors.append(name)
            found = ("-", "nothing", "")
        seeds, test, message = found
        message = message.replace("|", "/").replace("`", "'")[:110].rstrip()
        rows.append(f"| {name} | {seeds or 'script'} | `{test}` | `{message}` |")
        print(rows[-1], flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} found")
    if not sys.argv[1:]:
        TABLE.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    sys.exit(bool(survivors))


main()
