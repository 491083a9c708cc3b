"""Figures by row and by who was measured, and what they must come to."""

import statistics
import sys

# Every goal that was held against figures, in the order of the sections; `summary` prints them together.
GOALS = []
# Tables that were begun and not shown yet.
BEGUN = []


def chosen(cases, rows):
    """Those of a section's cases whose rows were asked for; all, if none was."""
    known = [case[0] for case in cases]
    for row in rows:
        if row not in known:
            sys.exit(f"bench: no row {row!r}; there are: {', '.join(known)}")
    return [case for case in cases if not rows or case[0] in rows]


class Table:
    """Figures by row and by who was measured; the first of `who` is us."""

    def __init__(self, title, who, unit, ratio=True):
        self.ratio = ratio
        self.title, self.who, self.unit, self.rows, self.notes = title, who, unit, {}, {}
        BEGUN.append(self)

    def add(self, row, who, value):
        self.rows.setdefault(row, {}).setdefault(who, []).append(value)

    def note(self, row, who, text):
        """Says in the cell why there is no figure."""
        self.rows.setdefault(row, {})
        self.notes[row, who] = text

    def of(self, row, who):
        return self.rows.get(row, {}).get(who, [])

    def must(self, line, row, peer, bound, **how):
        """Ours divided by the peer's, as issue lines say it: at most `bound`, or at least with `least=True`."""
        self.hold("must", line, row, self.of(row, peer), peer, bound, **how)

    def aim(self, line, row, peer, bound, **how):
        self.hold("aim", line, row, self.of(row, peer), peer, bound, **how)

    def faster(self, grade, line, row, peer, times):
        """For a table of times: the peer's divided by ours is at least `times`."""
        self.hold(grade, line, row, self.of(row, peer), peer, times, least=True, invert=True)

    def hold(self, grade, line, row, theirs, peer, bound, least=False, invert=False):
        """One goal. The ratio is the median of the pairs' ratios: what slowed the machine slowed both of a pair. A row that was not
        asked for has none."""
        if row not in self.rows:
            return
        ours = self.of(row, self.who[0])
        pairs = [other / one if invert else one / other for one, other in zip(ours, theirs) if one and other]
        limit = f"{'>=' if least else '<='} {bound:g}x"
        if pairs:
            ratio = statistics.median(pairs)
            figure = f"{shown(statistics.median(ours))} / {shown(statistics.median(theirs))} {self.unit}"
            goal = Goal(grade, line, figure, peer, f"{ratio:.2f}x", verdict(ratio, bound, least), limit)
        else:
            why = self.notes.get((row, self.who[0])) or self.notes.get((row, peer)) or "nothing was measured"
            goal = Goal(grade, line, why, peer, "-", "unknown", limit)
        GOALS.append(goal)

    def limit(self, grade, line, row, bound, who=None):
        """A goal without a peer: our figure itself is at most `bound`."""
        if row not in self.rows:
            return
        ours = self.of(row, who or self.who[0])
        if not ours:
            goal = Goal(grade, line, "nothing was measured", "", "-", "unknown", f"<= {bound:g} {self.unit}")
        else:
            value = statistics.median(ours)
            goal = Goal(grade, line, f"{shown(value)} (lowest {shown(min(ours))}) {self.unit}", "", "", verdict(value, bound, False), f"<= {bound:g} {self.unit}")
        GOALS.append(goal)

    def cell(self, row, who):
        values = self.of(row, who)
        if values:
            return f"{statistics.median(values):13.3f} ({min(values):.3f})"
        return self.notes.get((row, who), "-")

    def show(self):
        BEGUN.remove(self)
        rounds = max((len(values) for by in self.rows.values() for values in by.values()), default=0)
        print(f"\n{self.title}, {self.unit}, median of {rounds} (lowest)")
        cells = {row: [self.cell(row, who) for who in self.who] for row in self.rows}
        first = max([26, *map(len, cells)])
        widths = [max([22, len(who) + 2] + [len(by[n]) + 2 for by in cells.values()]) for n, who in enumerate(self.who)]
        heads = "".join(f"{who:>{width}}" for who, width in zip(self.who, widths))
        print(f"  {'':{first}}{heads}" + ("     ratio" if self.ratio and len(self.who) > 1 else ""))
        for row, by in cells.items():
            ratio = ""
            # Beside the first who was measured too.
            other = next((who for who in self.who[1:] if self.of(row, who)), None)
            if self.ratio and other:
                pairs = [one / another for one, another in zip(self.of(row, self.who[0]), self.of(row, other)) if another]
                ratio = f"{statistics.median(pairs):9.2f}x" if pairs else ""
            print(f"  {row:{first}}" + "".join(f"{one:>{width}}" for one, width in zip(by, widths)) + ratio)
        sys.stdout.flush()


class Goal:
    """One line of what is to be reached, and what came of it."""

    def __init__(self, grade, line, figure, peer, ratio, verdict, bound):
        self.grade, self.line, self.figure, self.peer, self.ratio, self.verdict, self.bound = grade, line, figure, peer, ratio, verdict, bound

    def cells(self):
        return [self.line, self.figure, self.peer, self.ratio, f"{self.grade} {self.bound}", self.verdict]


def shown(value):
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def verdict(value, bound, least):
    met = value >= bound if least else value <= bound
    far = abs(value / bound - 1) * 100
    return f"{'met' if met else 'MISSED'} by {far:.0f} %"


def rest():
    """What was taken before a run was broken off."""
    for table in list(BEGUN):
        if table.rows:
            table.show()


def summary():
    """All goals of this run."""
    if not GOALS:
        return
    print("\nGoals")
    rows = [["work", "ours / theirs", "theirs", "ratio", "bound", "verdict"], *(goal.cells() for goal in GOALS)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip())
    for grade in ("must", "aim"):
        mine = [goal for goal in GOALS if goal.grade == grade]
        counts = {word: sum(goal.verdict.startswith(word) for goal in mine) for word in ("met", "MISSED", "unknown")}
        print(f"  {grade}: {counts['met']} met, {counts['MISSED']} missed, {counts['unknown']} unknown")
