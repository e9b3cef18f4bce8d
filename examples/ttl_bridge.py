"""Trigger pulses of a serial port go to ``mindsight stream --triggers``, each with the time at which it came.

    mindsight stream 'watch:/export?n=192' --session ses-1 --triggers 'tcp://0.0.0.0:8423'    # on the console
    python ttl_bridge.py /dev/ttyUSB0 --to CONSOLE:8423                                       # where the pulses arrive

Needs no package. Every byte that arrives is a pulse: an interface that types "5" for each volume, or one that sets a
line and sends any byte. The clocks of both machines must be synchronised (``mindsight doctor`` tells).
"""

from __future__ import annotations

import argparse
import os
import socket
import termios
import time
import tty

SPEEDS = {9600: termios.B9600, 19200: termios.B19200, 57600: termios.B57600, 115200: termios.B115200}


def forward(port: int, to: tuple[str, int]) -> int:
    """Send one line per pulse until the port closes; returns their number. port : an open file descriptor"""
    n = 0
    with socket.create_connection(to, timeout=10.0) as console:
        console.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a pulse waits for nothing
        while True:
            try:
                pulses = os.read(port, 64)
            except OSError:  # the device is gone
                return n
            if not pulses:
                return n
            at_s = time.time()
            for _ in pulses:
                console.sendall(f"{at_s:.6f}\n".encode())
                n += 1


def open_port(device: str, speed: int) -> int:
    """The device as bytes, without a terminal's editing."""
    port = os.open(device, os.O_RDONLY | os.O_NOCTTY)
    tty.setraw(port)
    attributes = termios.tcgetattr(port)
    attributes[4] = attributes[5] = SPEEDS[speed]
    termios.tcsetattr(port, termios.TCSANOW, attributes)
    return port


def main() -> None:
    parser = argparse.ArgumentParser(description="Serial trigger pulses to a console that streams.")
    parser.add_argument("device", help="/dev/ttyUSB0 for instance")
    parser.add_argument("--to", default="127.0.0.1:8423", help="HOST:PORT that mindsight stream --triggers names")
    parser.add_argument("--speed", type=int, choices=sorted(SPEEDS), default=115200)
    given = parser.parse_args()
    host, _, number = given.to.rpartition(":")
    port = open_port(given.device, given.speed)
    try:
        print(f"{forward(port, (host, int(number)))} pulses")
    except KeyboardInterrupt:
        print("stopped")
    finally:
        os.close(port)


if __name__ == "__main__":
    main()
