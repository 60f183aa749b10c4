"""What a stream can show is found out from the stream and the environment."""

import io
import os
import pty

import pytest

from undercroft.cli.render.terminal import Style, Terminal, write


@pytest.fixture
def terminal_stream():
    leader, follower = pty.openpty()
    with open(follower, "w", encoding="utf-8") as stream:
        yield stream
    os.close(leader)


def test_a_pipe_has_no_colour_and_no_width() -> None:
    with io.TextIOWrapper(io.BytesIO(), encoding="utf-8") as stream:
        assert Terminal.of(stream, {}) == Terminal(width=None, color=False, unicode=True)


def test_a_terminal_has_colour(terminal_stream) -> None:
    assert Terminal.of(terminal_stream, {}).color


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colour_can_be_refused(terminal_stream, environment) -> None:
    assert not Terminal.of(terminal_stream, environment).color


def test_an_empty_no_color_refuses_nothing(terminal_stream) -> None:
    assert Terminal.of(terminal_stream, {"NO_COLOR": ""}).color


@pytest.mark.parametrize(
    ("columns", "width"), [("100", 100), ("7", 40), ("", None), ("wide", None), ("-3", None)]
)
def test_columns_names_the_width_even_of_a_pipe(columns: str, width: int | None) -> None:
    assert Terminal.of(io.StringIO(), {"COLUMNS": columns}).width == width


def test_an_encoding_without_unicode_is_noticed() -> None:
    with io.TextIOWrapper(io.BytesIO(), encoding="iso-8859-1") as stream:
        assert not Terminal.of(stream, {}).unicode


def test_what_an_encoding_lacks_is_escaped_instead_of_failing() -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii", write_through=True) as stream:
        write("Zürich 漢\n", stream)
        assert raw.getvalue() == b"Z\\xfcrich \\u6f22\n"


def test_without_colour_a_style_adds_nothing() -> None:
    assert Terminal().paint("text", Style.ALARM) == "text"
    assert Terminal(color=True).paint("text", Style.BAD) == "\x1b[31mtext\x1b[0m"
