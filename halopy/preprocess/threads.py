"""How many threads work: parts of one array shared out, and libraries that should not share."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from threading import Thread

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
    # Threads begin far apart: when two write into the same new page at once, the system clears it twice.
    stretch = -(-len(parts) // max(threads, 1))
    todo = deque(part for start in range(stretch) for part in parts[start::stretch])
    errors = []

    def run():
        try:
            while True:
                try:
                    part = todo.popleft()
                except IndexError:
                    return
                work(part)
        except BaseException as error:  # an interrupt too: what has not begun is left undone
            todo.clear()
            errors.append(error)

    others = [Thread(target=run) for _ in range(threads - 1)]
    try:
        for thread in others:
            thread.start()
        run()
    finally:
        todo.clear()
        for thread in others:
            if thread.is_alive():  # or it was never started
                thread.join()
    if errors:
        raise errors.pop(0)  # a list that keeps it would keep all that its frames hold


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
