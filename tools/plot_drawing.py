# SPDX-License-Identifier: Apache-2.0
"""The plots of tools/plots.py, drawn with matplotlib: rates in every mode, by threads, and the time of one image."""
import collections
import textwrap

from plot_rows import cases, ceiling, name_of, number, place, threads_text, times

MARKERS = {"batched": "s", "plain": "v", "split": "D"}
INK, FAINT, GRID = "#1f2933", "#616e7c", "#e4e7eb"


def colour(row):
    if row.group == "gpu":
        return "#d9b44a"
    if row.group == "peer":
        return {"int8": "#7b8794", "bf16": "#a3adb8"}.get(row.precision, "#c9d0d7")
    if row.group == "inside":
        return "#2b7bba" if row.precision == "int8" else "#9fc5e8"
    if "private" in row.label:
        return "#c4572e" if "verified" in row.label else "#8e5bb5"
    return "#2e9e6b" if "verified" in row.label else "#9ad0b5"


class Drawing:
    def __init__(self, folder, machines):
        import matplotlib
        matplotlib.use("svg")
        from matplotlib import pyplot
        matplotlib.rcParams.update({
            "svg.hashsalt": "slalom", "svg.fonttype": "none", "font.size": 9, "text.color": INK,
            "font.family": ["DejaVu Sans"], "axes.edgecolor": FAINT, "axes.labelcolor": INK,
            "xtick.color": FAINT, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
            "figure.facecolor": "white", "axes.facecolor": "white", "legend.frameon": False})
        self.pyplot, self.folder, self.machines, self.written = pyplot, folder, machines, []

    def on(self, machine):
        return f"({self.machines.get(machine) or machine + ' machine'})"

    def save(self, figure, name):
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        self.pyplot.close(figure)
        # A reader without this font gets one of the same widths.
        text = path.read_text().replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
        path.write_text("".join(line.rstrip() + "\n" for line in text.splitlines()))
        self.written.append(path)

    def bars(self, machine, model, mine, top):
        """One panel for each number of threads; a bar for each engine and mode."""
        height = max(len(c.rows) for c in mine.values())
        figure, axes = self.pyplot.subplots(1, len(mine), squeeze=False,
                                            figsize=(max(7.5, 5.2 * len(mine)), 1.3 + 0.27 * height),
                                            layout="constrained")
        for axis, (threads, case) in zip(axes[0], mine.items()):
            self.panel(axis, case)
            title = threads_text(threads)
            if case.baseline:
                title += f"\ndashed: the strongest inside, {name_of(case.baseline)}"
            axis.set_title(title, fontsize=9, loc="left")
        title = f"{model}, images/s {self.on(machine)}"
        if top:
            title += f"; {top.label}, nothing protected: {number(top.rate)}"
        self.headline(figure, title)
        self.save(figure, f"{machine}-{model}")

    @staticmethod
    def headline(figure, text):
        """Some 11 characters of this size fill an inch."""
        figure.suptitle(textwrap.fill(text, int(11 * figure.get_figwidth())), fontsize=11, x=0.01, ha="left")

    def panel(self, axis, case):
        rows = case.rows
        longest = max(r.rate for r in rows)
        for y, row in enumerate(rows):
            axis.barh(y, row.rate, color=colour(row), height=0.72, zorder=2)
            if row.amortised:
                axis.barh(y, row.rate - row.amortised, left=row.amortised, color="white", alpha=0.55,
                          height=0.72, zorder=3)
            if row.spread:
                axis.plot(row.spread, (y, y), color=INK, linewidth=1, zorder=4)
            text = number(row.rate)
            if row.amortised:
                text += f" ({number(row.amortised)} with pads)"
            ratio = case.ratio(row)
            strong = row.group == "split" and ratio is not None
            if strong:
                text += f"  {ratio:.2f}x"
                if case.fp32:
                    text += f", {times(row, case.fp32):.1f}x fp32"
            end = max(row.rate, row.spread[1] if row.spread else 0)
            axis.text(end + 0.012 * longest, y, text, va="center", fontsize=8, zorder=5,
                      fontweight="bold" if strong and ratio >= 1 else "normal",
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8})
        axis.set_yticks(range(len(rows)), [name_of(r) for r in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_xlim(0, 2.0 * longest)
        axis.xaxis.grid(True, color=GRID, zorder=0)
        axis.set_axisbelow(True)
        axis.tick_params(axis="y", length=0)
        axis.set_xlabel("images/s; bold: beats the dashed line, by so much" if case.baseline else "images/s")
        if case.baseline:
            axis.axvline(case.baseline.rate, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=3)

    def scaling(self, machine, models):
        """Rates over trusted threads, a panel for each network; only where there are several counts."""
        figure, axes = self.pyplot.subplots(1, len(models), squeeze=False, layout="constrained",
                                            figsize=(max(6, 4.4 * len(models)), 4.2))
        seen = {}
        for axis, (model, mine) in zip(axes[0], models.items()):
            lines = collections.defaultdict(list)
            for threads, case in mine.items():
                for row in case.rows:
                    if row.group != "peer":
                        lines[name_of(row), colour(row), "-"].append((threads, row.rate))
                peers = [r for r in case.rows if r.group == "peer"]
                for precision in ("fp32", "int8"):
                    some = [r.rate for r in peers if r.precision == precision]
                    if some:
                        shade = "#7b8794" if precision == "int8" else "#c9d0d7"
                        lines[f"best peer, {precision}", shade, "--"].append((threads, max(some)))
            for (label, shade, style), points in lines.items():
                marker = next((m for word, m in MARKERS.items() if word in label), "o")
                line, = axis.plot(*zip(*sorted(points)), marker=marker, markersize=4.5, color=shade,
                                  linestyle=style, label=label)
                seen.setdefault(label, line)
            ticks = sorted(mine)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            axis.set_xticks(ticks, [str(t) for t in ticks])
            axis.minorticks_off()
            low, high = axis.get_ylim()
            marks = [m * 10 ** e for e in range(-1, 6) for m in (1, 2, 5) if low <= m * 10 ** e <= high]
            axis.set_yticks(marks, [f"{m:,g}" for m in marks])
            axis.grid(True, color=GRID)
            axis.set_title(model, fontsize=10, loc="left")
            axis.set_xlabel("trusted threads")
        axes[0][0].set_ylabel("images/s")
        self.headline(figure, f"Rates over trusted threads {self.on(machine)}")
        figure.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=4, fontsize=8)
        self.save(figure, f"{machine}-threads")

    def latency(self, machine, models):
        """One image at a time: p50 as a dot, a line to p99; the number of threads that is fastest."""
        height = max(len(rows) for rows in models.values())
        figure, axes = self.pyplot.subplots(1, len(models), squeeze=False, layout="constrained",
                                            figsize=(max(6, 4.8 * len(models)), 1.4 + 0.27 * height))
        for axis, (model, rows) in zip(axes[0], models.items()):
            for y, row in enumerate(rows):
                axis.plot(row.latency, (y, y), color=colour(row), linewidth=2.2, zorder=2)
                axis.plot(row.latency[0], y, "o", color=colour(row), markersize=6, zorder=3)
                axis.annotate(f"{row.latency[0]:.2f}", (max(row.latency), y), xytext=(5, 0), va="center",
                              textcoords="offset points", fontsize=8)
            axis.set_xscale("log")
            low, high = (f(v for r in rows for v in r.latency) for f in (min, max))
            axis.set_xlim(low / 1.3, high * 2)
            marks = [m * 10 ** e for e in range(-3, 6) for m in (1, 2, 5)
                     if low / 1.3 <= m * 10 ** e <= high * 2]
            axis.minorticks_off()
            axis.set_xticks(marks, [f"{m:g}" for m in marks])
            axis.set_yticks(range(len(rows)), [f"{name_of(r)}, {threads_text(r.threads)}" for r in rows])
            axis.set_ylim(len(rows) - 0.4, -0.6)
            axis.tick_params(axis="y", length=0)
            axis.xaxis.grid(True, color=GRID, zorder=0)
            axis.set_title(model, fontsize=10, loc="left")
            axis.set_xlabel("ms an image: p50 (dot) to p99")
        self.headline(figure, f"One image at a time {self.on(machine)}")
        self.save(figure, f"{machine}-latency")


def draw(rows, folder, machines):
    drawing = Drawing(folder, machines)
    found = cases(rows)
    for machine in dict.fromkeys(r.machine for r in rows):
        models = {}
        for model in dict.fromkeys(r.model for r in rows if r.machine == machine):
            mine = {t: c for (ma, mo, t), c in found.items() if (ma, mo) == (machine, model)}
            if mine:
                models[model] = mine
                drawing.bars(machine, model, mine, ceiling(rows, machine, model))
        several = {model: mine for model, mine in models.items() if len(mine) > 1}
        if several:
            drawing.scaling(machine, several)
        late = {}
        for model in models:
            quickest = {}
            for r in rows:
                if r.latency and (r.machine, r.model) == (machine, model):
                    key = r.group, r.label
                    if key not in quickest or r.latency < quickest[key].latency:
                        quickest[key] = r
            if quickest:
                late[model] = sorted(quickest.values(), key=lambda r: (place(r)[4:], r.threads))
        if late:
            drawing.latency(machine, late)
    return drawing.written
