"""The vaults of a host, for programs ("undercroft/vaults/1", "undercroft/vault/1")."""

from collections.abc import Sequence
from typing import cast

from undercroft.cli.render.data import DataFormat, render_document
from undercroft.model.schema import Json, encode
from undercroft.usecases.vaults.values import Contents, ServiceState, Summary

_ENTRIES = "entries"


def vaults_document(state: ServiceState, rows: Sequence[Summary], data_format: DataFormat | str) -> str:
    """Return how the service stands, and each vault in figures."""
    vaults: list[Json] = [encode(one) for one in rows]
    return render_document({"schema": "undercroft/vaults/1", **_state(state), "vaults": vaults}, data_format)


def vault_document(found: Contents, state: ServiceState, data_format: DataFormat | str) -> str:
    """Return one vault in figures, and its entries by kind: of the kinds that were asked for."""
    entries: dict[str, Json] = {kind: encode(each) for kind, each in found.entries.items()}
    summary = cast("dict[str, Json]", encode(found.summary))
    service: Json = dict(_state(state))
    return render_document(
        {"schema": "undercroft/vault/1", **summary, "service": service, _ENTRIES: entries}, data_format
    )


def _state(state: ServiceState) -> dict[str, Json]:
    return {**cast("dict[str, Json]", encode(state)), "rests": state.rests}
