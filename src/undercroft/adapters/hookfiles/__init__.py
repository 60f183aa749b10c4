"""The agent's side of the hook: it is installed, told what counts without the agent, and its spool is read.

    install_hook(hooks, HookSettings(...))
    write_decision(state, LastDecision(...))
    for name in spooled(state):
        event = read_event(state, name)

Every file is replaced as a whole. What stands in the spool was written by the hook as root, and is checked
all the same: a file that is not as it should be is moved aside and never keeps the others back.
"""

from undercroft.adapters.hookfiles.decisions import drop_decision, read_decision, write_decision
from undercroft.adapters.hookfiles.events import (
    BAD_FOLDER,
    checked_event_name,
    read_event,
    remove_event,
    save_sample,
    set_aside,
    spooled,
    sweep,
)
from undercroft.adapters.hookfiles.files import write_file
from undercroft.adapters.hookfiles.installing import (
    HOOK_NAME,
    HOOKS_FOLDER,
    SETTINGS_NAME,
    daemon_pid,
    install_hook,
    prepare_folders,
    read_settings,
    reload_daemon,
    remove_hook,
    shipped_hook,
)
from undercroft.adapters.hookfiles.notes import read_note, write_note
from undercroft.adapters.hookfiles.values import DecidedImage, HookSettings, Installed, LastDecision, RunNote

__all__ = [
    "BAD_FOLDER",
    "HOOKS_FOLDER",
    "HOOK_NAME",
    "SETTINGS_NAME",
    "DecidedImage",
    "HookSettings",
    "Installed",
    "LastDecision",
    "RunNote",
    "checked_event_name",
    "daemon_pid",
    "drop_decision",
    "install_hook",
    "prepare_folders",
    "read_decision",
    "read_event",
    "read_note",
    "read_settings",
    "reload_daemon",
    "remove_event",
    "remove_hook",
    "save_sample",
    "set_aside",
    "shipped_hook",
    "spooled",
    "sweep",
    "write_decision",
    "write_file",
    "write_note",
]
