"""Throughput and latency over queue depth, as one SVG for each case."""

import math
from xml.sax.saxutils import escape

COLOURS = {
    "null-dev_fuse": "#9e9e9e", "null-io_uring": "#5f5f5f",
    "pcachefs-dev_fuse": "#1f77b4", "pcachefs-io_uring": "#0b3d91",
    "qemu": "#ff7f0e", "nbdkit": "#d62728", "raw": "#2ca02c",
    "buffered": "#98df8a",
}
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 430, 300, 62, 34, 40


def curves(results, medium, name):
    """{contender: [(depth, median)]} of the points that have a depth."""
    lines = {}
    for key, median in results.medians().items():
        point = results.points[key[1], key[2]]
        if key[:2] == (medium, name) and point.depth and "mean_us" in median:
            lines.setdefault(key[3], []).append((point.depth, median))
    return {contender: sorted(points, key=lambda p: p[0])
            for contender, points in lines.items()}


def has_curves(lines):
    """Several depths, and at each one thing that was measured."""
    return any(len(points) > 1 and len({depth for depth, _ in points})
               == len(points) for points in lines.values())


def svg(title, lines):
    """Both panels, and a legend below."""
    throughput = {c: [(d, m["iops"]) for d, m in points]
                  for c, points in lines.items()}
    latency = {c: [(d, m["p99_us"]) for d, m in points if "p99_us" in m]
               for c, points in lines.items()}
    rows = math.ceil(len(lines) / 4)
    total = HEIGHT + 24 + 18 * rows
    return "\n".join([
        '<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" '
        'font-family="sans-serif" font-size="11">' % (2 * WIDTH, total),
        '<rect width="100%" height="100%" fill="white"/>',
        text(WIDTH, 16, title, "middle", 13),
        panel(0, "operations per second", throughput, from_zero=True),
        panel(WIDTH, "99th percentile of latency, us", latency,
              from_zero=False),
        legend(list(lines)), "</svg>", ""])


def text(x, y, words, anchor="start", size=11):
    return '<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d">%s</text>' % (
        x, y, anchor, size, escape(words))


def panel(x, name, lines, from_zero):
    """Depth on a scale of powers of two; values from zero, or of ten."""
    points = [p for curve in lines.values() for p in curve]
    if not points:
        return ""
    depths = sorted({depth for depth, _ in points})
    top = max(value for _, value in points)
    bottom = min(value for _, value in points)
    right, base = x + WIDTH - 14, HEIGHT - BOTTOM

    def across(depth):
        span = math.log2(depths[-1] / depths[0]) or 1
        return x + LEFT + 10 + (right - x - LEFT - 20) * math.log2(
            depth / depths[0]) / span

    def up(value):
        if from_zero:
            share = value / (top * 1.05)
        else:
            low, high = math.floor(math.log10(bottom)), math.ceil(
                math.log10(top) + 1e-9)
            share = (math.log10(value) - low) / max(1, high - low)
        return base - (base - TOP - 10) * share

    parts = [text(x + LEFT, TOP, name),
             '<path d="M%d %dV%dH%d" fill="none" stroke="black"/>' % (
                 x + LEFT, TOP + 8, base, right)]
    for value in ticks(bottom, top, from_zero):
        parts.append('<path d="M%d %.1fH%d" stroke="#dddddd"/>' % (
            x + LEFT, up(value), right))
        parts.append(text(x + LEFT - 5, up(value) + 4, short(value), "end"))
    for depth in depths:
        parts.append(text(across(depth), base + 15, str(depth), "middle"))
    parts.append(text((x + LEFT + right) / 2, base + 30, "queue depth",
                      "middle"))
    for contender, curve in lines.items():
        colour = COLOURS.get(contender, "black")
        path = " ".join("%.1f,%.1f" % (across(d), up(v)) for d, v in curve)
        dashes = ' stroke-dasharray="5 3"' if "uring" in contender else ""
        parts.append('<polyline points="%s" fill="none" stroke="%s" '
                     'stroke-width="2"%s/>' % (path, colour, dashes))
        parts += ['<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>' % (
            across(d), up(v), colour) for d, v in curve]
    return "\n".join(parts)


def ticks(bottom, top, from_zero):
    if not from_zero:
        return [10.0**e for e in range(math.floor(math.log10(bottom)),
                                       math.ceil(math.log10(top) + 1e-9) + 1)]
    step = 10 ** math.floor(math.log10(top))
    for part in (0.1, 0.2, 0.5, 1):
        if top / (step * part) <= 8:
            step *= part
            break
    return [step * i for i in range(int(top / step) + 1)]


def short(value):
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return "%g%s" % (round(value / limit, 2), letter)
    return "%g" % round(value, 3)


def legend(contenders):
    parts = []
    for i, contender in enumerate(contenders):
        x, y = 30 + i % 4 * 205, HEIGHT + 14 + i // 4 * 18
        dashes = ' stroke-dasharray="5 3"' if "uring" in contender else ""
        parts.append('<path d="M%d %dh28" stroke="%s" stroke-width="2"%s/>' % (
            x, y, COLOURS.get(contender, "black"), dashes))
        parts.append(text(x + 34, y + 4, contender))
    return "\n".join(parts)
