"""A small S3 store that believes nothing: `s3.py FILE [RULE ...]` serves FILE in path style and prints its port.

The signature in the query is computed again from what arrived, with the standard library only, by the S3 API reference
("Authenticating requests: using query parameters"). Every request goes to standard error, without its signature. Rules:
  key=BUCKET/KEY     where the object lies (bucket/disk.img)
  keys=ID:SECRET[:TOKEN]   who may read it; without it, everyone who does not sign
  region=NAME        where the bucket lies; other scopes are told so (us-east-1)
  code=STATUS:CODE   every request is refused with that
  expire=N           after N answers the credentials have expired
  gone=N             after N answers the object is removed
"""
import hashlib
import hmac
import http.server
import sys
import time
from urllib.parse import parse_qsl, quote, unquote

path, rules = sys.argv[1], dict(r.split("=", 1) for r in sys.argv[2:])
data = open(path, "rb").read()
region = rules.get("region", "us-east-1")
identity, secret, token = (rules.get("keys", "::") + "::").split(":")[:3]
answers = 0


def signature(host, raw_path, query):
    """What the signature must be, of the parts as they arrived."""
    parameters = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in query if k != "X-Amz-Signature")
    named = dict(query)
    date = named["X-Amz-Date"]
    scope = named["X-Amz-Credential"].split("/", 1)[1]
    canonical = "\n".join([
        "GET", quote(unquote(raw_path), safe="/-_.~"), "&".join(f"{k}={v}" for k, v in parameters),
        f"host:{host}", "", "host", "UNSIGNED-PAYLOAD",
    ])
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


class Store(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def refuse(self, status, code, more="", headers=()):
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{code} it is</Message>{more}</Error>'.encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        global answers
        raw_path, _, raw_query = self.path.partition("?")
        query = parse_qsl(raw_query, keep_blank_values=True)
        named = dict(query)
        print(raw_path, named.get("X-Amz-Credential", "-"), self.headers["Range"], file=sys.stderr, flush=True)
        if "code" in rules:
            status, code = rules["code"].split(":")
            return self.refuse(int(status), code)
        if identity:
            if "X-Amz-Signature" not in named:
                return self.refuse(403, "AccessDenied")
            who, _, theirs, service, end = named["X-Amz-Credential"].split("/")
            if (who, service, end) != (identity, "s3", "aws4_request"):
                return self.refuse(403, "InvalidAccessKeyId")
            if theirs != region:
                return self.refuse(400, "AuthorizationQueryParametersError", f"<Region>{region}</Region>")
            if not hmac.compare_digest(signature(self.headers["Host"], raw_path, query), named["X-Amz-Signature"]):
                return self.refuse(403, "SignatureDoesNotMatch")
            made = time.mktime(time.strptime(named["X-Amz-Date"], "%Y%m%dT%H%M%SZ")) - time.timezone
            if not made - 900 < time.time() < made + int(named["X-Amz-Expires"]):
                return self.refuse(403, "AccessDenied")
            if token != named.get("X-Amz-Security-Token", ""):
                return self.refuse(400, "InvalidToken")
            if "expire" in rules and answers >= int(rules["expire"]):
                return self.refuse(400, "ExpiredToken")
        elif query:
            return self.refuse(403, "AccessDenied")
        is_gone = "gone" in rules and answers >= int(rules["gone"])
        if is_gone or unquote(raw_path) != "/" + rules.get("key", "bucket/disk.img"):
            return self.refuse(404, "NoSuchKey")
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        first, end = int(first), min(int(last or len(data)) + 1, len(data))
        answers += 1
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(data)}")
        self.send_header("Content-Length", str(end - first))
        self.send_header("ETag", '"0123456789abcdef"')
        self.end_headers()
        self.wfile.write(data[first:end])


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store)
print(server.server_port, flush=True)
server.serve_forever()
