"""An HTTP server for docs/recipes.md that, as S3 and nginx and unlike Python's
own, serves parts of files.

range_server.py DIRECTORY PORTFILE: serves it on loopback until it is killed,
and writes the number of its port.
"""

import http.server
import os
import re
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        path = os.path.join(sys.argv[1], os.path.basename(self.path))
        if not os.path.isfile(path):
            self.send_error(404)
            return
        size = os.path.getsize(path)
        begin, end = 0, size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)",
                              self.headers.get("Range", ""))
        if wanted:
            begin, end = int(wanted[1]), min(int(wanted[2]) + 1, size)
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - begin))
        if wanted:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        self.end_headers()
        if with_body:
            with open(path, "rb") as file:
                file.seek(begin)
                self.wfile.write(file.read(end - begin))


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(sys.argv[2] + ".new", "w") as port:
    print(server.server_address[1], file=port)
os.rename(sys.argv[2] + ".new", sys.argv[2])
server.serve_forever()
