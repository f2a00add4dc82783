"""A plain peer of an echo server, which puts the bytes on the wire in ways that a tidy client does not.

    client.py HOST PORT SCENARIO...       runs these scenarios
    client.py --list                      prints their names

It exits with 0 if every echo was right. It needs Python 3 and nothing else.
"""

import socket
import struct
import sys
import threading

TIMEOUT_SECONDS = 60


def pattern(length):
    """A body whose bytes differ along the way, so that a shift shows."""
    return bytes(range(251)) * (length // 251) + bytes(range(length % 251))


def framed(body):
    return struct.pack("<I", len(body)) + body


class Peer:
    """A connection to the server."""

    def __init__(self, address, receive_buffer=None):
        self.socket = socket.socket()
        self.socket.settimeout(TIMEOUT_SECONDS)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(address)
        # Each send is a segment of its own.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, wire):
        self.socket.sendall(wire)

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def receive(self):
        (length,) = struct.unpack("<I", self.receive_exactly(4))
        return self.receive_exactly(length)

    def receive_exactly(self, count):
        received = bytearray()
        while len(received) < count:
            piece = self.socket.recv(min(count - len(received), 65536))
            if not piece:
                raise EOFError(f"the stream ended {count - len(received)} bytes too early")
            received += piece
        return bytes(received)

    def expect(self, *bodies):
        """Receives these frames, in this order."""
        for body in bodies:
            echo = self.receive()
            if echo != body:
                raise AssertionError(f"{len(body)} bytes {body[:8]!r}.. came back as {len(echo)} bytes {echo[:8]!r}..")

    def expect_end(self):
        """Receives the end of the stream, and nothing before it."""
        rest = self.socket.recv(65536)
        if rest:
            raise AssertionError(f"the stream should have ended, but goes on with {rest[:8]!r}")


def send_in_pieces(address, pieces, *bodies):
    """Sends each piece so that it reaches the server in a read of its own; expects the echoes of `bodies`.

    The server has one thread for both connections. An echo on the second one shows that its loop has turned since the
    piece was sent. It takes two: in the turn that answers the first, the piece may still stand behind it in line.
    """
    with Peer(address) as peer, Peer(address) as witness:
        for piece in pieces:
            peer.send(piece)
            for question in (b"have you", b"turned?"):
                witness.send(framed(question))
                witness.expect(question)
        peer.expect(*bodies)


def send_at_once(address, wire, *bodies):
    """Sends everything while it receives the echoes, since neither side may wait for the other to finish."""
    with Peer(address) as peer:
        sender = threading.Thread(target=peer.send, args=(wire,), daemon=True)
        sender.start()
        peer.expect(*bodies)
        sender.join(TIMEOUT_SECONDS)


def cut(wire, *lengths):
    """Cuts pieces of these lengths off the front; the rest is the last piece."""
    pieces = []
    for length in lengths:
        pieces.append(wire[:length])
        wire = wire[length:]
    return pieces + [wire]


def header_then_body(address):
    body = pattern(1025)
    send_in_pieces(address, cut(framed(body), 4), body)


def header_in_one_and_three(address):
    send_in_pieces(address, cut(framed(b"one and three"), 1, 3), b"one and three")


def header_in_two_and_two(address):
    send_in_pieces(address, cut(framed(b"two and two"), 2, 2), b"two and two")


def header_in_one_one_and_two(address):
    # The header's last bytes come together with the body, and the next header begins in the same piece.
    wire = framed(b"one, one and two") + framed(b"next")
    send_in_pieces(address, cut(wire, 1, 1, 20), b"one, one and two", b"next")


def byte_at_a_time(address):
    bodies = [b"hello", b"", b"A"]
    wire = b"".join(framed(body) for body in bodies)
    send_in_pieces(address, cut(wire, *[1] * (len(wire) - 1)), *bodies)


def many_frames_in_one_send(address):
    bodies = [pattern(i % 100) for i in range(5000)]
    send_at_once(address, b"".join(framed(body) for body in bodies), *bodies)


def frames_of_all_sizes(address):
    sizes = [0, 1, 2, 3, 4, 5, 255, 256, 1023, 1024, 1025, 4095, 4096, 4097]
    sizes += [65531, 65532, 65533, 65535, 65536, 65537, 100_000, 262_144, 1_048_575, 1_048_576]
    # Upwards and downwards, so that each size comes after a smaller and after a larger one.
    bodies = [pattern(size) for size in sizes + sizes[::-1]]
    send_at_once(address, b"".join(framed(body) for body in bodies), *bodies)


def half_close_then_receive(address):
    # The last echo is larger than all the buffers on its way: most of it is still queued in the server when the end of
    # our side gets there.
    bodies = [pattern(i) for i in range(100)] + [pattern(16 * 1024 * 1024)]
    with Peer(address, receive_buffer=65536) as peer:
        peer.send(b"".join(framed(body) for body in bodies))
        peer.half_close()
        peer.expect(*bodies)
        peer.expect_end()


def end_inside_a_frame(address):
    inside_the_header = b"\x05\x00"
    before_the_body = b"\x05\x00\x00\x00"
    inside_the_body = b"\x05\x00\x00\x00hel"
    with Peer(address) as bystander:
        for unfinished in (inside_the_header, before_the_body, inside_the_body):
            with Peer(address) as peer:
                peer.send(framed(b"whole") + unfinished)
                peer.half_close()
                peer.expect(b"whole")
                peer.expect_end()
            bystander.send(framed(b"still there?"))
            bystander.expect(b"still there?")


def length_that_counts_itself(address):
    echo_with_header(address, lambda length: struct.pack(">I", 4 + length))


def three_byte_length_little_endian(address):
    echo_with_header(address, lambda length: length.to_bytes(3, "little"))


def three_byte_length_big_endian(address):
    echo_with_header(address, lambda length: length.to_bytes(3, "big"))


def echo_with_header(address, header):
    """Expects the echoes of bodies of many lengths, with these headers."""
    bodies = [pattern(length) for length in (0, 1, 252, 253, 255, 256, 65_535, 65_536, 100_000)]
    wire = b"".join(header(len(body)) + body for body in bodies)
    with Peer(address) as peer:
        sender = threading.Thread(target=peer.send, args=(wire,), daemon=True)
        sender.start()
        if peer.receive_exactly(len(wire)) != wire:
            raise AssertionError("the echo is not what was sent")
        sender.join(TIMEOUT_SECONDS)


def lines_of_text(address):
    # Python reads and writes text by the line itself. The last line has no end.
    lines = ["one", "", "two words", "\r within", "x" * 100_000, "unfinished"]
    for end in ("\n", "\r\n"):
        with Peer(address) as peer:
            with peer.socket.makefile("w", newline=end, encoding="utf-8") as text:
                text.write("\n".join(lines))
            peer.half_close()
            with peer.socket.makefile("r", newline="\n", encoding="utf-8") as text:
                echoes = [line.removesuffix("\n") for line in text]
            if echoes != lines:
                raise AssertionError(f"{echoes!r:.200} came back")


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        header_then_body,
        header_in_one_and_three,
        header_in_two_and_two,
        header_in_one_one_and_two,
        byte_at_a_time,
        many_frames_in_one_send,
        frames_of_all_sizes,
        half_close_then_receive,
        end_inside_a_frame,
        length_that_counts_itself,
        three_byte_length_little_endian,
        three_byte_length_big_endian,
        lines_of_text,
    )
}


def main(arguments):
    if arguments == ["--list"]:
        print("\n".join(SCENARIOS))
        return
    if len(arguments) < 3 or not set(arguments[2:]) <= SCENARIOS.keys():
        sys.exit(__doc__)
    address = (arguments[0], int(arguments[1]))
    for name in arguments[2:]:
        try:
            SCENARIOS[name](address)
        except (OSError, EOFError, AssertionError) as error:
            sys.exit(f"{name}: {error}")
        print(f"{name}: ok")


if __name__ == "__main__":
    main(sys.argv[1:])
