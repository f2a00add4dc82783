#!/usr/bin/env python3
"""Counts that do not drift: user-space instructions and allocations (valgrind's callgrind), system calls (strace).

    cargo build --release
    benches/counts.py --check     the steady state, compared with benches/counts.json: fails if a count has grown by more than 3 %
    benches/counts.py --record    the same, written to that file
    benches/counts.py systems     for a frame, by each server that `compare` measures, small frames and large ones
    benches/counts.py drivers     for a frame, by each way to drive the loop
    benches/counts.py idle        for a turn, beside 1,000 and 18,000 idle connections that have deadlines
    benches/counts.py timers      to set, to cancel and to expire one of a million timers
    benches/counts.py scale       for an event and for a connection, with 1,000 to 1,000,000 connections in a simulated network;
                                  written to benches/scale.json and drawn in docs/scale.svg; takes ten minutes
    benches/counts.py --check-scale   the same for an event, with 1,000 and 10,000: fails if it has grown by more than 10 %

Each figure but those of `scale` is a difference between two runs, a short and a long one, so that starting, connecting and
ending are not in it.
What valgrind or strace counts is left out, with a line that says so, where it is missing.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import plot
import profiles

PROGRAMS = Path(__file__).parent.parent / "target/release"
TOOL = PROGRAMS / "throng-bench"
STEADY = PROGRAMS / "steady"
SCALE = PROGRAMS / "scale"
SHORT, LONG = 1, 4  # seconds of load
DRIVERS = ["run", "turn", "outer", "attached"]
SYSTEMS = {"raw epoll": ["yardstick"], "throng": ["serve"]}
PEERS = ["tokio-codec", "tokio-batched", "tokio-by-hand", "mio-by-hand", "message-io"]
CELLS = ["50_1_64", "50_32_64", "50_16_4096", "100_4_65536", "4_2_1048576"]

RECORDED = Path(__file__).with_suffix(".json")
SCALED = RECORDED.with_name("scale.json")
DRAWN = Path(__file__).parent.parent / "docs/scale.svg"
SCENARIOS = ["echo-1", "echo-32", "echo-large", "broadcast"]
FEW, MANY = 20, 60  # rounds
GROWTH = 1.03

SIZES = [1_000, 10_000, 100_000, 1_000_000]  # connections
EVENTS = 1_000  # of each kind, at least
FLAT = 1.1
# Less than this for a frame is once in a while, not in the steady state.
NEVER = 0.001
ALLOCATES = r"(?:malloc|calloc|realloc|posix_memalign|aligned_alloc)"


def callgrind(words, log):
    return ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={log}", *words]


def strace(words, log):
    # As its grandchild, so that a signal reaches the server.
    return ["strace", "-D", "-f", "-c", "-o", str(log), *words]


def instructions(log):
    return int(re.search(r"Collected : (\d+)", log.read_text())[1])


def calls(log):
    """How often each system call was made."""
    rows = [line.split() for line in log.read_text().splitlines()]
    return {row[-1]: int(row[3]) for row in rows if len(row) >= 5 and row[3].isdigit() and row[-1] != "total"}


def observe(observed, words, load):
    """Runs a server while a load lasts. Returns what was counted, and how many frames came back."""
    with tempfile.TemporaryDirectory() as directory:
        log, figures = Path(directory, "log"), Path(directory, "figures")
        words = [str(TOOL), *words, "--addr", "127.0.0.1:0"]
        server = subprocess.Popen(observed(words, log), stdout=subprocess.PIPE, text=True)
        try:
            addr = server.stdout.readline().split()[-1]
            load = [TOOL, "load", "--addr", addr, "--json", str(figures), *load]
            subprocess.run(load, stdout=subprocess.DEVNULL, check=True)
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=60)
        # The grandchild may end a moment after the server.
        while not log.exists() or not log.read_text():
            pass
        read = instructions if observed is callgrind else calls
        return read(log), json.loads(figures.read_text())["load"]["frames"]


def serve(observed, options, load):
    """The same with this crate's server. Returns what was counted, and the server's own figures."""
    with tempfile.TemporaryDirectory() as directory:
        figures = Path(directory, "figures")
        counted, _ = observe(observed, ["serve", "--json", str(figures), *options], load)
        return counted, json.loads(figures.read_text())


def allocations(profile):
    """How often memory was asked for: the calls of these functions in a profile of callgrind."""
    text = profile.read_text()
    ids = re.findall(rf"^c?fn=(\(\d+\)) {ALLOCATES}$", text, re.MULTILINE)
    each = [re.findall(rf"^cfn={re.escape(id)}.*\ncalls=(\d+)", text, re.MULTILINE) for id in ids]
    return sum(int(calls) for found in each for calls in found)


def steady(scenario, rounds):
    """How many frames the loop sends in so many rounds, and what it does for that."""
    words = [str(STEADY), scenario, str(rounds)]
    figures = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    seen = {}
    with tempfile.TemporaryDirectory() as directory:
        log, profile = Path(directory, "log"), Path(directory, "profile")
        if shutil.which("valgrind"):
            counted = ["--collect-atstart=no", "--toggle-collect=*measured_turns*", f"--callgrind-out-file={profile}"]
            valgrind = ["valgrind", "--tool=callgrind", *counted, f"--log-file={log}", *words]
            # Valgrind counts each byte that `rep movsb` copies. Whether the C library uses it depends on the processor.
            env = os.environ | {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-ERMS,-FSRM"}
            subprocess.run(valgrind, stdout=subprocess.DEVNULL, check=True, env=env)
            seen |= {"instructions": instructions(log), "allocations": allocations(profile)}
        if shutil.which("strace"):
            strace = ["strace", "-f", "-c", "-o", str(log), *words]
            subprocess.run(strace, stdout=subprocess.DEVNULL, check=True)
            seen["system calls"] = sum(calls(log).values()) - figures["client_calls"]
    return figures["frames"], seen


def for_a_frame(scenario):
    (few, less), (many, more) = steady(scenario, FEW), steady(scenario, MANY)
    if more.get("instructions") == 0:
        sys.exit("callgrind does not find measured_turns in the program")
    return {count: round((more[count] - less[count]) / (many - few), 4) for count in more}


def compiler():
    return subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()


def record():
    if not (shutil.which("valgrind") and shutil.which("strace")):
        sys.exit("valgrind and strace are needed to record counts")
    counts = {scenario: for_a_frame(scenario) for scenario in SCENARIOS}
    RECORDED.write_text(json.dumps({"compiler": compiler(), "for a frame": counts}, indent=4) + "\n")
    print(RECORDED.read_text(), end="")


def check():
    """Compares what a frame costs with what was recorded."""
    for tool, what in [("valgrind", "instructions and allocations"), ("strace", "system calls")]:
        if not shutil.which(tool):
            print(f"skipped: {what} of the steady state ({tool} is missing)")
    recorded = json.loads(RECORDED.read_text())
    is_comparable = recorded["compiler"] == compiler()
    if not is_comparable:
        print(f"skipped: instructions of the steady state (recorded with {recorded['compiler']})")
    grown = shrunk = False
    for scenario in SCENARIOS:
        for count, now in for_a_frame(scenario).items():
            before = recorded["for a frame"][scenario][count]
            verdict = ""
            if count != "instructions" or is_comparable:
                if now > max(before * GROWTH, NEVER):
                    grown, verdict = True, "  GROWN"
                elif before > max(now * GROWTH, NEVER):
                    shrunk, verdict = True, "  less"
            print(f"{scenario:<11}{count:<13}{now:>11,.3f}  recorded {before:>11,.3f}{verdict}", flush=True)
    if shrunk:
        print("what has become less is to be recorded: benches/counts.py --record")
    if grown:
        sys.exit("a count has grown by more than 3 %; if that is intended: benches/counts.py --record")


def systems():
    """The peers take part if the tool was built with them."""
    has_peers = subprocess.run([TOOL, "peer", "--help"], capture_output=True).returncode == 0
    servers = SYSTEMS | {name: ["peer", name] for name in PEERS if has_peers}
    print(f"{'cell':>14} {'system':>14} {'instructions':>13}   system calls for a frame")
    for cell in CELLS:
        connections, pipeline, size = cell.split("_")
        load = ["--connections", connections, "--pipeline", pipeline, "--size", size, "--seconds"]
        for name, words in servers.items():
            short, long = ([observe(it, words, [*load, str(time)]) for it in [callgrind, strace]] for time in [SHORT, LONG])
            count = (long[0][0] - short[0][0]) / (long[0][1] - short[0][1])
            (few, less), (many, more) = short[1], long[1]
            each = {call: (many[call] - few.get(call, 0)) / (more - less) for call in many}
            shown = ", ".join(f"{call} {n:.3f}" for call, n in sorted(each.items()) if n >= 0.001)
            print(f"{cell:>14} {name:>14} {count:>13.1f}   {sum(each.values()):.3f}: {shown}", flush=True)


def drivers():
    print(f"{'in flight':>9} {'driver':>9} {'instructions':>13} {'to run':>7}   system calls for a frame")
    for pipeline in ["1", "32"]:
        of_run = None
        for driver in DRIVERS:
            load = ["--connections", "50", "--pipeline", pipeline, "--seconds"]
            counted, made = {}, {}
            for seconds in [SHORT, LONG]:
                words = ["--driver", driver], [*load, str(seconds)]
                count, figures = serve(callgrind, *words)
                counted[seconds] = count, figures["frames_received"]
                made[seconds] = serve(strace, *words)
            count = (counted[LONG][0] - counted[SHORT][0]) / (counted[LONG][1] - counted[SHORT][1])
            of_run = of_run or count
            (short, few), (long, many) = made[SHORT], made[LONG]
            frames = many["frames_received"] - few["frames_received"]
            each = {name: (long[name] - short.get(name, 0)) / frames for name in long}
            shown = ", ".join(f"{name} {n:.4f}" for name, n in sorted(each.items()) if n >= 0.0001)
            print(
                f"{pipeline:>9} {driver:>9} {count:>13.1f} {count / of_run:>7.3f}   {sum(each.values()):.4f}: {shown}",
                flush=True,
            )


def idle():
    """Frames at a fixed, low rate: nearly all connections are idle, and a turn serves the same few."""
    for connections in [1_000, 18_000]:
        # Those of the server want to be idle for no longer than an hour.
        load = ["--connections", str(connections), "--rate", "1000", "--seconds"]
        (few, short), (many, long) = (
            serve(callgrind, ["--idle-timeout", "3600"], [*load, str(seconds)]) for seconds in [SHORT, 4 * LONG]
        )
        turns = long["turns"] - short["turns"]
        frames = long["frames_received"] - short["frames_received"]
        print(
            f"{connections:>7,} connections: {(many - few) / turns:,.0f} instructions a turn,"
            f" {(many - few) / frames:,.0f} a frame; {frames / turns:.2f} frames a turn",
            flush=True,
        )


def timers(count=1_000_000):
    def run(phase, count):
        with tempfile.TemporaryDirectory() as directory:
            log = Path(directory, "log")
            words = [str(TOOL), "timers", "--count", str(count), "--phase", phase]
            subprocess.run(callgrind(words, log), stdout=subprocess.DEVNULL, check=True)
            return instructions(log)

    none = run("insert", 0)
    insert, cancel, expire = (run(phase, count) for phase in ["insert", "cancel", "expire"])
    print(f"{count:,} timers, instructions each:")
    print(f"insert {(insert - none) / count:.0f}")
    print(f"cancel {(cancel - insert) / count:.0f}")
    print(f"expire {(expire - insert) / count:.0f}, with the turns in which they do and the moves between wheels")


def scale_profile(directory, tool, connections, events):
    """Runs the program under valgrind. Returns how many events there were, and the profile."""
    profile = Path(directory, "profile")
    words = ["valgrind", *tool, str(SCALE), str(connections), str(events)]
    words[2:2] = [f"--{words[1].split('=')[1]}-out-file={profile}"]
    output = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return json.loads(output), profile


def scale_heap(connections):
    with tempfile.TemporaryDirectory() as directory:
        # Enough callers to find the one that is not of the standard library.
        _, profile = scale_profile(directory, ["--tool=dhat", "--num-callers=40"], connections, 0)
        return profiles.heap(profile)[profiles.CRATE]


def scale_row(size):
    """Only turns of the loop are counted. There is a profile of the time before each kind of event, and one of the rest."""
    with tempfile.TemporaryDirectory() as directory:
        counted = ["--toggle-collect=*Drive>::turn*", "--dump-before=scale::rounds*"]
        (few, many), rest = scale_profile(directory, ["--tool=callgrind", *counted], size, EVENTS)
        profiled = [rest.with_suffix(".1"), rest.with_suffix(".2"), rest]
        accepting, one_sends, some_send = map(profiles.instructions, profiled)
    if not (accepting and one_sends and some_send):
        sys.exit("callgrind does not find the turns of the loop in the program")
    row = {"one sends": one_sends / few, "1 % send": some_send / many, "to accept": accepting / size}
    return {"connections": size} | {key: round(value) for key, value in row.items()}


def build_scale():
    subprocess.run(["cargo", "build", "--release", "-p", "throng-bench", "--features", "sim", "--bin", "scale"], check=True)


def check_scale():
    """Fails if events cost more the more connections there are."""
    if not shutil.which("valgrind"):
        return print("skipped: instructions beside many connections (valgrind is missing)")
    build_scale()
    few, many = map(scale_row, SIZES[:2])
    for events in ["one sends", "1 % send"]:
        print(f"{events:<11}{few[events]:,} instructions with {few['connections']:,} connections, {many[events]:,} with ten times as many")
        if many[events] > few[events] * FLAT:
            sys.exit("an event costs more the more connections there are")


def scale():
    build_scale()
    rows, alone = [], scale_heap(1)
    print(f"{'connections':>11} {'one sends':>10} {'1 % send':>10} {'to accept':>10}   heap for a connection")
    for size in SIZES:
        rows.append(scale_row(size) | {"heap": round((scale_heap(size) - alone) / size)})
        print("{:>11,} {:>10,} {:>10,} {:>10,}   {:,}".format(*rows[-1].values()), flush=True)
    SCALED.write_text(json.dumps({"compiler": compiler(), "rows": rows}, indent=4) + "\n")
    plot.draw(SCALED, DRAWN)


if __name__ == "__main__":
    jobs = {"--check": check, "--record": record, "systems": systems, "drivers": drivers, "idle": idle, "timers": timers}
    jobs |= {"scale": scale, "--check-scale": check_scale}
    if len(sys.argv) != 2 or sys.argv[1] not in jobs:
        sys.exit(__doc__.strip())
    jobs[sys.argv[1]]()
