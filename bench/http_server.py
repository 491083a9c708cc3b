"""A web server of files with ranges that waits a while before it answers each request, as one far away would.

    http_server.py DIRECTORY MILLISECONDS     prints its port; GET /requests tells how many others there were, GET /bytes
                                              how many bytes they were answered with
"""

import contextlib
import http.server
import os
import re
import sys
import threading
import time

ROOT, DELAY = sys.argv[1], float(sys.argv[2]) / 1000
COUNT, BYTES, LOCK = [0], [0], threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        name = os.path.basename(self.path.split("?")[0])
        if name == "requests":
            return self.answer(200, [], str(COUNT[0]).encode())
        if name == "bytes":
            return self.answer(200, [], str(BYTES[0]).encode())
        with LOCK:
            COUNT[0] += 1
        time.sleep(DELAY)
        try:
            file = open(os.path.join(ROOT, name), "rb")
        except OSError:
            return self.answer(404, [], b"")
        with file, contextlib.suppress(ConnectionError):
            stat = os.fstat(file.fileno())
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            first, end = 0, stat.st_size
            headers = [("ETag", f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"')]
            if asked:
                first, end = int(asked[1]), min(int(asked[2] or end) + 1, end)
                headers.append(("Content-Range", f"bytes {first}-{end - 1}/{stat.st_size}"))
            self.answer(206 if asked else 200, headers, None, end - first)
            with LOCK:
                BYTES[0] += end - first
            while first < end:
                first += os.sendfile(self.connection.fileno(), file.fileno(), first, end - first)

    def answer(self, status, headers, body, length=None):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.flush()
        if body:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A client that went away is no news."""


server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
