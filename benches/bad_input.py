#!/usr/bin/env python3
"""What a peer costs that is refused, and what one costs that sends what no peer may send: user-space instructions
(valgrind's callgrind), system calls (strace), allocations and the memory held meanwhile.

    benches/bad_input.py            all kinds of peers
    benches/bad_input.py WORD...    those whose names contain one of the words

Each figure is for one of 32 peers that come at once, and a difference between two runs, a short and a long one.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

PROGRAM = Path(__file__).parent.parent / "target/release/bad_input"
FEW, MANY = 3, 13  # rounds
MARK = "getppid"


def program(kind, rounds, *observer):
    output = subprocess.run([*observer, PROGRAM, kind, str(rounds)], capture_output=True, text=True, check=True, timeout=100)
    return json.loads(output.stdout)


def instructions(kind, rounds, log):
    counted = ["--collect-atstart=no", "--toggle-collect=*measured_turns*", "--callgrind-out-file=/dev/null"]
    program(kind, rounds, "valgrind", "--tool=callgrind", *counted, f"--log-file={log}")
    return int(re.search(r"Collected : (\d+)", log.read_text())[1])


def calls(kind, rounds, log):
    """How often each system call was made between two marks."""
    program(kind, rounds, "strace", "-o", log)
    made, is_counted = Counter(), False
    for name in re.findall(r"^(\w+)\(", log.read_text(), re.MULTILINE):
        if name == MARK:
            is_counted = not is_counted
        elif is_counted:
            made[name] += 1
    return made


def row(kind):
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "log")
        few, many = program(kind, FEW), program(kind, MANY)
        peers = (MANY - FEW) * few["batch"]
        each = lambda count: (count(kind, MANY, log) - count(kind, FEW, log)) / peers
        counted = each(instructions)
        before, after = calls(kind, FEW, log), calls(kind, MANY, log)
    made = {name: (after[name] - before[name]) / peers for name in after}
    allocations = (many["allocations"] - few["allocations"]) / peers
    return counted, allocations, many["peak"] / many["batch"], made


def main(words):
    subprocess.run(["cargo", "build", "--release", "-p", "throng-bench", "--features", "tls", "--bin", "bad_input"], check=True)
    output = subprocess.run([PROGRAM], capture_output=True, text=True, check=True).stdout
    print(f"{'':<56}{'instructions':>12}{'allocations':>12}{'bytes held':>11}   system calls")
    for line in output.splitlines():
        group, kind = line.split("|")
        if words and not any(word in kind for word in words):
            continue
        counted, allocations, held, made = row(kind)
        shown = ", ".join(f"{name} {n:.2f}" for name, n in sorted(made.items()) if n >= 0.1)
        total = sum(made.values())
        print(f"{group + ': ' + kind:<56}{counted:>12,.0f}{allocations:>12.2f}{held:>11,.0f}   {total:.2f}: {shown}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
