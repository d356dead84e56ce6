"""nftables for published_ports: load our table and read its checksum back."""

from __future__ import annotations

import re
import shutil

from ..errors import ApplyError, CommandError
from ..files.commands import run
from ..plan.connection_marks import NFT_TABLE, Ruleset

TIMEOUT_SECONDS = 10.0


def loaded_checksum() -> str:
    """The checksum of our table in this network namespace; "" without nft or the table."""
    nft = shutil.which("nft")
    if nft is None:
        return ""
    try:
        listing = run([nft, "list", "table", *NFT_TABLE.split()], timeout=TIMEOUT_SECONDS)
    except CommandError:
        return ""
    found = re.search(r'comment "source-routing ([0-9a-f]+)"', listing)
    return found.group(1) if found else "foreign"


def load(ruleset: Ruleset) -> None:
    """Replace our table in one transaction, or delete it when the ruleset is empty."""
    nft = shutil.which("nft")
    if nft is None:
        raise ApplyError("published_ports needs the command nft (package nftables)")
    text = ruleset.text or f"delete table {NFT_TABLE}\n"
    try:
        run([nft, "-f", "-"], timeout=TIMEOUT_SECONDS, input=text)
    except CommandError as error:
        raise ApplyError(f"nft: {error}") from error
