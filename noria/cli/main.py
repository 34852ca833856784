"""`noria`: the command line. Groups are loaded when first used, so that `noria --help` stays quick."""

from __future__ import annotations

import importlib

import click

from noria import __version__
from noria.cli.base import Group

GROUPS: dict[str, tuple[str, str]] = {  # name: (module, one line of help)
    "init": ("noria.cli.init", "Make a project of the folder you work in."),
    "server": ("noria.cli.server", "Start Noria: control plane, UI, workers and gateway."),
    "demo": ("noria.cli.demo", "Run the whole loop on real data and leave it running."),
    "data": ("noria.cli.data", "Versions of data: commit, log, diff, checkout."),
    "experiment": ("noria.cli.experiment", "Experiments: list, put away, bring back."),
    "run": ("noria.cli.run", "Runs: launch, list, show."),
    "pipeline": ("noria.cli.pipeline", "Pipelines: run, watch, cancel, resume."),
    "queue": ("noria.cli.queue", "Queues of steps: list, priority, quota."),
    "agent": ("noria.cli.agent", "Run steps of a queue on this machine."),
    "model": ("noria.cli.model", "Models: versions, aliases, timeline, passport."),
    "endpoint": ("noria.cli.endpoint", "Endpoints: deploy, canary, promote, roll back."),
    "monitor": ("noria.cli.monitor", "Monitors and alerts."),
    "channel": ("noria.cli.channel", "Chat, mail and pagers that are told of alerts."),
    "loop": ("noria.cli.loop", "The closed loop: list, run, stop."),
    "report": ("noria.cli.report", "Reports: list, export, save, share."),
    "approval": ("noria.cli.approval", "Approvals: list, approve, reject."),
    "policy": ("noria.cli.policy", "Policies: list, show, try on past decisions."),
    "system": ("noria.cli.system", "AI systems: register, describe, technical file, evidence."),
    "compliance": ("noria.cli.compliance", "Compliance: what is on record of each system, and what is missing."),
    "audit": ("noria.cli.audit", "The audit log: show, export, verify."),
    "key": ("noria.cli.key", "The keys that sign: list, put another in their place."),
    "user": ("noria.cli.user", "Users and service accounts."),
    "secret": ("noria.cli.secret", "Secrets of projects: set, list, delete."),
    "group": ("noria.cli.group", "Groups of people and services, which may lie in each other."),
    "role": ("noria.cli.role", "Roles: the built-in ones and your own."),
    "project": ("noria.cli.project", "Projects: parts of the workspace to give roles on."),
    "label": ("noria.cli.label", "Labels that hide things from whoever lacks a clearance."),
    "access": ("noria.cli.access", "Who may do what, and why."),
    "token": ("noria.cli.token", "API tokens."),
    "trust": ("noria.cli.trust", "Issuers whose tokens stand for service accounts: CI, Kubernetes."),
    "login": ("noria.cli.login", "Sign this machine in, by your browser."),
    "logout": ("noria.cli.login:out", "End this machine's sign-in."),
    "import": ("noria.cli.import_", "Bring runs and models in from MLflow, with their ids."),
    "apply": ("noria.cli.apply", "Declare things in YAML: plan and apply."),
    "doctor": ("noria.cli.doctor", "Check this installation and say what to do."),
    "backup": ("noria.cli.backup", "Back up, verify and restore."),
}


class Root(Group):
    """Loads a group's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(GROUPS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in GROUPS:
            return None
        module, _, attribute = GROUPS[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute or "group")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in GROUPS.items()])


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="noria")
def main() -> None:
    """Noria: the whole life of a machine-learning model in one place.

    \b
    Start with:
      noria demo             the closed loop on real data, in the browser
      noria server           an empty server on http://127.0.0.1:5000
      noria init             a project of the folder you work in

    NORIA_URL and NORIA_TOKEN point the other commands at a server; without them they work on the local home.
    """


if __name__ == "__main__":
    main()
