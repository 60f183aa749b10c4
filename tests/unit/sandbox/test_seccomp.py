"""The filter's program, run by an interpreter of classic BPF as linux/filter.h defines it."""

import errno
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.sandbox import bubblewrap, seccomp
from undercroft.sandbox.syscalls import ARCHITECTURES, Architecture

ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
ANSWER, SOCKET = 7, 9
FOREIGN = {"x86_64": 0x40000003, "aarch64": 0x40000028}  # AUDIT_ARCH_I386, AUDIT_ARCH_ARM
HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", r"#define __NR_(\w+) (\d+)"),
    "aarch64": ("/usr/include/asm-generic/unistd.h", r"#define __NR(?:3264)?_(\w+) (\d+)"),
}
RENAMED = {"aarch64": {"newfstatat": "fstatat"}}

every_architecture = pytest.mark.parametrize("machine", ARCHITECTURES)


def run(program: bytes, audit: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """Return the action that the program comes to for one system call."""
    words = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, audit, 0, *words)
    accumulator, position = 0, 0
    instructions = list(struct.iter_unpack("=HBBI", program))
    while True:
        code, if_true, if_false, operand = instructions[position]
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, operand)
            case 0x06:
                return operand
            case 0x15:
                position += if_true if accumulator == operand else if_false
            case 0x45:
                position += if_true if accumulator & operand else if_false
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


def action(machine: str, name: str, *arguments: int, sockets: tuple[int, ...] = (SOCKET,)) -> int:
    architecture = ARCHITECTURES[machine]
    program = seccomp.build(architecture, ANSWER, sockets)
    return run(program, architecture.audit, architecture.numbers[name], arguments)


@every_architecture
def test_what_only_touches_given_things_is_allowed(machine: str) -> None:
    for name in seccomp.ALLOWED:
        assert action(machine, name) == ALLOW, name


@every_architecture
def test_what_the_interpreter_tries_in_passing_is_refused_softly(machine: str) -> None:
    for name in seccomp.REFUSED_SOFTLY:
        if name in ARCHITECTURES[machine].numbers:
            assert action(machine, name) == REFUSE, name


@every_architecture
def test_writing_reaches_the_answer_and_the_passed_sockets_only(machine: str) -> None:
    for descriptor in range(64):
        expected = ALLOW if descriptor in {ANSWER, SOCKET} else KILL
        assert action(machine, "write", descriptor) == expected
        assert action(machine, "sendto", descriptor, 0, 0, 0, 0, 0) == expected
    assert action(machine, "write", SOCKET, sockets=()) == KILL


@every_architecture
@pytest.mark.parametrize("address", [1, 0x7FFF12345678, 1 << 32, 1 << 63])
def test_sending_to_an_address_is_killed(machine: str, address: int) -> None:
    assert action(machine, "sendto", SOCKET, 0, 0, 0, address, 0) == KILL


@every_architecture
def test_receiving_needs_a_passed_socket(machine: str) -> None:
    for name in seccomp.WITH_SOCKETS:
        assert action(machine, name) == ALLOW
        assert action(machine, name, sockets=()) == KILL


@every_architecture
def test_memory_is_anonymous_and_never_executable(machine: str) -> None:
    private, anonymous = 0x2, 0x20
    assert action(machine, "mmap", 0, 4096, 3, private | anonymous) == ALLOW
    assert action(machine, "mmap", 0, 4096, 3, private) == KILL
    assert action(machine, "mmap", 0, 4096, 1, private, ANSWER) == KILL
    for executable in (4, 5, 7):
        assert action(machine, "mmap", 0, 4096, executable, private | anonymous) == KILL
        assert action(machine, "mprotect", 0, 4096, executable) == KILL
    assert action(machine, "mprotect", 0, 4096, 3) == ALLOW


@every_architecture
def test_another_architectures_calls_are_killed(machine: str) -> None:
    program = seccomp.build(ARCHITECTURES[machine], ANSWER)
    for number in range(500):
        assert run(program, FOREIGN[machine], number) == KILL


def test_the_x32_table_is_killed() -> None:
    architecture = ARCHITECTURES["x86_64"]
    program = seccomp.build(architecture, ANSWER)
    for number in (*range(600), 0x3FFFFFFF, 0xFFFFFFFF - 0x40000000):
        assert run(program, architecture.audit, 0x40000000 | number) == KILL


@every_architecture
@given(number=st.integers(0, 0xFFFFFFFF), arguments=st.tuples(*[st.integers(0, (1 << 64) - 1)] * 6))
def test_a_call_that_is_not_named_is_killed(machine: str, number: int, arguments: tuple[int, ...]) -> None:
    architecture = ARCHITECTURES[machine]
    if number not in architecture.numbers.values():
        assert run(seccomp.build(architecture, ANSWER), architecture.audit, number, arguments) == KILL


@every_architecture
def test_every_number_below_a_thousand_has_the_action_of_its_name(machine: str) -> None:
    architecture = ARCHITECTURES[machine]
    names = {number: name for name, number in architecture.numbers.items()}
    program = seccomp.build(architecture, ANSWER)
    for number in range(1000):
        found = run(program, architecture.audit, number, (ANSWER,))
        name = names.get(number, "")
        if name in seccomp.ALLOWED or name in {"write", "sendto", "mprotect"}:
            assert found == ALLOW
        else:
            assert found == (REFUSE if name in seccomp.REFUSED_SOFTLY else KILL)


@every_architecture
def test_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    path, pattern = HEADERS[machine]
    if not Path(path).exists():
        pytest.skip("needs linux-libc-dev")
    header: Mapping[str, str] = {}
    for name, number in re.findall(pattern, Path(path).read_text()):
        header.setdefault(name, number)
    architecture: Architecture = ARCHITECTURES[machine]
    for name, number in architecture.numbers.items():
        assert int(header[RENAMED.get(machine, {}).get(name, name)]) == number, name


def test_every_architecture_with_a_filter_has_its_loader() -> None:
    assert bubblewrap.LOADERS.keys() == ARCHITECTURES.keys()
