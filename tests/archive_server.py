"""An archive on this machine that answers as real ones do, well and badly."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import io
import threading
import urllib.parse
import warnings

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits

from halopy.cutouts import tangent_wcs
from halopy.io.transfer import Transfer

A2744 = SkyCoord(3.58, -30.39, unit="deg")
QUICK = Transfer(wait=0, timeout=0.4, deadline=5)


def image_bytes(position=A2744, *, shape=(40, 50), pixel_scale=28 * u.arcsec, seed=1, pixels=None, **cards):
    """A FITS image as SkyView hands it out: without a beam, without a unit."""
    pixels = np.random.default_rng(seed).normal(0, 8e-3, shape) if pixels is None else pixels
    header = tangent_wcs(position, pixel_scale, pixels.shape[-2:]).to_header()
    header.update(cards)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits.PrimaryHDU(pixels.astype(np.float32), header=header).writeto(stream)
    return stream.getvalue()


def page(title, status=200):
    return status, {"Content-Type": "text/html"}, f"<html><head><title>{title}</title></head></html>".encode()


def good(body, content_type="image/fits"):
    return 200, {"Content-Type": content_type}, body


def votable(fields, rows, *, info=""):
    """A VOTable of text cells."""
    names = "".join(f'<FIELD name="{name}" datatype="char" arraysize="*"/>' for name in fields)
    cells = "".join("<TR>" + "".join(f"<TD>{cell}</TD>" for cell in row) + "</TR>" for row in rows)
    return (f'<?xml version="1.0" encoding="UTF-8"?>\n<VOTABLE version="1.3" '
            f'xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">{info}'
            f"<TABLE>{names}<DATA><TABLEDATA>{cells}</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>\n").encode()


class ArchiveServer:
    """Replies by path: each a tuple (status, headers, body) or a callable with the handler; the last one stays."""

    def __init__(self):
        self.replies, self.seen = {}, []
        self.over = threading.Event()
        self.most, self.now, self._lock = 0, 0, threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer._answer(self)

            def log_message(self, *arguments):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def answers(self, path, *replies):
        self.replies[path] = list(replies)
        return self.url + path

    def count(self, path):
        return sum(seen == path for seen, _ in self.seen)

    def _answer(self, handler):
        parts = urllib.parse.urlsplit(handler.path)
        with self._lock:
            self.seen.append((parts.path, dict(urllib.parse.parse_qsl(parts.query))))
            waiting = self.replies.get(parts.path, [(404, {}, b"not here")])
            reply = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            self.now += 1
            self.most = max(self.most, self.now)
        handler.close_connection = True
        try:
            with contextlib.suppress(OSError):
                if callable(reply):
                    reply(handler)
                else:
                    send(handler, *reply)
        finally:
            with self._lock:
                self.now -= 1

    # The traps, as callables.

    def hangs(self, handler):
        self.over.wait(10)

    def hangs_within(self, handler):
        head(handler, 200, {"Content-Length": "5760"})
        handler.wfile.write(b"SIMPLE  =")
        handler.wfile.flush()
        self.over.wait(10)

    def drips(self, handler):
        head(handler, 200, {"Content-Length": "100000"})
        while not self.over.wait(0.02):
            handler.wfile.write(b" ")
            handler.wfile.flush()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.over.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def head(handler, status, headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()


def send(handler, status, headers, body):
    head(handler, status, {"Content-Length": str(len(body))} | headers)
    handler.wfile.write(body)


def half(body):
    """The promise of a whole file, half of it, and the end of the connection."""
    return lambda handler: send(handler, 200, {"Content-Length": str(len(body))}, body[: len(body) // 2])


def half_unannounced(body):
    """Half of a file from a server that never says how long it is."""
    def reply(handler):
        handler.protocol_version = "HTTP/1.0"
        head(handler, 200, {"Content-Type": "image/fits"})
        handler.wfile.write(body[: len(body) // 2])
    return reply


def chunked_half(handler):
    head(handler, 200, {"Transfer-Encoding": "chunked"})
    handler.wfile.write(b"100\r\n" + b"S" * 256 + b"\r\n100\r\nSSS")


def chunked(body):
    def reply(handler):
        head(handler, 200, {"Transfer-Encoding": "chunked"})
        for start in range(0, len(body), 4000):
            part = body[start:start + 4000]
            handler.wfile.write(b"%x\r\n" % len(part) + part + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")
    return reply


def closes(handler):
    """The connection ends without a word."""


def packed(body):
    return gzip.compress(body)
