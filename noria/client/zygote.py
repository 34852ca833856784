"""A warm process per code: it has imported a pipeline's file once, and forks one process for each step.

    python -m noria.client.zygote --control FD --code FOLDER --entry MODULE

Speaks lines of JSON with the worker on a socket; the end of a step's output pipe comes along as a file descriptor. When the
worker dies the socket ends, and every step is killed. Where forking is not safe (threads, CUDA, macOS), each step is a new
process that imports the file again (`--job`).

No process of a step outlives it. Its group is killed; and on Linux, whoever left the group becomes a child of this process when
the step ends (it is a "subreaper"), and is killed then.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from noria.client.environment import environment
from noria.client.pipeline import Step
from noria.client.values import Job, Result, decode, encode
from noria.pipelines.model.values import Value

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
ORPHANS_WAIT_S = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--control", type=int, default=-1)
    parser.add_argument("--code", required=True)
    parser.add_argument("--entry", required=True)
    parser.add_argument("--job", default="", help="Do this one job and end.")
    options = parser.parse_args()
    die_with_parent(signal.SIGKILL)
    code = Path(options.code)
    if options.job:
        _do_once(code, options.entry, options.job)
    control = socket.socket(fileno=options.control)
    try:
        load(code, options.entry)
    except BaseException:
        say(control, failed=_clean_traceback(sys.exc_info()[1]))
        return 1
    digest, body = environment()
    say(control, ready=True, environment=digest, environment_body=body.decode())
    Zygote(control, code, options.entry).serve()
    return 0


def load(code: Path, entry: str) -> None:
    """Import the pipeline's file from the captured code, which comes first on the path."""
    os.environ["NORIA_ZYGOTE"] = "1"  # so that a file without a main guard does not start itself again
    sys.path.insert(0, str(code))
    clash = sys.modules.get(entry)
    if clash is None:
        importlib.import_module(entry)
        return
    # A file named like a module that is already loaded, such as queue.py.
    spec = importlib.util.spec_from_file_location(entry, code / (entry.replace(".", "/") + ".py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[entry] = module
    spec.loader.exec_module(module)


def fork_is_safe() -> bool:
    """No threads of Python, no CUDA, not macOS: only then does a forked child find what it needs."""
    torch = sys.modules.get("torch")
    has_cuda = bool(torch and torch.cuda.is_initialized())
    return sys.platform.startswith("linux") and threading.active_count() == 1 and not has_cuda


def die_with_parent(number: int) -> None:
    """Ask Linux for a signal when the parent dies; elsewhere the closing socket has to do."""
    parent = os.getppid()
    _prctl(PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:  # it died between the two calls
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """Ask Linux to make processes below this one, when their parent dies, children of this one instead of init's."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def say(control: socket.socket, **message: Any) -> None:
    control.sendall(json.dumps(message).encode() + b"\n")


class Zygote:
    """Forks on request, reports ends, passes on signals."""

    def __init__(self, control: socket.socket, code: Path, entry: str) -> None:
        self._control, self._code, self._entry = control, code, entry
        self._forks = fork_is_safe()
        self._pids: dict[str, int] = {}
        self._spare: Spare | None = None
        self._buffer = b""
        self._fds: list[int] = []

    def serve(self) -> None:
        """Until the worker closes the socket."""
        adopt_orphans()
        gc.collect()
        gc.freeze()  # a child that looks for circles must not copy every page of what was imported
        woken, wake = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's to answer
        with selectors.DefaultSelector() as ready:
            ready.register(self._control, selectors.EVENT_READ)
            ready.register(woken, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if key.fileobj is self._control:
                        if not self._listen():
                            self._kill_all()
                            return
                    else:
                        with contextlib.suppress(BlockingIOError):
                            os.read(woken, 4096)
                self._reap()

    def _listen(self) -> bool:
        data, fds, _, _ = socket.recv_fds(self._control, 65536, 8)
        self._fds += fds
        if not data:
            return False
        self._buffer += data
        while b"\n" in self._buffer:
            line, self._buffer = self._buffer.split(b"\n", 1)
            message = json.loads(line)
            if "run" in message:
                self._start(message["run"], message["job"], self._fds.pop(0))
            elif "signal" in message:
                self._signal(message["signal"], message["number"])
        return True

    def _start(self, key: str, job: str, output: int) -> None:
        pid = self._fork(job, output) if self._forks else self._spawn(job, output)
        os.close(output)
        self._pids[key] = pid
        say(self._control, started=key, pid=pid)
        if self._forks:
            self._spare = Spare(self._control)  # beside the step that just started; the next one need not wait for it

    def _fork(self, job: str, output: int) -> int:
        """The spare's number, once it has its job."""
        spare, self._spare = self._spare, None
        if spare is None or not spare.take(job, output):
            spare = Spare(self._control)
            if not spare.take(job, output):
                raise OSError("a process that was just forked is gone")
        return spare.pid

    def _spawn(self, job: str, output: int) -> int:
        args = [
            sys.executable,
            "-P",
            "-m",
            "noria.client.zygote",
            "--code",
            str(self._code),
            "--entry",
            self._entry,
            "--job",
            job,
        ]
        process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
        process.returncode = 0  # it is waited for here, by its number
        return process.pid

    def _signal(self, key: str, number: int) -> None:
        """To the step's whole group; a pid that was reaped is never signalled."""
        if key in self._pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pids[key], number)

    def _reap(self) -> None:
        for key, pid in list(self._pids.items()):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # whatever the step left behind
            _, status = os.waitpid(pid, 0)
            del self._pids[key]
            self._kill_orphans()
            say(self._control, exited=key, code=os.waitstatus_to_exitcode(status))

    def _kill_orphans(self) -> None:
        """End what ended steps left behind. Running steps adopt their own orphans, so a child that is no step is left over."""
        until_s = time.monotonic() + ORPHANS_WAIT_S
        while (left := self._orphans()) and time.monotonic() < until_s:
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            for pid in left:  # its own children become ours when it is gone, and are found the next time
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.002)

    def _orphans(self) -> list[int]:
        try:
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        except OSError:  # not Linux
            return []
        ours = {*self._pids.values(), self._spare.pid if self._spare else 0}
        return [int(pid) for pid in children if int(pid) not in ours]

    def _kill_all(self) -> None:
        for pid in self._pids.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        for pid in self._pids.values():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self._pids.clear()
        self._spare = None  # it ends with the socket to it, and is an orphan until then
        self._kill_orphans()


class Spare:
    """A process forked ahead, in a session of its own, that waits for the job it will do."""

    def __init__(self, control: socket.socket) -> None:
        self._wire, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self._wire.close()
            self._wait(control, theirs)
        theirs.close()

    def _wait(self, control: socket.socket, wire: socket.socket) -> NoReturn:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        die_with_parent(signal.SIGKILL)
        control.close()
        job, fds, _, _ = socket.recv_fds(wire, 65536, 1)
        if not fds:  # nobody needs it any more
            os._exit(0)
        wire.close()
        do(job.decode(), fds[0])

    def take(self, job: str, output: int) -> bool:
        """Give it its job; False when it is gone."""
        with self._wire:
            try:
                socket.send_fds(self._wire, [job.encode()], [output])
            except OSError:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self.pid, 0)
                return False
        return True


def _do_once(code: Path, entry: str, job: str) -> NoReturn:
    """Import and be the step: for where a fork is not safe. What the import prints was printed once already."""
    output, quiet = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.set_inheritable(output, False)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        load(code, entry)
    except BaseException as error:
        os.write(output, _clean_traceback(error).encode())
        os._exit(1)
    do(job, output)


def do(job_path: str, output: int) -> NoReturn:
    """Run one step in this process and end it. Never returns: what follows in the parent's stack is not ours."""
    code = 1
    try:
        _redirect(output)
        atexit._clear()  # what the warm process registered is its own to end
        job = msgspec.json.decode(Path(job_path).read_bytes(), type=Job)
        adopt_orphans()
        if job.procs:
            Path(job.procs).write_text(str(os.getpid()))
        os.environ.update(job.env)
        os.chdir(job.folder)
        result = run(job)
        _end_well()
        Path(job.folder, "result.json.part").write_bytes(msgspec.json.encode(result))
        Path(job.folder, "result.json.part").rename(Path(job.folder, "result.json"))
        code = 0 if result.ok else 1
    except BaseException:
        with contextlib.suppress(Exception):
            traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def run(job: Job) -> Result:
    """Call the step's function; a raised error is a result too, with its traceback in the output."""
    try:
        inputs = decoded(job.inputs, Path(job.blobs), Path(job.folder, ".values"))
        function = find(job.function)
        _fresh_randomness()
        returned = call(function, inputs)
        return Result(ok=True, value=encode(returned, Path(job.folder)))
    except BaseException as error:
        sys.stdout.flush()
        sys.stderr.write(_clean_traceback(error))
        return Result(ok=False, error=_one_line(error))


def decoded(inputs: dict[str, Value], blobs: Path, scratch: Path) -> dict[str, Any]:
    """The inputs as the step takes them; those that are files lie in `scratch`."""
    return {name: decode(value, blobs, scratch) for name, value in inputs.items()}


def call(function: Any, inputs: dict[str, Any]) -> Any:
    """Call it with its inputs by name; `*` and `**` mark those that take any number."""
    args, kwargs = arguments(function, inputs)
    return function(*args, **kwargs)


def arguments(function: Any, inputs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The inputs as the function takes them: by position, and by name."""
    import inspect

    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            args += inputs.get("*" + name, [])
        elif parameter.kind is parameter.VAR_KEYWORD:
            kwargs |= inputs.get("**" + name, {})
        elif parameter.kind is parameter.KEYWORD_ONLY:
            kwargs |= {name: inputs[name]} if name in inputs else {}
        elif name in inputs:
            args.append(inputs[name])
    return args, kwargs


def find(name: str) -> Any:
    """The function `module:name`. Raises LookupError when the code has none."""
    module_name, _, path = name.partition(":")
    found: Any = sys.modules.get(module_name) or importlib.import_module(module_name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise LookupError(f"{module_name} has no {path}.")
        found = getattr(found, part)
    return found.function if isinstance(found, Step) else found


def _redirect(output: int) -> None:
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    quiet = os.open(os.devnull, os.O_RDONLY)
    os.dup2(quiet, 0)
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _fresh_randomness() -> None:
    """NumPy's global generator, unless seeded by the user, would give every forked step the same numbers."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        generator = numpy.random.mtrand._rand._bit_generator
        if getattr(generator, "_seed_seq", None) is not None:
            numpy.random.seed()


def _end_well() -> None:
    """What a Python process does at its end: wait for threads, run what was registered since the fork, flush."""
    # The interpreter's own order: tell thread pools to end (they wait for that, not for their last task), then join threads.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()


def _clean_traceback(error: BaseException | None) -> str:
    """The traceback without our own frames."""
    if error is None:
        return ""
    entry = error.__traceback__
    while entry is not None and _is_ours(entry.tb_frame.f_code.co_filename):
        entry = entry.tb_next
    shown = entry or error.__traceback__
    return "".join(traceback.format_exception(type(error), error, shown))


def _is_ours(file: str) -> bool:
    return file == __file__ or "importlib" in file


def _one_line(error: BaseException) -> str:
    text = "".join(traceback.format_exception_only(error)).strip()
    first = text.splitlines()[-1] if isinstance(error, SyntaxError) else text.splitlines()[0]
    return first[:2000]


if __name__ == "__main__":
    sys.exit(main())
