#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks one security rule at a time and says which test notices.

Each [[mutation]] of the .toml files beside this one weakens a rule of src/trusted by replacing one
piece of text (`old`, which must stand in `file` exactly once) by another (`new`). The tree is copied
to --work, where each mutation is made, the programs of its `tests` are built, and they are run until
one fails: then the mutation is caught. What no test notices survived, and is a missing test.

An entry of `tests` is a GoogleTest program ("channel_test"), or a program and a test of ctest's
("field_constant_time=field.constant_time").

    python3 tests/mutations/run.py                     all of them, from where the last run stopped
    python3 tests/mutations/run.py --only sealer       those with "sealer" in area, file, rule or change
    python3 tests/mutations/run.py --table docs/testing-of-rules.md

Exit status: 0 if all that ran were caught, 1 if one survived or could not be made, 2 if the tree is
not green without mutations.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BEGIN, END = "<!-- mutations -->\n", "<!-- end -->\n"


def cases():
    for path in sorted(HERE.glob("*.toml")):
        for case in tomllib.loads(path.read_text())["mutation"]:
            yield path.stem, case


def sync(tree):
    """Brings the copy to the state of the working tree; files that did not change keep their times."""
    files = subprocess.run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "-z"],
                           check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, files):
        source, target = ROOT / name, tree / name
        if not source.is_file():
            target.unlink(missing_ok=True)
        elif not target.is_file() or source.read_bytes() != target.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


class Build:
    def __init__(self, tree, options):
        self.tree, self.folder, self.jobs = tree, tree / "build" / "release", options.jobs
        self.seconds = {}  # that an entry took without a mutation; one that takes far longer hangs
        launcher = [f"-DCMAKE_CXX_COMPILER_LAUNCHER={shutil.which('ccache')}"] if shutil.which("ccache") else []
        subprocess.run(["cmake", "--preset", "release", *launcher], cwd=tree, check=True,
                       stdout=subprocess.DEVNULL)

    def make(self, entries):
        targets = {entry.split("=")[0] for entry in entries}
        made = subprocess.run(["ninja", "-C", self.folder, f"-j{self.jobs}", *sorted(targets)],
                              capture_output=True, text=True)
        return None if made.returncode == 0 else made.stdout[-3000:]

    def run(self, entry):
        """Returns what failed first, or None."""
        program, _, name = entry.partition("=")
        if name:
            command = ["ctest", "--test-dir", self.folder, "-R", f"^{re.escape(name)}$", "--no-tests=error"]
        else:
            command = [self.folder / "bin" / program, "--gtest_fail_fast", "--gtest_color=no"]
        start = time.monotonic()
        try:
            ran = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=self.folder,
                                 timeout=30 + 10 * self.seconds.get(entry, 27))
            self.seconds.setdefault(entry, time.monotonic() - start)
            if ran.returncode == 0:
                return None
            output = ran.stdout
        except subprocess.TimeoutExpired as late:
            output = (late.stdout or b"").decode(errors="replace")
        if name:
            return name
        started = re.findall(r"^\[ RUN      \] (\S+)", output, re.M)
        failed = re.findall(r"^\[  FAILED  \] ([\w/]+\.[\w/]+)", output, re.M)
        return (failed or started[-1:] or [program])[0]


def attempt(build, case):
    """Returns the test that caught a mutation, "survived", or what is wrong with the case."""
    path = build.tree / case["file"]
    text = path.read_text()
    if text.count(case["old"]) != 1:
        return f"broken: 'old' stands {text.count(case['old'])} times in the file"
    try:
        path.write_text(text.replace(case["old"], case["new"]))
        if (log := build.make(case["tests"])) is not None:
            return "broken: it does not build\n" + log
        for entry in case["tests"]:
            if (test := build.run(entry)) is not None:
                return test
        return "survived"
    finally:
        path.write_text(text)


def table(found):
    lines, caught, last = [], 0, None
    for area, case in cases():
        result = found.get(key(case), "not run")
        caught += good(result)
        if area != last:
            title = re.sub("^[0-9]_", "", area).replace("_", " ").capitalize()
            lines += ["", f"## {title}", "", "| rule | mutation | file | caught by |", "| --- | --- | --- | --- |"]
            last = area
        name = f"`{result}`" if good(result) else f"**{result.splitlines()[0]}**"
        file = pathlib.PurePath(case["file"]).relative_to("src/trusted")
        lines.append(f"| {case['rule']} | {case['change']} | `{file}` | {name} |")
    total = sum(1 for _ in cases())
    return "\n".join([f"{caught} of {total} mutations are caught.", *lines]) + "\n"


def key(case):
    return json.dumps([case["file"], case["old"], case["new"]])


def good(result):
    return result not in ("survived", "not run") and not result.startswith("broken")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "mutations",
                        help="where the copy of the tree and its build go (default: build/mutations)")
    parser.add_argument("--only", default="", help="only mutations with this in their area, file, rule or change")
    parser.add_argument("--again", action="store_true", help="also those that an earlier run has caught")
    parser.add_argument("--jobs", type=int, default=2, help="for ninja (default: 2)")
    parser.add_argument("--table", type=pathlib.Path, help="only write the results into this document")
    options = parser.parse_args()
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    memory = options.work / "results.json"
    found = json.loads(memory.read_text()) if memory.is_file() else {}
    if options.table:
        text = options.table.read_text()
        head, rest = text.split(BEGIN)
        options.table.write_text(head + BEGIN + table(found) + END + rest.split(END)[1])
        return 0
    wanted = [case for area, case in cases()
              if options.only.lower() in " ".join([area, case["file"], case["rule"], case["change"]]).lower()
              and (options.again or not good(found.get(key(case), "not run")))]
    tree = options.work / "tree"
    sync(tree)
    build = Build(tree, options)
    entries = sorted({entry for case in wanted for entry in case["tests"]})
    log = build.make(entries)
    wrong = log or next(filter(None, map(build.run, entries)), None)
    if wrong is not None:
        print(f"without a mutation: {wrong}", file=sys.stderr)
        return 2
    bad = 0
    for number, case in enumerate(wanted, 1):
        result = attempt(build, case)
        found[key(case)] = result
        memory.write_text(json.dumps(found, indent=1))
        bad += not good(result)
        mark = "caught" if good(result) else "NOT CAUGHT"
        print(f"{number}/{len(wanted)} {mark}: {case['rule']}: {case['change']}: {result}", flush=True)
    print(f"{len(wanted) - bad} caught, {bad} not")
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
