# SPDX-License-Identifier: Apache-2.0
"""Plots as inline SVG, in the style of a run's report page. Colours are the page's CSS variables."""

import math
from html import escape


def svg(height, title, body):
    return f"<svg viewBox='0 0 800 {height}' role='img'><title>{escape(title)}</title>{body}</svg>"


def text(x, y, words, anchor="start"):
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'>{escape(words)}</text>"


def bars(title, rows, unit, decimals=1):
    """rows: [(label, value, "ours" | "theirs" | "plain")], drawn side by side on one axis."""
    largest = max(value for _, value, _ in rows)
    body = ""
    for i, (label, value, kind) in enumerate(rows):
        y, width = 28 * i, 440 * value / largest
        body += (text(0, y + 18, label) + f"<rect x='250' y='{y + 5}' width='{width:.1f}' height='18' class='{kind}'/>"
                 + text(256 + width, y + 18, f"{value:.{decimals}f} {unit}"))
    return svg(28 * len(rows), title, body)


def lines(title, points, x_label, series):
    """points: x values; series: [(label with unit, y values)], each on a panel of its own from 0."""
    body = ""
    width = 800 / len(series)
    left, right = min(points), max(points)
    for i, (label, values) in enumerate(series):
        top = max(values)
        x0, span = width * i + 60, width - 90

        def x(value):
            return x0 + span * ((value - left) / (right - left) if right > left else 0.5)

        def y(value):
            return 190 - 150 * value / top

        body += text(x0, 20, label) + f"<line x1='{x0}' x2='{x0 + span}' y1='190' y2='190' class='axis'/>"
        body += "<polyline class='line' points='" + " ".join(f"{x(p):.1f},{y(v):.1f}" for p, v in zip(points, values)) + "'/>"
        for p, v in zip(points, values):
            body += (f"<circle cx='{x(p):.1f}' cy='{y(v):.1f}' r='4' class='ours'/>" + text(x(p), y(v) - 9, f"{v:.0f}", "middle")
                     + text(x(p), 206, str(p), "middle"))
        body += text(x0 + span / 2, 224, x_label, "middle")
    return svg(232, title, body)


def curves(title, series, x_label, y_label):
    """series: {label: (kind, [(x, y, text)])}, each a line over one logarithmic x axis; kind: "ours" | "theirs" | "plain"."""
    points = [point for _, of in series.values() for point in of]
    left, right = (math.log(extreme(x for x, _, _ in points)) for extreme in (min, max))
    low, high = min(y for _, y, _ in points), max(y for _, y, _ in points)

    def x(value):
        return 60 + 680 * ((math.log(value) - left) / (right - left) if right > left else 0.5)

    def y(value):
        return 240 - 190 * ((value - low) / (high - low) if high > low else 0.5)

    body = text(0, 16, y_label) + "".join(text(52, y(value) + 5, f"{value:.1f}", "end") for value in (low, (low + high) / 2, high))
    for tick in (tick * 10**power for power in range(7) for tick in (1, 2, 5)):
        if math.exp(left) <= tick <= math.exp(right):
            body += text(x(tick), 274, str(tick), "middle") + f"<line x1='{x(tick):.1f}' x2='{x(tick):.1f}' y1='252' y2='256' class='axis'/>"
    body += "<line x1='60' x2='740' y1='256' y2='256' class='axis'/>" + text(400, 294, x_label, "middle")
    for number, (label, (kind, of)) in enumerate(series.items()):
        body += f"<rect x='{420 + 180 * number}' y='4' width='12' height='12' class='{kind}'/>" + text(440 + 180 * number, 16, label)
        body += "<polyline class='line' points='" + " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b, _ in of) + "'/>"
        for a, b, words in of:
            body += f"<circle cx='{x(a):.1f}' cy='{y(b):.1f}' r='4' class='{kind}'/>" + text(x(a), y(b) - 9, words, "middle")
    return svg(300, title, body)
