"""`noria server`: everything, on one machine, until Ctrl-C."""

from __future__ import annotations

from typing import Any

import click

from noria.cli.base import CliError
from noria.kernel.errors import NoriaError


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port of UI, API and MLflow's protocol.  [default: 5000]")
@click.option("--gateway-port", type=int, help="Port of the inference gateway.  [default: 5001]")
@click.option("--grpc-port", type=int, help="Port of the gateway's gRPC; 0: none.  [default: the gateway's + 1]")
@click.option("--home", help="Folder that holds everything.  [default: ./noria-home]")
@click.option("--database", help="sqlite:///path or postgresql://…  [default: in the home]")
@click.option("--blobs", help="A folder, s3://, gs:// or az://.  [default: in the home]")
@click.option("--workers", type=int, help="Pipeline steps at once.  [default: 2]")
def group(**flags: Any) -> None:
    """Start Noria: control plane, UI, pipeline workers and inference gateway, until Ctrl-C.

    \b
    Example:
      noria server
      noria server --home /srv/noria --port 8080 --database postgresql://noria@db/noria --blobs s3://noria
    """
    from noria.config import load_config
    from noria.logs import set_up_logging
    from noria.supervisor import running

    try:
        config = load_config(**flags)
        set_up_logging("noria", config.log_level)
        with running(config) as supervisor:
            for line in greeting(config, supervisor.internal_token):
                click.echo(line)
            supervisor.wait()
            click.echo("Stopping…")
    except NoriaError as error:
        raise CliError(error) from error


def greeting(config: object, internal_token: str) -> list[str]:
    """What a person needs to know of a server that just started."""
    from noria.config import Config
    from noria.supervisor import setup_link

    assert isinstance(config, Config)
    setup = setup_link(config.control_url, internal_token)
    lines = [
        f"Noria is ready: {config.control_url}",
        f"  gateway       {config.gateway_url}" + (f"  (gRPC: {config.grpc_address})" if config.grpc_address else ""),
        f"  MLflow        export MLFLOW_TRACKING_URI={config.control_url}",
        f"  home          {config.home}",
    ]
    if setup and config.is_loopback:
        lines.append("  No accounts yet: whoever uses this machine is the local admin. To require sign-in, make one:")
        lines.append(f"                {setup}")
    elif setup:
        lines.append("  No accounts yet, and the server can be reached from outside. Make the first administrator (once):")
        lines.append(f"                {setup}")
    return lines
