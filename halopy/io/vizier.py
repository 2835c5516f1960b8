"""Whole tables of VizieR."""

from __future__ import annotations

import datetime
import hashlib
import logging
import re
import time

from astropy.table import QTable

from halopy.errors import HaloInputError, ProviderError
from halopy.io.cache import Cache, is_offline, safe_name, sha256_of
from halopy.io.transfer import Transfer, public_url, with_query
from halopy.io.votable import check_whole, tables_of

__all__ = ["fetch_catalog"]

_log = logging.getLogger(__name__)
_SERVER = "https://vizier.cds.unistra.fr/viz-bin/votable"


def fetch_catalog(table_id, *, columns=None, cache=None, offline=None, refresh=False, transfer=None, server=_SERVER):
    """Fetch a whole table of VizieR, all its rows.

    A busy VizieR can answer with an empty table. An answer without rows is therefore asked for a second time, never
    believed, and never kept.

    Parameters
    ----------
    table_id : str
        For example ``"VIII/100/gleamegc"``, ``"J/A+A/594/A27/psz2"``.
    columns : sequence of str, optional
        Default: those that VizieR shows by default.
    cache : path-like or Cache, optional
        Where to keep it, default see `halopy.io.cache.Cache`.
    offline : bool, optional
        True: take it from the cache or fail. Default: what the environment variable ``HALOPY_OFFLINE`` says.
    refresh : bool, optional
        Fetch it again, default False.
    transfer : Transfer, optional
    server : str, optional

    Returns
    -------
    `~astropy.table.QTable`
        With the units and descriptions of VizieR; ``meta`` holds ``table_id``, ``url``, ``sha256``, ``retrieved``.

    Raises
    ------
    ProviderError
        The network, or VizieR, failed.

    References
    ----------
    Ochsenbein, Bauer & Marcout 2000, A&AS 143, 23

    Examples
    --------
    >>> from halopy.io.archive import fetch_catalog
    >>> psz2 = fetch_catalog("J/A+A/594/A27/psz2")  # doctest: +SKIP
    """
    if not re.fullmatch(r"[A-Za-z0-9+&./_-]*/[A-Za-z0-9+&./_-]+", str(table_id)):
        raise HaloInputError("a table of VizieR is named like VIII/100/gleamegc", keyword="table_id", found=table_id)
    if isinstance(columns, str):
        raise HaloInputError("columns must be a sequence of names", found=columns, hint=f"columns=[{columns!r}]")
    transfer = Transfer() if transfer is None else transfer
    cache = cache if isinstance(cache, Cache) else Cache(cache)
    names = ["*"] if columns is None else [str(name) for name in columns]
    url = with_query(server, {"-source": table_id, "-out": ",".join(names), "-out.max": "unlimited",
                              "-oc.form": "dec"})
    key = f"{safe_name(table_id)}-{hashlib.sha256(url.encode()).hexdigest()[:10]}"
    entry = None if refresh else cache.find("vizier", key)
    if entry is None:
        if is_offline(offline):
            raise ProviderError(f"the table {table_id} is not in the cache, and halopy is offline", cause="offline",
                                provider="vizier", hint="unset HALOPY_OFFLINE, or offline=False")
        with cache.lock("vizier", key):
            entry = None if refresh else cache.find("vizier", key)
            if entry is None:
                entry = cache.add("vizier", key, lambda path: _download(url, path, transfer), suffix=".vot")
    path, record = entry
    table = QTable(_table(path.read_bytes()))
    table.meta.update(table_id=table_id, url=record["url"], sha256=record["sha256"], retrieved=record["retrieved"])
    return table


def _download(url, path, transfer):
    for attempt in (1, 2):
        try:
            receipt = transfer.save(url, path, check=lambda file: check_whole(_read(file)))
            if _table(_read(path)) is not None:
                break
        except ProviderError as error:
            error.provider = "vizier"
            error.url = error.url or public_url(url)
            raise
        except HaloInputError as error:
            raise ProviderError(f"the table cannot be used: {error.message}", cause="format", provider="vizier",
                                url=public_url(url)) from error
        if attempt == 1:
            _log.info("VizieR answered without rows; asking once more")
            time.sleep(transfer.wait)
    else:
        raise ProviderError("the answer has no rows, twice", cause="empty", provider="vizier", url=public_url(url),
                            attempts=2, hint="check the name of the table and of its columns; or later: a busy "
                                             "VizieR answers so too")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"url": receipt.url, "sha256": sha256_of(path), "retrieved": now}


def _read(path):
    with open(path, "rb") as stream:
        return stream.read()


def _table(data):
    """The one table of a reply; None where there is none, or none with rows."""
    tables = [table for table in tables_of(data) if len(table)]
    if len(tables) > 1:
        raise HaloInputError(f"this names {len(tables)} tables", hint="one of them: " + ", ".join(
            str(table.meta.get("name", "?")) for table in tables[:10]))
    return tables[0] if tables else None
