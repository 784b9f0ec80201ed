"""Calls by whichever OpenSSL it is given, by ctypes: with its defaults, as PHP and curl of then did.

python old_openssl.py LIBRARY HOST PORT PATH PAIR AUTHORITY
"""

import base64
import ctypes
import socket
import sys

library, host, port, path, pair, authority = sys.argv[1:]
ssl, pointer = ctypes.CDLL(library), ctypes.c_void_p
for name in ("SSL_CTX_new", "SSL_new", "SSLv23_client_method"):
    getattr(ssl, name).restype = pointer
ssl.SSL_library_init()
context = pointer(ssl.SSL_CTX_new(pointer(ssl.SSLv23_client_method())))
if ssl.SSL_CTX_load_verify_locations(context, authority.encode(), None) != 1:
    sys.exit("the authority cannot be read")
ssl.SSL_CTX_set_verify(context, 1, None)
connection = pointer(ssl.SSL_new(context))
wire = socket.create_connection((host, int(port)))
ssl.SSL_set_fd(connection, wire.fileno())
if ssl.SSL_connect(connection) != 1:
    sys.exit("no handshake")
basic = base64.b64encode(pair.encode()).decode()
head = f"GET {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Basic {basic}\r\n\r\n".encode()
ssl.SSL_write(connection, head, len(head))
answer = ctypes.create_string_buffer(4096)
ssl.SSL_read(connection, answer, len(answer))
sys.stdout.write(answer.raw[9:12].decode())
