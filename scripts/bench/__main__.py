"""Runs the benchmark suite and writes the table: python3 scripts/bench [row ...] [--quick] [--write docs/benchmarks.md]

Every ratio is taken within one run on one machine, its sides alternating, medians of three. Peers that are not
installed are named as missing; their rows are left out, never filled in.
"""

import argparse
import subprocess
import sys

import engines
import rows
from machine import describe
from table import render

ALL = rows.ALL | engines.ALL


def main():
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("only", nargs="*", help="names of rows: " + ", ".join(ALL) + "; without one those of a node alone")
    parser.add_argument("--binary", required=True, help="the release build of mailroom")
    parser.add_argument("--constant", required=True, help="the release build of examples/constant")
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages, one round: to try the suite itself")
    parser.add_argument("--write", metavar="FILE", help="also write the table there")
    options = parser.parse_args()
    unknown = [name for name in options.only if name not in ALL]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ALL)}")
    machine, results, broken = describe(options.binary), [], 0
    for name in options.only or rows.ALL:
        try:
            for result in ALL[name](rows.Setting(options.binary, options.constant, options.quick)):
                print(result.line(), flush=True)
                results.append(result)
                write(options.write, render(machine, results, options.quick))
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            print(f"{name}: not measured: {error}", file=sys.stderr)
            broken += 1
    print(render(machine, results, options.quick))
    missed = [result for result in results if result.met is False]
    if missed:
        print(f"{len(missed)} rows below their floor", file=sys.stderr)
    return 1 if missed or broken else 0


def write(path, text):
    """After every row, so that a long run which is cut off leaves what it measured."""
    if path:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


sys.exit(main())
