#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Finds data-dependent branches, addresses, gathers and divisions in the object code of kernels that
valgrind cannot run (AVX-512).

    constant_time_asm.py OBJECTS... [--expect-leaks NAME...]

Whatever a 512-bit instruction loads from memory counts as secret, and so does what is computed from it,
through vector, mask and general registers, flags and the stack, along all paths of each function. What
narrower moves and scalars load (compilers copy structures of lengths and pointers so) counts as
public: code that loads data that way is shared with the AVX2 kernels, which valgrind runs. With
--expect-leaks the functions named must be found leaking, all of them and no others: that is the test
of this test.
"""

import argparse
import re
import subprocess
import sys

GENERAL = {}
for n, names in enumerate(
    ("rax eax ax al ah", "rbx ebx bx bl bh", "rcx ecx cx cl ch", "rdx edx dx dl dh", "rsi esi si sil",
     "rdi edi di dil", "rbp ebp bp bpl", "rsp esp sp spl")):
    for name in names.split():
        GENERAL[name] = names.split()[0]
for n in range(8, 16):
    for suffix in ("", "d", "w", "b"):
        GENERAL[f"r{n}{suffix}"] = f"r{n}"

CALLER_SAVED = ["rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11"]
WIDTHS = {"x": 16, "y": 32, "z": 64}
VECTOR = re.compile(r"^%([xyz])mm(\d+)$")
MEMORY = re.compile(r"^(?:%[a-z]s:)?(-?(?:0x)?[0-9a-f]*)\(([^)]*)\)$")
FLAG_READERS = re.compile(r"^(j(?!mp)|set|cmov)")
ENDS = re.compile(r"^(jmp|ret|ud2|hlt)")
NO_RETURN = ("_ZSt21__glibcxx_assert_failPKciS0_S0_", "__stack_chk_fail", "abort")
FLAG_WRITERS = re.compile(r"^(cmp[bwlq]?$|test|bt|kortest|ktest|vptest$|vtestp|v?u?comis)")
NO_FLAGS = re.compile(r"^(mov|lea|push|pop|nop|v|k(?!ortest|test)|prefetch|bswap|xchg|not|ret|endbr|cltq|cqto|"
                      r"cltd|cwtl|sfence|shlx|shrx|sarx|rorx|mulx|pdep|pext|data16|cs$|notrack|leave|set|cmov|j|call|hlt|ud2)")


def register(text):
    """The name under which a register operand is tracked, or None."""
    match = VECTOR.match(text)
    if match:
        return "v" + match.group(2)
    if text.startswith("%k") and text[2:].isdigit():
        return text[1:]
    return GENERAL.get(text[1:]) if text.startswith("%") else None


def split_operands(text):
    out, depth, last = [], 0, 0
    for i, c in enumerate(text):
        depth += c == "("
        depth -= c == ")"
        if c == "," and depth == 0:
            out.append(text[last:i])
            last = i + 1
    out.append(text[last:])
    return [o.strip() for o in out if o.strip()]


class Instruction:
    def __init__(self, address, text):
        self.address = address
        text = text.split("#")[0].strip()
        parts = text.split(None, 1)
        while parts and parts[0] in ("lock", "rep", "repz", "data16", "cs", "notrack", "bnd", "{evex}", "{vex}"):
            parts = parts[1].split(None, 1) if len(parts) > 1 else []
        self.op = parts[0] if parts else "nop"
        rest = re.sub(r"<[^>]*>", "", parts[1]) if len(parts) > 1 else ""
        self.target = None
        if self.op.startswith(("j", "call")):
            match = re.match(r"^([0-9a-f]+)\s*$", rest.strip())
            self.target = int(match.group(1), 16) if match else None
        self.symbol = None  # what a call that is left to the linker names
        self.callee = None  # the function of the same file that a call names
        self.writes = None  # the vector registers that it writes; None: all of them
        match = re.search(r"<([^>+]+)>\s*$", text)
        if match and self.op in ("call", "jmp"):
            self.callee = match.group(1)
        self.masks = [m for m in re.findall(r"\{%(k\d)\}", rest)]
        self.zeroing = "{z}" in rest
        rest = re.sub(r"\{[^}]*\}", "", rest)
        self.operands = [] if self.target is not None else split_operands(rest)

    def width(self):
        if self.op in ("vmovq", "vmovd"):  # the low part of a register
            return 8 if self.op == "vmovq" else 4
        for operand in self.operands:
            match = VECTOR.match(operand)
            if match:
                return WIDTHS[match.group(1)]
        return 8


class State(dict):
    """What is secret: registers by name, stack bytes by granule of eight ("s", n), and "flags"."""

    def secret(self, key):
        return self.get(key, False)

    def merge(self, other):
        changed = False
        for key, value in other.items():
            if value and not self.get(key, False):
                self[key] = True
                changed = True
        return changed


def stack_granules(operand, width):
    match = MEMORY.match(operand)
    if not match or match.group(2) != "%rsp":
        return None
    at = int(match.group(1) or "0", 0) if match.group(1) not in ("", "-") else 0
    return range(at // 8, (at + max(width, 1) - 1) // 8 + 1)


class Function:
    def __init__(self, name):
        self.name = name
        self.code = []
        self.leaks = set()

    def note(self, instruction, what):
        self.leaks.add((instruction.address, f"{instruction.op}: {what}"))

    def operand_secret(self, state, i, operand, vector):
        reg = register(operand)
        if reg:
            return state.secret(reg)
        if operand.startswith("$"):
            return False
        match = MEMORY.match(operand)
        if not match:
            return False
        for part in match.group(2).split(","):
            part = part.strip()
            if i.op.startswith(("lea", "nop")):
                continue  # arithmetic, not an access
            if VECTOR.match(part):
                self.note(i, "addresses from a vector (gather or scatter)")
            elif register(part) and state.secret(register(part)):
                self.note(i, f"an address depends on {part}")
        if i.op.startswith(("lea", "prefetch", "nop")):
            return any(state.secret(register(p.strip())) for p in match.group(2).split(",") if register(p.strip()))
        granules = stack_granules(operand, i.width())
        if granules is not None:
            return any(state.secret(("s", g)) for g in granules)
        # Constants lie beside the code; other memory is data when a 512-bit vector takes it.
        return vector and "%rip" not in operand and any(o.startswith("%zmm") for o in i.operands)

    def step(self, state, i):
        op, operands = i.op, i.operands
        vector = any(register(o) and register(o)[0] in "vk" and o[1] != "r" for o in operands)
        if FLAG_READERS.match(op) and state.secret("flags"):
            if op.startswith("j"):
                self.note(i, "a branch depends on secret flags")
            elif operands:
                self.store(state, i, operands[-1], True)
                return
        if op.startswith("call"):
            for reg in CALLER_SAVED:
                state[reg] = False
            state["rax"] = i.symbol is None  # our own functions return secrets, memcpy does not
            for n in range(32):
                # What a function of this file does not write is still what it was: compilers know that too.
                if i.writes is None or f"v{n}" in i.writes:
                    state[f"v{n}"] = True
            return
        if not operands or op.startswith(("j", "nop", "push", "pop", "ret")):
            return
        secrets = [self.operand_secret(state, i, o, vector) for o in operands]
        if len(operands) == 1 and re.match(r"^i?(div|mul)[bwlq]?$", op):  # with rax and rdx
            secrets += [state.secret("rax"), state.secret("rdx")]
            state["rdx"] = state["rax"] = any(secrets)
        if "div" in op and any(secrets):
            self.note(i, "divides secrets")
        same = len(operands) >= 2 and len(set(operands[:2])) == 1
        if same and re.match(r"^(v?p?xor|vxorp|sub|vpsub|vpcmpeq|vpternlog|kxor)", op):
            result = False
        else:
            sources = secrets[:-1] if reads_no_destination(op, operands, i) else secrets
            result = any(sources) or any(state.secret(m) for m in i.masks)
        if FLAG_WRITERS.match(op):
            state["flags"] = any(secrets)
            return
        if not NO_FLAGS.match(op):
            state["flags"] = result
        self.store(state, i, operands[-1], result)

    def store(self, state, i, destination, secret):
        reg = register(destination)
        if reg:
            if reg != "rsp":
                state[reg] = secret
            return
        granules = stack_granules(destination, i.width())
        for granule in granules or ():
            state[("s", granule)] = secret

    def analyse(self):
        index = {i.address: n for n, i in enumerate(self.code)}
        states = {0: State()}
        work = [0]
        while work:
            n = work.pop()
            state = State(states[n])
            while True:
                i = self.code[n]
                self.step(state, i)
                following = []
                if i.op.startswith("j") and i.target in index:
                    following.append(index[i.target])
                if not (ENDS.match(i.op) or i.symbol in NO_RETURN) and n + 1 < len(self.code):
                    following.append(n + 1)
                if following == [n + 1] and n + 1 not in states:
                    n += 1
                    if n in self.entries:
                        if self.join(states, n, state):
                            work.append(n)
                        break
                    continue
                for at in following:
                    if self.join(states, at, state):
                        work.append(at)
                break

    @staticmethod
    def join(states, at, state):
        if at not in states:
            states[at] = State(state)
            return True
        return states[at].merge(state)

    def prepare(self):
        index = {i.address: n for n, i in enumerate(self.code)}
        self.entries = {index[i.target] for i in self.code if i.target in index}
        self.addresses = set(index)


def reads_no_destination(op, operands, i):
    """True if the last operand is only written."""
    if op.startswith("v"):
        merging = i.masks and not i.zeroing
        return not merging and not re.match(r"^(vpmadd52|vpdp|vpermi2|vpternlog|vfm|vfn)", op)
    return op.startswith(("mov", "lea", "set", "k", "rorx", "shlx", "shrx", "sarx", "bsf", "bsr", "tzcnt", "lzcnt",
                          "popcnt")) or len(operands) == 3


def functions(path):
    text = subprocess.run(["objdump", "-dr", "--no-show-raw-insn", path], check=True, capture_output=True,
                          text=True).stdout
    current = None
    for line in text.splitlines():
        match = re.match(r"^[0-9a-f]+ <(.+)>:$", line)
        if match:
            if current:
                yield current
            current = Function(match.group(1))
            continue
        match = re.match(r"^\s+[0-9a-f]+: R_X86_64_PLT32\s+(\S+)-0x4$", line)
        if match and current is not None and current.code:
            current.code[-1].symbol = match.group(1)
            continue
        match = re.match(r"^\s+([0-9a-f]+):\t(.*)$", line)
        if match and current is not None:
            current.code.append(Instruction(int(match.group(1), 16), match.group(2)))
    if current:
        yield current


def written_vectors(name, known, seen):
    """The vector registers that a function and those it calls write, or None if one of them is elsewhere."""
    if name in seen:
        return set()
    if name not in known:
        return None
    seen.add(name)
    out = set()
    for i in known[name].code:
        if i.symbol is not None:
            if i.symbol not in NO_RETURN:
                return None
        elif i.op in ("call", "jmp") and i.target is not None and i.target not in known[name].addresses:
            inner = written_vectors(i.callee, known, seen)
            if inner is None:
                return None
            out |= inner
        elif i.op.startswith("jmp") and i.target is None:
            return None
        elif i.operands:
            out.add(register(i.operands[-1]))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("objects", nargs="+")
    parser.add_argument("--expect-leaks", nargs="*")
    options = parser.parse_args()
    checked, vectors, leaking = 0, 0, []
    for path in options.objects:
        known = {f.name: f for f in functions(path) if f.code}
        for function in known.values():
            function.prepare()
        for function in known.values():
            for i in function.code:
                if i.op == "call" and i.symbol is None:
                    i.writes = written_vectors(i.callee, known, set())
            function.analyse()
            checked += 1
            vectors += sum("zmm" in " ".join(i.operands) for i in function.code)
            if function.leaks:
                leaking.append(function.name)
                for address, what in sorted(function.leaks):
                    print(f"{function.name}+{address:x}: {what}")
    print(f"{checked} functions, {vectors} instructions on 512-bit registers, {len(leaking)} leak")
    if options.expect_leaks is not None:
        return 0 if sorted(leaking) == sorted(options.expect_leaks) else 1
    return 1 if leaking or vectors < 1000 else 0


if __name__ == "__main__":
    sys.exit(main())
