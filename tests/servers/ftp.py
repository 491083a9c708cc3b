"""A small FTP server with faults: `ftp.py FILE [FAULT ...]` serves FILE as d/disk.img and prints its port.

Written from RFC 959, 2428 and 3659. Every command that it sees goes to standard error. Faults:
  no-epsv no-rest ignore-rest no-mdtm no-size tls
  drop=N     every Nth transfer ends after 100000 bytes
  size=N     SIZE says N more than there is
  stall=N    the Nth transfer says nothing
  touch=N    after N transfers the file has another time
  grow=N     after N transfers the file is longer
  pasv-elsewhere   PASV names the address 192.0.2.1
  user=NAME:PASSWORD   no anonymous login
"""
import socket
import sys
import threading
import time

path, faults = sys.argv[1], dict((f.split("=", 1) + [""])[:2] for f in sys.argv[2:])
data = open(path, "rb").read()
number = lambda name: int(faults.get(name) or 0)
transfers = 0
lock = threading.Lock()


def serve(control):
    global transfers
    lines = control.makefile("rb")

    def say(text):
        control.sendall(text.encode() + b"\r\n")

    def passive():
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        return listener

    listener, rest, user, authorised, binary = None, 0, "", False, False
    say("220-hello\r\n of several lines\r\n220 ready")
    for line in lines:
        line = line.rstrip(b"\r\n").decode("latin-1")
        print(line, file=sys.stderr, flush=True)
        verb, _, arg = line.partition(" ")
        verb = verb.upper()
        if verb == "USER":
            user = arg
            say("331 password")
        elif verb == "PASS":
            wanted = faults.get("user", "anonymous:" + arg)
            authorised = f"{user}:{arg}" == wanted
            say("230 in" if authorised else f"530 no, {arg} is wrong")
        elif "tls" in faults:
            say("530 TLS first")
        elif not authorised:
            say("530 log in first")
        elif verb == "TYPE":
            binary = arg == "I"
            say("200 ok")
        elif verb in ("SIZE", "MDTM", "RETR") and arg not in ("d/disk.img", "/d/disk.img", "d/d\u00c3\u00a9 k.img"):
            say("550 no such file")
        elif verb == "SIZE":
            grown = 4096 if "grow" in faults and transfers > number("grow") else 0
            if "no-size" in faults:
                say("502 no")
            else:
                say(f"213 {len(data) + number('size') + grown}" if binary else "550 not in ASCII")
        elif verb == "MDTM":
            touched = "touch" in faults and transfers > number("touch")
            say("502 no" if "no-mdtm" in faults else "213 20260102030405" if touched else "213 20250102030405")
        elif verb == "EPSV":
            if "no-epsv" in faults:
                say("500 what")
            else:
                listener = passive()
                say(f"229 here (|||{listener.getsockname()[1]}|)")
        elif verb == "PASV":
            listener = passive()
            port = listener.getsockname()[1]
            host = "192,0,2,1" if "pasv-elsewhere" in faults else "127,0,0,1"
            say(f"227 here ({host},{port >> 8},{port & 255})")
        elif verb == "REST":
            if "no-rest" in faults:
                say("502 no")
            else:
                rest = 0 if "ignore-rest" in faults else int(arg)
                say("350 go on")
        elif verb == "RETR":
            with lock:
                transfers += 1
                turn = transfers
            say("150 here it comes")
            connection, _ = listener.accept()
            listener.close()
            start, rest = rest, 0
            if number("stall") == turn:
                time.sleep(60)
            dropped = number("drop") and turn % number("drop") == 0
            end = min(len(data), start + 100000) if dropped else len(data)
            try:
                connection.sendall(data[start:end])
                connection.close()
                say("426 broken" if dropped else "226 done")
            except OSError:
                connection.close()
                say("426 you left")
        elif verb == "QUIT":
            say("221 bye")
            return
        else:
            say("502 what")


def guarded(control):
    try:
        serve(control)
    except (OSError, ValueError):
        pass
    finally:
        control.close()


main = socket.socket()
main.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
main.bind(("127.0.0.1", 0))
main.listen(16)
print(main.getsockname()[1], flush=True)
while True:
    threading.Thread(target=guarded, args=(main.accept()[0],), daemon=True).start()
