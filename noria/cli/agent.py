"""`noria agent`: a worker on this machine, for a server elsewhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from noria.kernel.errors import Invalid

CLUSTER_SLOTS = 32
OF_EXECUTORS = ("NORIA_EXECUTOR_", "NORIA_RAY_", "NORIA_KUBERNETES_", "NORIA_SLURM_")


@click.command(name="agent")
@click.option(
    "--queue",
    "queues",
    multiple=True,
    help="Whose steps it takes; several times for several. Default: default, or the executor's name.",
)
@click.option(
    "--executor",
    default="local",
    show_default=True,
    help="Where steps run: local, ray, kubernetes, slurm, or an installed one.",
)
@click.option("--slots", type=int, default=None, help="How many steps at once. Default: 2, or 32 jobs of a cluster.")
@click.option("--cpus", type=float, default=None, help="Processors that steps with cpu= may use together. Default: all.")
@click.option("--gpus", type=int, default=None, help="GPUs that steps with gpu= may use. Default: all.")
@click.option("--name", default="", help="An agent of the same name takes over what this one held. Default: the host's.")
@click.option("--url", default="", help="The server. Default: NORIA_URL.")
@click.option("--home", type=click.Path(path_type=Path), default=None, help="Where code, values and environments are kept.")
def group(
    queues: tuple[str, ...], executor: str, slots: int | None, cpus: float | None, gpus: int | None, name: str, url: str,
    home: Path | None,
) -> None:  # fmt: skip
    """Run steps of a queue on this machine. It asks the server for them over HTTP(S); nothing has to reach this machine.

    NORIA_TOKEN is a token of somebody with the role agent. It may take any step and acts for whoever started the run while
    it works on it, so give it to machines that you trust.

    With --executor the steps are jobs of a cluster, and this machine only minds them. NORIA_RAY_…, NORIA_KUBERNETES_… and
    NORIA_SLURM_… say which, here or in noria.toml of the agent's home.

    \b
    Example:
      export NORIA_URL=https://noria.example.org NORIA_TOKEN=nrk_…
      noria agent --queue gpu --slots 2
      noria agent --executor kubernetes
    """
    where = url or os.environ.get("NORIA_URL", "")
    if not where:
        raise Invalid("Which server?", where="url", hint="Set NORIA_URL, or give --url https://noria.example.org.")
    if slots is not None and slots < 1:
        raise Invalid("An agent has at least one slot.", where="slots")
    kept = home or Path(os.environ.get("NORIA_HOME") or Path.home() / ".noria" / "agent")
    args = ["--agent", "--url", where, "--home", str(kept), "--name", name, "--executor", executor]
    args += ["--slots", str(slots or (2 if executor == "local" else CLUSTER_SLOTS))]
    args += [part for queue in queues for part in ("--queue", queue)]
    args += [] if cpus is None else ["--cpus", str(cpus)]
    args += [] if gpus is None else ["--gpus", str(gpus)]
    sys.stdout.flush()
    program = [sys.executable, "-m", "noria.pipelines.worker", *args]
    os.execve(sys.executable, program, _environment(kept))  # noqa: S606  # becomes the worker


def _environment(home: Path) -> dict[str, str]:
    """What the worker reads: this environment, and the settings of executors that noria.toml of the home gives."""
    from noria.config import load_config

    told = load_config(home=home).environment()
    return {**{name: value for name, value in told.items() if name.startswith(OF_EXECUTORS) and value}, **os.environ}
