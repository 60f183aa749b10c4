"""Where the fleet's files lie on this host.

places = Places.default()
records = open_records(places.database_url)
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STATE_VARIABLE = "UNDERCROFT_STATE"
RUN_VARIABLE = "UNDERCROFT_RUN"
ETC_VARIABLE = "UNDERCROFT_ETC"
DATABASE_VARIABLE = "UNDERCROFT_FLEET_DATABASE"
POLICY_VARIABLE = "UNDERCROFT_POLICY"
GUEST_STATE_VARIABLE = "UNDERCROFT_GUEST_STATE"
GUEST_SOCKET_VARIABLE = "UNDERCROFT_GUEST_SOCKET"

POLICY_NOTE = "policy.path"
DATABASE_NOTE = "database.url"

STATE_FOLDER = Path("/var/lib/undercroft")
RUN_FOLDER = Path("/run/undercroft")
ETC_FOLDER = Path("/etc/undercroft")


@dataclass(frozen=True, slots=True)
class Places:
    """The folders, and the files in them.

    Attributes:
        state: what has to survive a power cut.
        run: what goes with a reboot.
        etc: what the administrator writes.
        database: the record's URL or path where the administrator names one, "" for `STATE/fleet.db`.
        policy_path: the policy's file or folder where the administrator names one, "" for `ETC/policy.yaml`.
        guest_folder: of the guest service where the administrator names one, "" for `STATE-guest`.
        guest_address: its socket where the administrator names one, "" for `RUN-guest/guest.sock`.
    """

    state: Path
    run: Path
    etc: Path
    database: str = ""
    policy_path: str = ""
    guest_folder: str = ""
    guest_address: str = ""

    @classmethod
    def default(cls, environment: Mapping[str, str] | None = None) -> "Places":
        """Return the places that the environment names, and the system's for the rest.

        The agent may run with another policy or record (`undercroft up --policy`): what it has noted of them
        counts for commands too, or they would judge by another policy than the agent.

        Args:
            environment: variables by name, None for the process's own. An empty one counts as missing.
        """
        variables = os.environ if environment is None else environment
        state = Path(variables.get(STATE_VARIABLE) or STATE_FOLDER)
        return cls(
            state,
            Path(variables.get(RUN_VARIABLE) or RUN_FOLDER),
            Path(variables.get(ETC_VARIABLE) or ETC_FOLDER),
            variables.get(DATABASE_VARIABLE) or _noted(state / DATABASE_NOTE),
            variables.get(POLICY_VARIABLE) or _noted(state / POLICY_NOTE),
            variables.get(GUEST_STATE_VARIABLE) or "",
            variables.get(GUEST_SOCKET_VARIABLE) or "",
        )

    def note_for_commands(self) -> None:
        """Note which policy and record the agent runs with. Raises OSError."""
        for name, value in ((POLICY_NOTE, self.policy_path), (DATABASE_NOTE, self.database)):
            path = self.state / name
            if value:
                temporary = path.with_suffix(".new")
                temporary.write_text(value, encoding="utf-8")
                temporary.chmod(0o600)
                temporary.replace(path)
            else:
                path.unlink(missing_ok=True)

    @property
    def database_url(self) -> str:
        """What `open_records` opens: a path (SQLite) or a `postgresql://` URL."""
        return self.database or str(self.state / "fleet.db")

    @property
    def spool(self) -> Path:
        """The folder of hook events that are not on record yet."""
        return self.state / "spool"

    @property
    def decisions(self) -> Path:
        """The folder of the agent's last answers, by machine, for when it is away."""
        return self.state / "decisions"

    @property
    def run_folder(self) -> Path:
        """The folder of what the hook knows of each running machine."""
        return self.state / "run"

    @property
    def hook_key(self) -> Path:
        """The key that authenticates the last answers."""
        return self.state / "hook.key"

    @property
    def audit_key(self) -> Path:
        """The Ed25519 key that signs the log's heads."""
        return self.state / "audit.key"

    @property
    def heads(self) -> Path:
        """The signed heads, one JSON line each."""
        return self.state / "heads.jsonl"

    @property
    def admission_socket(self) -> Path:
        """The socket on which the agent answers the hook."""
        return self.run / "admission.sock"

    @property
    def guest_state(self) -> Path:
        """The folder of the guest service: the vaults' log, its key, what was seen of each guest.

        It belongs to the service's user, who may not pass through `state`, which is root's alone: so it lies
        beside it and not below.
        """
        return (
            Path(self.guest_folder) if self.guest_folder else self.state.with_name(f"{self.state.name}-guest")
        )

    @property
    def guest_socket(self) -> Path:
        """The socket on which the guest service takes the agent's orders.

        Its folder is not `run`: that goes when the agent is stopped, and the service goes on without it.
        """
        if self.guest_address:
            return Path(self.guest_address)
        return self.run.with_name(f"{self.run.name}-guest") / "guest.sock"

    @property
    def kept_policy(self) -> Path:
        """The last good policy's texts, for a start at which the policy's files are wrong or gone."""
        return self.state / "policy.kept"

    @property
    def policy(self) -> Path:
        """The policy file or folder."""
        return Path(self.policy_path) if self.policy_path else self.etc / "policy.yaml"


def _noted(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
