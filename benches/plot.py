#!/usr/bin/env python3
"""Draws benches/scale.json as docs/scale.svg: `benches/counts.py scale` does that, or this script by itself.

The same in the form of a URI, docs/scale.uri, is for the pages of rustdoc, which have no files beside them.
"""

import json
import math
from pathlib import Path
from urllib.parse import quote

WIDTH, HEIGHT = 660, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 120, 44, 44
# Both readable on white and on black.
INK = "#7d8590"
LINES = {"one sends": ("#3b82f6", "one sends"), "1 % send": ("#e07b39", "1 % send"), "heap": ("#2f9e6e", "bytes")}


def draw(figures, to):
    rows = json.loads(Path(figures).read_text())["rows"]
    top = max(row[key] for row in rows for key in LINES)
    step = 10 ** int(math.log10(top)) / 2
    top = step * math.ceil(top / step)
    decades = [math.log10(row["connections"]) for row in rows]

    def x(connections):
        share = (math.log10(connections) - decades[0]) / (decades[-1] - decades[0])
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(value):
        return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    def text(at_x, at_y, words, anchor="middle", color=INK):
        return f'<text x="{at_x:.0f}" y="{at_y:.0f}" text-anchor="{anchor}" fill="{color}">{words}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" font-family="sans-serif" font-size="13">',
        "<title>Instructions per event and heap per connection, by the number of connections</title>",
        text(LEFT, 20, "instructions per event, bytes of heap per connection", "start"),
    ]
    for number in range(round(top / step) + 1):
        value = number * step
        parts.append(f'<path d="M{LEFT} {y(value):.0f}H{WIDTH - RIGHT}" stroke="{INK}" stroke-opacity="0.3"/>')
        parts.append(text(LEFT - 8, y(value) + 4, f"{value:,.0f}", "end"))
    for row in rows:
        parts.append(text(x(row["connections"]), HEIGHT - BOTTOM + 20, f"{row['connections']:,}"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "connections"))
    for key, (color, words) in LINES.items():
        points = [(x(row["connections"]), y(row[key])) for row in rows]
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{color}"/>' for a, b in points]
        above = 18 if key == "heap" else -9
        parts += [text(a, b + above, f"{row[key]:,}", color=color) for row, (a, b) in zip(rows, points)]
        parts.append(text(points[-1][0] + 28, points[-1][1] + (12 if key == "heap" else 4), words, "start", color))
    svg = "\n".join([*parts, "</svg>", ""])
    Path(to).write_text(svg)
    Path(to).with_suffix(".uri").write_text(quote(svg, safe="/:,;=!*@$'"))


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    draw(here / "scale.json", here.parent / "docs/scale.svg")
