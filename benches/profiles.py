"""What the crate itself costs, in profiles of valgrind that also contain the simulated network.

An instruction belongs to the crate if its line is in src/, outside of src/sim/ and src/socket/sim/. That holds for inlined
functions too, because valgrind knows the file of each line. What other code, such as the standard library, the allocator
and dependencies, costs belongs to its caller. A block of the heap belongs to the innermost function of the crate, or of the
simulated network, that was running when it was allocated.
"""

import json
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CRATE, SIMULATION, OUTSIDE, OTHER = "crate", "simulation", "outside", "other"


def of_function(name):
    if re.search(r"\bthrong::(socket::)?sim\b", name):
        return SIMULATION
    if re.search(r"\bthrong::", name):
        return CRATE
    return OUTSIDE if re.search(r"\bscale::", name) else OTHER


def of_line(file, function):
    file = file.removeprefix(f"{ROOT}/")
    if file.startswith(("src/sim/", "src/socket/sim/")):
        return SIMULATION
    if file.startswith("src/"):
        return CRATE
    if file.startswith("benches/"):
        return OUTSIDE
    return of_function(function)


def instructions(profile):
    """The instructions of the crate in a profile of callgrind."""
    names, total = {}, 0
    file = function = called = None
    is_call = False

    def named(kind, text):
        number, _, name = text.partition(" ")
        if name:
            names[kind, number] = name
        return names[kind, number]

    for line in profile.read_text().splitlines():
        key, _, value = line.partition("=")
        if key in ("fl", "fi", "fe"):
            file = named("file", value)
        elif key in ("cfi", "cfl"):
            named("file", value)
        elif key == "fn":
            function = named("function", value)
        elif key == "cfn":
            called = named("function", value)
        elif key == "calls":
            is_call = True
        elif line[:1] in tuple("+-*0123456789"):
            if of_line(file, function) == CRATE and (not is_call or of_function(called) == OTHER):
                total += int(line.split()[1])
            is_call = False
    return total


def heap(profile):
    """The bytes of the heap that belong to each, in a profile of DHAT, at the end of the program."""
    profile = json.loads(profile.read_text())
    owned = Counter()
    for place in profile["pps"]:
        owners = (of_function(profile["ftbl"][frame]) for frame in place["fs"])
        owned[next((owner for owner in owners if owner != OTHER), OTHER)] += place["eb"]
    return owned
