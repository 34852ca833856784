"""`noria agent`: a worker on this machine, for a server elsewhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from noria.kernel.errors import Invalid


@click.command(name="agent")
@click.option("--queue", "queues", multiple=True, help="Whose steps it takes; several times for several. Default: default.")
@click.option("--slots", type=int, default=2, show_default=True, help="How many steps at once.")
@click.option("--cpus", type=float, default=None, help="Processors that steps with cpu= may use together. Default: all.")
@click.option("--gpus", type=int, default=None, help="GPUs that steps with gpu= may use. Default: all.")
@click.option("--name", default="", help="An agent of the same name takes over what this one held. Default: the host's.")
@click.option("--url", default="", help="The server. Default: NORIA_URL.")
@click.option("--home", type=click.Path(path_type=Path), default=None, help="Where code, values and environments are kept.")
def group(
    queues: tuple[str, ...], slots: int, cpus: float | None, gpus: int | None, name: str, url: str, home: Path | None
) -> None:  # fmt: skip
    """Run steps of a queue on this machine. It asks the server for them over HTTP(S); nothing has to reach this machine.

    NORIA_TOKEN is a token of somebody with the role agent. It may take any step and acts for whoever started the run while
    it works on it, so give it to machines that you trust.

    \b
    Example:
      export NORIA_URL=https://noria.example.org NORIA_TOKEN=nrk_…
      noria agent --queue gpu --slots 2
    """
    where = url or os.environ.get("NORIA_URL", "")
    if not where:
        raise Invalid("Which server?", where="url", hint="Set NORIA_URL, or give --url https://noria.example.org.")
    if slots < 1:
        raise Invalid("An agent has at least one slot.", where="slots")
    kept = home or Path(os.environ.get("NORIA_HOME") or Path.home() / ".noria" / "agent")
    args = ["--agent", "--url", where, "--home", str(kept), "--slots", str(slots), "--name", name]
    args += [part for queue in queues for part in ("--queue", queue)]
    args += [] if cpus is None else ["--cpus", str(cpus)]
    args += [] if gpus is None else ["--gpus", str(gpus)]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "noria.pipelines.worker", *args])  # noqa: S606  # becomes the worker
