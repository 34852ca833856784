"""`noria demo`: the whole loop on real data; the server is left running."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from noria.cli.base import CliError
from noria.kernel.errors import NoriaError


@click.command()
@click.option("--fast", is_flag=True, help="A fifth of the requests: about a minute.")
@click.option("--home", default="./demo-home", show_default=True, help="Folder that holds everything.")
@click.option("--port", type=int, help="Port of UI, API and MLflow's protocol.  [default: 5000]")
@click.option("--gateway-port", type=int, help="Port of the inference gateway.  [default: 5001]")
@click.option("--exit", "exits", is_flag=True, help="Stop the server at the end.")
def group(fast: bool, home: str, port: int | None, gateway_port: int | None, exits: bool) -> None:
    """Run the whole loop on a year of New York's flights, and leave the server running.

    A demo that was stopped goes on where it was; remove its home to begin anew.

    \b
    Example:
      noria demo
      noria demo --fast --exit --home /tmp/demo
    """
    from noria.config import load_config
    from noria.demo.story import Story
    from noria.logs import set_up_logging
    from noria.supervisor import running

    began_s = time.monotonic()

    def say(sentence: str, path: str) -> None:
        click.echo(f"[{time.monotonic() - began_s:5.1f} s] {sentence}")
        if path:
            click.echo(f"          {config.control_url}{path}")
        sys.stdout.flush()

    try:
        config = load_config(home=home, port=port, gateway_port=gateway_port, log_level="warning", seal_s=0.5)
        set_up_logging("noria", config.log_level)
        with running(config) as supervisor:
            say(f"Noria runs on {Path(home)}.", "/")
            story = Story(config.home, config.control_url, config.gateway_url, fast=fast, say=say)
            try:
                story.tell()
            finally:
                story.close()
            say("The wheel has turned. Everything above can be looked at.", "/")
            if not exits:
                click.echo("The server keeps running until Ctrl-C.")
                supervisor.wait()
    except NoriaError as error:
        raise CliError(error) from error
