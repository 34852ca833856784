"""`noria login` and `noria logout`: this machine signs in as somebody, by their browser."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import click

from noria.cli.base import CliError
from noria.client import credentials
from noria.client.api import Api, find_server, to_error
from noria.kernel.errors import Invalid, NoriaError, Unauthenticated

GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@click.command()
@click.argument("url", default="")
@click.option("--no-browser", is_flag=True, help="Only print the link.")
def group(url: str, no_browser: bool) -> None:
    """Sign this machine in to a server, by approving it in a browser. The token is kept for this user alone.

    \b
    Example:
      noria login https://noria.example.org
    """
    try:
        _sign_in(url, opens=not no_browser)
    except NoriaError as error:
        raise CliError(error) from error


@click.command()
@click.argument("url", default="")
def out(url: str) -> None:
    """End the token of this machine, and forget it.

    \b
    Example:
      noria logout https://noria.example.org
    """
    try:
        address = _address(url)
        token = credentials.saved(address)
        if not token:
            raise Invalid(f"This machine is not signed in to {address}.")
        credentials.save(address, "")
        with _open(address, token) as api:
            api.delete(f"/tokens/{token.split('_')[1]}")
        click.echo(f"Signed out of {address}.")
    except NoriaError as error:
        raise CliError(error) from error


def _sign_in(url: str, *, opens: bool) -> None:
    address = _address(url)
    with _open(address, "") as api:
        started = _post(api, "/oauth/device", {"client_name": socket.gethostname()})[1]
        click.echo(
            f"Open {started['verification_uri']} and type {started['user_code']}, or open\n{started['verification_uri_complete']}"
        )
        if opens and os.environ.get("DISPLAY"):
            click.launch(started["verification_uri_complete"])
        wait_s, until_s = float(started["interval"]), time.monotonic() + started["expires_in"]
        while time.monotonic() < until_s:
            time.sleep(wait_s)
            status, said = _post(api, "/oauth/token", {"grant_type": GRANT, "device_code": started["device_code"]})
            if status == 200:
                credentials.save(address, said["access_token"])
                click.echo(f"Signed in to {address} for {said['expires_in'] // 86_400} days.")
                return
            if said["error"] == "slow_down":
                wait_s += 5
            elif said["error"] != "authorization_pending":
                raise Unauthenticated(said["error_description"], hint="Start noria login again.")
    raise Unauthenticated("Nobody approved it in time.", hint="Start noria login again.")


def _address(url: str) -> str:
    address = find_server(url or None)
    if not address:
        raise Invalid("Which server?", hint="noria login https://noria.example.org, or set NORIA_URL.")
    return address.rstrip("/")


def _open(address: str, token: str) -> Api:
    import httpx

    headers = {"authorization": f"Bearer {token}"} if token else {}
    return Api(httpx.Client(base_url=address, headers=headers, timeout=30.0), url=address)


def _post(api: Api, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """Status and answer; what is not in the words of OAuth is raised."""
    answer = api.http.post(path, data=form)
    is_oauth = answer.headers.get("content-type", "").startswith("application/json")
    said = answer.json() if is_oauth else {}
    if answer.status_code != 200 and not isinstance(said.get("error"), str):
        raise to_error(answer.status_code, answer.content)
    return answer.status_code, said
