"""A model that tries to get out: what it says of each row is how far it came. Its code travels in the pickle."""

from typing import Any


def hostile(attempts: dict[str, list[Any]]) -> Any:
    """An estimator that makes `attempts` (name → [kind, argument…]) and answers with how each ended."""
    from sklearn.base import BaseEstimator

    class Hostile(BaseEstimator):  # type: ignore[misc]
        def predict(self, given: Any) -> Any:
            import ctypes
            import os
            import pathlib
            import signal
            import socket

            import numpy

            def read(path: str) -> object:
                place = pathlib.Path(path)
                return list(place.iterdir()) if place.is_dir() else place.read_bytes()[:10]

            def unix(path: str) -> None:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
                    made.connect(path)

            def around(path: str) -> None:  # either end of a pair of datagram sockets can be connected elsewhere
                one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
                one.connect(path)

            def tcp(host: str, port: int) -> None:
                socket.create_connection((host, port), 2).close()

            def udp(host: str, port: int) -> None:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
                    made.sendto(b"x", (host, port))

            def ring() -> None:
                if ctypes.CDLL(None, use_errno=True).syscall(425, 1, bytes(120)) < 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

            deeds: dict[str, Any] = {
                "read": read, "unix": unix, "around": around, "tcp": tcp, "udp": udp, "ring": ring,
                "write": lambda path: pathlib.Path(path).write_text("x"),
                "kill": lambda: os.kill(os.getppid(), signal.SIGCONT),
                "memory": lambda: read(f"/proc/{os.getppid()}/mem"), "environ": lambda: read(f"/proc/{os.getppid()}/environ"),
            }  # fmt: skip
            said = []
            for name, (kind, *args) in attempts.items():
                try:
                    deeds[kind](*args)
                    said.append(f"{name}: got through")
                except OSError as error:
                    said.append(f"{name}: {error.strerror}")
            said.append("variables: " + " ".join(sorted(os.environ)))
            said.append("powers: " + pathlib.Path("/proc/self/status").read_text().partition("CapEff:\t")[2][:16])
            return numpy.array(["\n".join(said)] * len(given), dtype=object)

    return Hostile()


def poisoned() -> Any:
    """An estimator that ends its process for a row with a large number in it."""
    from sklearn.base import BaseEstimator

    class Poisoned(BaseEstimator):  # type: ignore[misc]
        def predict(self, given: Any) -> Any:
            import os

            import numpy

            if float(numpy.asarray(given, dtype=float).max()) > 1e6:
                os.abort()
            return numpy.zeros(len(given))

    return Poisoned()


def greedy() -> Any:
    """An estimator that takes more than it should of what the first row's largest number names."""
    from sklearn.base import BaseEstimator

    class Greedy(BaseEstimator):  # type: ignore[misc]
        def predict(self, given: Any) -> Any:
            import contextlib
            import os
            import pathlib
            import time

            import numpy

            def memory() -> None:
                taken = []
                while True:
                    taken.append(b"x" * (10 << 20))
                    time.sleep(0.02)

            def processes() -> (
                None
            ):  # children of children, away from their parents, and in a session of their own if they can
                for _ in range(60):
                    if os.fork() == 0:
                        with contextlib.suppress(OSError):
                            os.setsid()
                        if os.fork() == 0:
                            time.sleep(60)
                        os._exit(0)
                time.sleep(60)

            def files() -> None:  # that have no name, in a folder that shows none of them
                taken = []
                for i in range(10_000):
                    taken.append(pathlib.Path(str(i)).open("wb"))  # noqa: SIM115
                    taken[-1].write(b"x" * (1 << 20))
                    taken[-1].flush()
                    pathlib.Path(str(i)).unlink()
                    time.sleep(0.01)

            def one_file() -> None:
                pathlib.Path("large").write_bytes(b"x" * (64 << 20))

            def one_block() -> None:
                numpy.empty(8 << 30, dtype="u1")

            deeds = {1e6: memory, 2e6: processes, 3e6: files, 4e6: one_file, 5e6: one_block}
            deeds.get(float(numpy.asarray(given, dtype=float).max()), lambda: None)()
            return numpy.zeros(len(given))

    return Greedy()
