"""VOTables that a service has sent: their tables, and what the service says about itself."""

from __future__ import annotations

import io
import re
import threading
import warnings

from halopy.errors import HaloInputError, ProviderError

__all__ = ["ONE_READER", "check_whole", "tables_of"]

ONE_READER = threading.RLock()
"""Held while astropy reads: it swaps the warning filters of the whole process, and threads would mix them up."""

_STATUS = re.compile(rb'<INFO\b(?=[^>]*\bname="QUERY_STATUS")[^>]*\bvalue="(\w+)"[^>]*?(?:/>|>(.*?)</INFO>)',
                     re.IGNORECASE | re.DOTALL)


def check_whole(data):
    """Raise a HaloInputError where bytes are no VOTable, or one that is cut short.

    Parameters
    ----------
    data : bytes
    """
    if b"<VOTABLE" not in data[:8000]:
        raise HaloInputError("this is not a VOTable", found=data[:60].decode("utf-8", "replace"))
    if not re.search(rb"</(\w+:)?VOTABLE>\s*(<!--.*-->\s*)?\Z", data[-4000:], re.DOTALL):
        raise HaloInputError("the VOTable is cut short")


def tables_of(data):
    """Return the tables of a VOTable.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    list of `~astropy.table.Table`
        Those that have columns; none where the service found nothing.

    Raises
    ------
    ProviderError
        The service reports an error, or that it has left out rows.
    HaloInputError
        The VOTable cannot be read, or wants to load something from elsewhere.
    """
    from astropy.io.votable import parse

    check_whole(data)
    status = _STATUS.search(data)
    if status and status[1].upper() in (b"ERROR", b"OVERFLOW"):
        said = re.sub(r"<!\[CDATA\[|\]\]>", " ", (status[2] or b"").decode("utf-8", "replace"))
        said = " ".join(re.sub(r"<[^>]*>", " ", said).split())[:200]
        if status[1].upper() == b"ERROR":
            raise ProviderError(f"the service reports an error: {said or 'it does not say which'}", cause="service")
        raise ProviderError(f"the service has left out rows: {said or 'too many'}", cause="truncated",
                            hint="ask for fewer columns or a smaller field")
    # Rows behind a link, and XML entities, would make a reply reach for other files.
    if re.search(rb"<[\w:]*STREAM\b[^>]*\bhref|<!ENTITY", data, re.IGNORECASE):
        raise HaloInputError("this VOTable wants to load something from elsewhere")
    with ONE_READER, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = [table for table in parse(io.BytesIO(data), verify="ignore").iter_tables() if table.fields]
            return [table.to_table(use_names_over_ids=True) for table in found]
        except Exception as error:  # the XML parser and astropy raise a dozen kinds
            text = " ".join(str(error).split())[:200]
            raise HaloInputError(f"this VOTable cannot be read: {type(error).__name__}: {text}") from error
