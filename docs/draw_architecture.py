#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws docs/architecture.svg: python3 docs/draw_architecture.py"""
import pathlib
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 1000, 520
INK, TRUSTED, UNTRUSTED, LINE = "#1f2933", "#e3f2e6", "#f7e9e3", "#52606d"
parts = []


def box(x, y, w, h, title, lines, fill="#ffffff", dashed=False):
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    parts.append(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="8" fill="{fill}" '
                 f'stroke="{LINE}" stroke-width="1.4"{dash}/>')
    parts.append(f'<text x="{x + 12}" y="{y + 22}" font-weight="bold">{escape(title)}</text>')
    for i, line in enumerate(lines):
        parts.append(f'<text x="{x + 12}" y="{y + 42 + 18 * i}" font-size="13">{escape(line)}</text>')


def arrow(x1, y1, x2, y2, label, above=True, both=False):
    start = ' marker-start="url(#tip)"' if both else ""
    parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{INK}" '
                 f'stroke-width="1.6" marker-end="url(#tip)"{start}/>')
    y = (y1 + y2) / 2 + (-7 if above else 17)
    parts.append(f'<text x="{(x1 + x2) / 2}" y="{y}" font-size="12" '
                 f'text-anchor="middle">{escape(label)}</text>')


box(20, 20, 560, 480, "untrusted: may lie, crash or look", [], UNTRUSTED)
box(640, 20, 340, 480, "trusted process (the TCB)", [], TRUSTED)

box(40, 60, 220, 86, "slalom (command line)", ["prepares pictures", "reads plans, prints answers"])
box(40, 200, 220, 86, "device worker", ["linear layers only:", "Y = W x mod p, or on codes"])
box(40, 316, 220, 68, "pad store", ["sealed unblinding factors"])
box(320, 200, 230, 86, "shared memory", ["two rings of descriptors,", "tensor slots"], dashed=True)
box(40, 424, 220, 60, "importer", ["ONNX to plan, offline"])

box(660, 60, 300, 68, "session, model", ["strict decoder, recomputes every bound"])
box(660, 140, 300, 68, "runtime", ["order of calls, all non-linear operators"])
box(660, 220, 300, 68, "field", ["check, blind, unblind: exact mod p"])
box(660, 300, 300, 68, "vault", ["one-time pads, never used twice"])
box(660, 380, 300, 68, "linear", ["exact int8 layers that stay inside, pads"])
parts.append('<text x="660" y="478" font-size="13">one verdict at the end: everything or nothing</text>')

arrow(260, 90, 660, 90, "plan, input codes; answers after the verdict", both=True)
arrow(260, 243, 320, 243, "", both=True)
arrow(660, 230, 550, 230, "x + r")
arrow(550, 256, 660, 256, "y + u", above=False)
arrow(260, 345, 660, 345, "u = W r, sealed (AES-256-GCM)", both=True)
parts.append(f'<path d="M 260 454 L 300 454 L 300 120 L 260 120" fill="none" stroke="{INK}" '
             f'stroke-width="1.6" marker-end="url(#tip)"/>')
parts.append('<text x="308" y="448" font-size="12">plan file (SHA-256)</text>')

svg = f'''<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"
     height="{HEIGHT}" font-family="Helvetica, Arial, sans-serif" font-size="15" fill="{INK}">
<title>Slalom: who does what, and what crosses the border</title>
<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"
  orient="auto-start-reverse"><path d="M 0 0 L 10 5 L 0 10 z" fill="{INK}"/></marker></defs>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
'''
svg += "\n".join(parts) + "\n</svg>\n"
(pathlib.Path(__file__).parent / "architecture.svg").write_text(svg)
