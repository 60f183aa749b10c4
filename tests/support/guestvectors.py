"""Holds the helper against the published vectors, in old interpreters too: guestvectors.py HELPER VECTORS."""

import importlib.util
import json
import sys


def load(path):
    """Return the helper as a module."""
    spec = importlib.util.spec_from_file_location("undercroft_guest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(helper, vectors):
    """Raise AssertionError where the helper and the vectors differ."""
    read = bytes.fromhex
    for each in vectors["cobs"]:
        assert helper.stuff(read(each["frame"])) == read(each["line"])
        assert helper.unstuff(read(each["line"])[:-1]) == read(each["frame"])
    for text in vectors["cbor"]["taken"]:
        assert helper.pack(helper.unpack(read(text))) == read(text)
    for text in vectors["cbor"]["refused"]:
        try:
            helper.unpack(read(text.split(" ")[0]))
        except helper.MalformedError:
            continue
        raise AssertionError(text)
    told = {name: read(text) for name, text in vectors["session"].items()}
    standing = helper.Standing()
    standing.eid, standing.serial, standing.sent, standing.taken = told["eid"], 1699999999999995, 3, 4
    session = helper.Session(standing, told["boot"], {16: b"\xa1" * 16, 32: told["guest_private"]}.get)
    session.receive(b"\0" + told["hello_line"])
    assert bytes(session.out) == b"\0" + told["answer_line"]
    del session.out[:]
    assert session.receive(told["welcome_line"]) == [("welcome", 7, told["seed"], 1)]
    assert session.host_head == told["host_head_after_welcome"]
    assert not session.receive(told["ping_line"])
    assert bytes(session.out) == told["pong_line"]
    assert session.head == told["guest_head_after_pong"]
    assert helper.confirmation(told["seed"], told["machine"], told["eid"], 7) == told["confirmation"]


if __name__ == "__main__":
    with open(sys.argv[2]) as file:
        check(load(sys.argv[1]), json.load(file))
