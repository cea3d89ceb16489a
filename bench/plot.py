"""Draws figures.json: for each kind of work the operations a second of every subject. Usage: plot.py DIRECTORY"""

import collections
import json
import pathlib
import re
import subprocess
import sys

# What is drawn together, by how its work is called; a group in it is the label.
PLOTS = {
    "durable": ("Durable transactions, one client", r"^\d+ x \d+ KiB durable$"),
    "clients": ("Durable writes of 4 KiB, many clients", r"^\d+ clients"),
    "memory": ("In memory", r"^4 KiB (?:buffered|cached)"),
    "policy-simulated": ("Written back on a simulated disk", r"^writeback on a simulated virtual disk of (.+)"),
    "policy-nvme": ("Written back on a simulated NVMe disk", r"^writeback on a simulated NVMe disk of (.+)"),
    "policy": ("Written back on this disk", r"^writeback on this disk, stated unit of (.+)"),
}

SCRIPT = """
set terminal svg size 1100,520 font 'sans-serif,12' background '#ffffff'
set output '{output}'
set title '{title}'
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.9 noborder
set logscale y
set ylabel 'operations a second'
set grid ytics lc rgb '#dddddd'
set key outside right top
set xtics rotate by -25 noenhanced
set datafile separator '\\t'
set datafile missing '-'
plot for [i=2:{columns}] '{data}' using i:xtic(1) title columnheader(i) noenhanced
"""


def main():
    directory = pathlib.Path(sys.argv[1])
    figures = json.loads((directory / "figures.json").read_text())
    for name, (title, pattern) in PLOTS.items():
        table = collections.OrderedDict()
        for figure in figures:
            if work := re.match(pattern, figure["work"]):
                label = work.group(work.lastindex or 0)
                table.setdefault(label, {})[figure["subject"]] = figure["per_second"]
        if not table:
            continue
        subjects = list(collections.OrderedDict((s, None) for row in table.values() for s in row))
        data = directory / f"{name}.tsv"
        rows = [["work"] + subjects]
        rows += [[work] + [f"{row[s]:.0f}" if s in row else "-" for s in subjects] for work, row in table.items()]
        data.write_text("".join("\t".join(row) + "\n" for row in rows))
        script = SCRIPT.format(output=directory / f"{name}.svg", title=title, data=data, columns=len(subjects) + 1)
        subprocess.run(["gnuplot"], input=script, text=True, check=True)


if __name__ == "__main__":
    main()
