"""A measured row, and the page made of them."""

import dataclasses
import typing


@dataclasses.dataclass
class Result:
    """One row: what was measured, its floor and goal, the figures behind it."""
    name: str
    value: typing.Optional[float]
    unit: str
    floor: typing.Optional[float] = None
    goal: typing.Optional[float] = None
    # True: less is better (times, bytes).
    less: bool = False
    detail: str = ""

    @property
    def met(self):
        if self.value is None or self.floor is None:
            return None
        return self.value <= self.floor if self.less else self.value >= self.floor

    def shown(self):
        if self.value is None:
            return "not measured"
        digits = 2 if abs(self.value) < 100 else 0
        return f"{self.value:,.{digits}f}{' ' + self.unit if self.unit else ''}"

    def verdict(self):
        if self.value is None or self.floor is None:
            return ""
        if not self.met:
            return "below the floor"
        if self.goal is None:
            return "floor"
        reached = self.value <= self.goal if self.less else self.value >= self.goal
        return "goal" if reached else "floor"

    def line(self):
        return f"{self.name}: {self.shown()} [{self.verdict()}] {self.detail}"


def number(value):
    return "" if value is None else f"{value:,g}"


def render(machine, results, quick):
    """The whole page in Markdown."""
    lines = ["# Benchmarks", ""]
    lines += ["Made by `make bench` or `make bench-servers`; do not edit. Each ratio was taken within one run, its sides alternating; medians of three.",
              "What holds back the rows that miss their goal stands in [performance.md](performance.md).", ""]
    if quick:
        lines += ["**A quick run to try the suite: too short for any figure in it to mean much.**", ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in machine]
    lines += ["", "| what | measured | at least | goal | reached | figures |", "|---|---|---|---|---|---|"]
    for result in results:
        sign = "≤ " if result.less and result.floor is not None else ""
        lines.append(f"| {result.name} | {result.shown()} | {sign}{number(result.floor)} | {number(result.goal)} "
                     f"| {result.verdict()} | {result.detail} |")
    return "\n".join(lines) + "\n"
