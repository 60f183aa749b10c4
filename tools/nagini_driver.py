"""Runs in the verifier's environment: programs on standard input, what Nagini says of each on its output.

One virtual machine for all of them, as its start and its warming up cost more than a proof. Each order and
each answer is a line of JSON; `tools/prove.py` writes and reads them.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import time

import jpype
from nagini_translation import main as nagini
from nagini_translation.lib import config
from nagini_translation.lib.errors import wrappers
from nagini_translation.lib.jvmaccess import JVM

# As the program's own defaults are.
OPTIONS = {
    "sif": False,
    "int_bitops_size": 8,
    "ignore_global": False,
    "verbose": False,
    "counterexample": False,
    "float_encoding": None,
    "print_viper": False,
    "write_viper_to_file": None,
    "verifier": "silicon",
    # Branches are joined where they meet, not at the method's end: half of the work. No assertion has a time
    # limit (`--assertTimeout` is 0), so that one that fails was not short of time.
    "viper_arg": "--moreJoins=2",
    "benchmark": -1,
    "submit_for_evaluation": False,
    "ide_mode": False,
    "show_viper_errors": False,
}

# A proof is over before optimized code would pay for its making; the stack is what Viper needs.
MACHINE = ("-Xss32m", "-Xmx2g", "-Xms512m", "-Xmn400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class _Machine(JVM):
    """As Nagini's own, within bounds of memory."""

    def __init__(self, classpath):
        path = jpype.getDefaultJVMPath()
        jpype.startJVM(path, f"-Djava.class.path={classpath}", *MACHINE, convertStrings=True)
        self.java = jpype.JPackage("java")
        self.scala = jpype.JPackage("scala")
        self.viper = jpype.JPackage("viper")
        self.fastparse = jpype.JPackage("fastparse")


class _Reasons(dict):
    """Nagini has no words for some of its verifier's reasons, and would end on them."""

    def __missing__(self, key):
        return lambda reason: f"{key}: {reason}"


def _verdict(order, machine):
    said = io.StringIO()
    options = OPTIONS | ({"viper_arg": order["viper"]} if order.get("viper") else {})
    arguments = argparse.Namespace(select=order["select"] or None, **options)
    started = time.monotonic()
    with contextlib.redirect_stdout(said):
        proven = nagini.translate_and_verify(order["path"], machine, arguments, print=print)
    text = said.getvalue()
    return {
        "name": order["name"],
        "proven": proven is True and text.startswith("Verification successful"),
        "translated": text.startswith("Verification "),
        "errors": text,
        "seconds": time.monotonic() - started,
    }


def main():
    """Answers every order, in their order."""
    config.set_verifier("silicon")
    wrappers.REASONS = _Reasons(wrappers.REASONS)
    # What the virtual machine itself prints is no answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    machine = _Machine(config.classpath)
    for line in sys.stdin:
        answers.write(json.dumps(_verdict(json.loads(line), machine)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
