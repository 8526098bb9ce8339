#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of what the trusted process is made of. They read the compiler's own dependency lists and the
object files of a finished build (Ninja).

  tcb.py includes SOURCE BUILD          what trusted code may include, and the order of its folders
  tcb.py size SOURCE BUILD              lines of first-party code, against tests/tcb/budget.txt
  tcb.py symbols SOURCE BUILD [--exact] what its objects want of the world, against symbols.txt
  tcb.py self-test SOURCE BUILD         each rule finds a planted breach
"""

import pathlib
import re
import subprocess
import sys

# Each folder may include the ones before it (src/README.md). field/prime.h counts as model's.
ORDER = ["base", "model", "field", "linear", "channel", "vault", "runtime", "session"]
# Headers outside of the folders: the services of the world may be asked for by everybody.
EVERYBODY = {"outside.h"}
# The part of the plan's description that lower layers share.
SHARED = {"field/prime.h": "model"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def trusted_objects(build):
    """Objects of the library slalom_trusted and of main(), as paths relative to the build folder."""
    targets = run("ninja", "-C", str(build), "-t", "inputs", "bin/slalom-trusted")
    objects = [line.strip() for line in targets.splitlines() if line.strip().endswith(".o")]
    objects = [o for o in objects if o.startswith("src/trusted/")]
    if len(objects) < 10 or not any(o.endswith("main.cc.o") for o in objects):
        sys.exit("the build has no objects of slalom-trusted")
    return sorted(objects)


def dependencies(build, objects):
    """Every file that the compiler read for the objects, from Ninja's log of them."""
    out = set()
    current = None
    seen = set()
    wanted = set(objects)
    for line in run("ninja", "-C", str(build), "-t", "deps").splitlines():
        if line and not line.startswith(" "):
            current = line.split(":")[0]
        elif line.strip() and current in wanted:
            seen.add(current)
            out.add((build / line.strip()).resolve())
    missing = wanted - seen
    if missing:
        sys.exit(f"no dependency list for {sorted(missing)[0]}: build slalom-trusted first")
    return out


def first_party(source, build, files):
    """Files of the project, generated ones included; system headers are left out."""
    return sorted(
        f for f in files if f.is_relative_to(source) or f.is_relative_to(build)
    )


def stray_files(source, files):
    """Project files that trusted code must not read."""
    allowed = [source / "src/trusted", source / "include/slalom"]
    return [f for f in files if not any(f.is_relative_to(a) for a in allowed)]


def layer_of(relative):
    name = str(relative)
    if name in SHARED:
        return SHARED[name]
    return relative.parts[0] if len(relative.parts) > 1 else "main"


def bad_includes(path, relative, text):
    """Reasons why the #include lines of one trusted file break a rule."""
    out = []
    order = ORDER + ["main"]
    for kind, name in INCLUDE.findall(text):
        if ".." in name.split("/") or name.startswith("/"):
            out.append(f"{path}: includes '{name}', a path that leaves the include roots")
            continue
        if kind == "<" or name.startswith("slalom/") or name in EVERYBODY:
            continue
        target = layer_of(pathlib.PurePosixPath(name))
        own = layer_of(relative)
        if own not in order or target not in order:
            out.append(f"{path}: '{name}' is in no known folder")
        elif order.index(target) > order.index(own):
            out.append(f"{path}: '{name}' belongs to a later folder ({target} after {own})")
    return out


def check_includes(source, build):
    objects = trusted_objects(build)
    files = first_party(source, build, dependencies(build, objects))
    faults = [f"{f}: read by trusted code, but lies outside of it" for f in stray_files(source, files)]
    for f in files:
        if f.is_relative_to(source / "src/trusted"):
            relative = pathlib.PurePosixPath(f.relative_to(source / "src/trusted"))
            faults += bad_includes(f, relative, f.read_text())
    return faults


def code_lines(text):
    """Lines that hold code: neither blank nor only a comment."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    return sum(1 for line in text.splitlines() if line.strip() and not line.lstrip().startswith("//"))


def budget(source):
    for line in (source / "tests/tcb/budget.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            return int(line)
    sys.exit("tests/tcb/budget.txt holds no number")


def sizes(source, build):
    """Code lines and all lines of each folder of the trusted process."""
    out = {}
    for f in first_party(source, build, dependencies(build, trusted_objects(build))):
        text = f.read_text()
        folder = str(f.relative_to(source).parent) if f.is_relative_to(source) else "generated"
        code, total = out.get(folder, (0, 0))
        out[folder] = (code + code_lines(text), total + len(text.splitlines()))
    return out


def check_size(source, build):
    table = sizes(source, build)
    limit = budget(source)
    code = sum(c for c, _ in table.values())
    total = sum(t for _, t in table.values())
    print(f"{'folder':32}{'code':>8}{'lines':>8}")
    for folder, (c, t) in sorted(table.items()):
        print(f"{folder:32}{c:8}{t:8}")
    print(f"{'all':32}{code:8}{total:8}   budget {limit}")
    return over_budget(code, limit)


def over_budget(code, limit):
    if code <= limit:
        return []
    return [f"the trusted process has {code} lines of code, more than the {limit} of budget.txt"]


def nm(paths, kind):
    out = set()
    for line in run("nm", "--format=posix", kind, *paths).splitlines():
        fields = line.split()
        if len(fields) >= 2 and not line.endswith(":"):
            out.add(fields[0])
    return out


def wanted_symbols(build):
    paths = [str(build / o) for o in trusted_objects(build)]
    return nm(paths, "--undefined-only") - nm(paths, "--defined-only")


# C++ library symbols are many and change with the compiler: they are held to what they may not be.
FORBIDDEN_CXX = re.compile(
    r"(i|o|if|of)stream|std::(cout|cerr|cin|clog|locale|random_device)|filesystem|basic_regex|"
    r"__cxa_throw|__dynamic_cast|getenv|std::system"
)


def allowed_symbols(source):
    """Names of symbols.txt, and its prefixes (lines that end in *)."""
    names, prefixes = set(), []
    for line in (source / "tests/tcb/symbols.txt").read_text().splitlines():
        name = line.split("#")[0].strip()
        if name.endswith("*"):
            prefixes.append(name[:-1])
        elif name:
            names.add(name)
    return names, prefixes


def symbol_faults(wanted, names, prefixes, exact):
    c_names = {s for s in wanted if not s.startswith("_Z")}
    cxx = sorted(wanted - c_names)
    faults = [
        f"{s}: trusted code wants this symbol, which symbols.txt does not list"
        for s in sorted(c_names - names)
        if not any(s.startswith(p) for p in prefixes)
    ]
    if exact:
        faults += [f"{s}: listed in symbols.txt, but nobody wants it" for s in sorted(names - c_names)]
    if cxx:
        plain = subprocess.run(["c++filt"], input="\n".join(cxx), check=True, text=True,
                               stdout=subprocess.PIPE).stdout.splitlines()
        faults += [f"{p}: trusted code must not use this" for p in plain if FORBIDDEN_CXX.search(p)]
    return faults


def check_symbols(source, build, exact):
    names, prefixes = allowed_symbols(source)
    return symbol_faults(wanted_symbols(build), names, prefixes, exact)


def self_test(source, build):
    """Every rule must find a breach that is planted for it."""
    faults = []

    def expect(what, found):
        if not found:
            faults.append(f"self-test: {what} was not found")

    def includes(relative, text):
        return bad_includes("planted", pathlib.PurePosixPath(relative), text)

    expect("a path with ..", includes("base/x.cc", '#include "../field/prime.h"'))
    expect("an absolute path", includes("base/x.cc", "#include </etc/passwd>"))
    expect("a later folder", includes("channel/x.h", '#include "runtime/executor.h"'))
    expect("an unknown folder", includes("channel/x.h", '  #  include "device/device.h"'))
    expect("a file of the root", includes("session/x.h", '#include "main.h"'))
    if includes("session/x.cc", '#include "base/bytes.h"\n#include <vector>\n#include "outside.h"'):
        faults.append("self-test: a right file was refused")
    if includes("model/plan.h", '#include "field/prime.h"'):
        faults.append("self-test: the shared part of field was refused")
    expect("a stray file", stray_files(source, [source / "src/untrusted/device/device.h"]))
    expect("a size above the budget", over_budget(11, 10))
    if code_lines("// a\n\nint x;  // b\n/* c\nd */ int y;\n") != 2:
        faults.append("self-test: lines are counted wrongly")
    expect("an unlisted symbol", symbol_faults({"getenv"}, {"memcpy"}, [], False))
    expect("an unused symbol", symbol_faults({"memcpy"}, {"memcpy", "open"}, [], True))
    expect("a stream", symbol_faults({"_ZSt4cout"}, set(), [], False))
    expect("an exception", symbol_faults({"__cxa_throw"}, set(), [], False))
    if symbol_faults({"memcpy", "EVP_x"}, {"memcpy"}, ["EVP_"], True):
        faults.append("self-test: right symbols were refused")
    # The real build: what the tests look at is there.
    objects = trusted_objects(build)
    files = dependencies(build, objects)
    for name in ["src/trusted/outside.cc", "src/trusted/channel/shm_port.h", "include/slalom/result.h"]:
        expect(name, (source / name).resolve() in files)
    expect("memcpy", "memcpy" in wanted_symbols(build))
    return faults


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    source, build = (pathlib.Path(a).resolve() for a in sys.argv[2:4])
    exact = "--exact" in sys.argv[4:]
    checks = {
        "includes": lambda: check_includes(source, build),
        "size": lambda: check_size(source, build),
        "symbols": lambda: check_symbols(source, build, exact),
        "self-test": lambda: self_test(source, build),
        "list-symbols": lambda: print("\n".join(sorted(
            s for s in wanted_symbols(build) if not s.startswith("_Z")))) or [],
    }
    if sys.argv[1] not in checks:
        sys.exit(__doc__)
    faults = checks[sys.argv[1]]()
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
