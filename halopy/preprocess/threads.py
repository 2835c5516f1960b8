"""How many threads work: parts of one array shared out, and libraries that should not share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

__all__ = ["bands", "in_threads", "one_blas_thread"]


def in_threads(work, parts):
    """Call ``work(part)`` for every part, in as many threads as ``NUMBA_NUM_THREADS`` says (default: all processors).

    For compiled functions that release the interpreter's lock and write to different places: the results are
    then the same for any number of threads. No thread is left when it returns, so that the process may be forked.

    Parameters
    ----------
    work : callable
    parts : sequence

    Examples
    --------
    >>> from halopy.preprocess.threads import in_threads
    >>> squares = [0, 0, 0]
    >>> in_threads(lambda i: squares.__setitem__(i, i**2), range(3))
    >>> squares
    [0, 1, 4]
    """
    import numba

    parts = list(parts)
    threads = min(numba.config.NUMBA_NUM_THREADS, len(parts))
    if threads < 2:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(threads) as pool:
        try:
            for done in [pool.submit(work, part) for part in parts]:
                done.result()
        except BaseException:  # an interrupt too: what has not begun is left undone
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def bands(n):
    """Return slices that share out ``n`` rows: four for each thread, because not all take as long.

    Examples
    --------
    >>> from halopy.preprocess.threads import bands
    >>> len(set(range(100)).union(*(range(100)[band] for band in bands(100))))
    100
    """
    import numba

    step = max(1, -(-n // (4 * numba.config.NUMBA_NUM_THREADS)))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


@contextmanager
def one_blas_thread():
    """Hold the linear algebra under numpy to one thread: with many small matrices more are slower, up to tenfold.

    Examples
    --------
    >>> from halopy.preprocess.threads import one_blas_thread
    >>> @one_blas_thread()
    ... def many_small_products():
    ...     ...
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield
