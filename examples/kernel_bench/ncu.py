"""Counts what kernels do with Nsight Compute (`ncu`)."""
import csv
import io
import subprocess
import sys


def counted(figures, names, command):
    """Runs a command under `ncu` and returns, for each launch of a kernel whose name matches the regular expression `names`, in order, the kernel's name and the
    figures: a dict from figure to number, for `figures`, a dict from figure to metric."""
    done = subprocess.run(["ncu", "--csv", "--metrics", ",".join(figures.values()), "--kernel-name", f"regex:{names}", *command], capture_output=True, text=True)
    start = done.stdout.find('"ID"')
    if start < 0:
        sys.exit(done.stdout + done.stderr)
    launches = {}
    for row in csv.DictReader(io.StringIO(done.stdout[start:])):
        figure = next((k for k, v in figures.items() if v == row["Metric Name"]), None)
        if figure:
            launch = launches.setdefault(int(row["ID"]), (row["Kernel Name"].split("(")[0], {}))
            launch[1][figure] = float(row["Metric Value"].replace(",", ""))
    return [launches[i] for i in sorted(launches)]
