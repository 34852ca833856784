"""Every setting of Noria, in one table: file < environment < flag. No other module reads the environment.

The table writes docs/reference/settings.md; a test compares the two.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from noria.kernel.errors import Invalid
from noria.kernel.secrets import Secret


class Setting(Struct, frozen=True):
    """One setting: its name in code, what it means, its default and how to read it. `NORIA_` + name is its variable."""

    name: str
    help: str
    default: Any
    kind: type = str
    choices: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        return "NORIA_" + self.name.upper()


SETTINGS: tuple[Setting, ...] = (
    Setting("home", "The folder that holds everything a laptop server keeps.", "./noria-home"),
    Setting("host", "The address to listen on. Anything but loopback needs accounts.", "127.0.0.1"),
    Setting("port", "The port of the control plane: UI, API, MLflow's protocol.", 5000, int),
    Setting("gateway_port", "The port of the inference gateway.", 5001, int),
    Setting("grpc_port", "The gateway's port for gRPC, 0 for none; the one after the gateway's unless said.", 5002, int),
    Setting("database", "Where rows live: sqlite:///path or postgresql://…; empty: noria.db in the home.", ""),
    Setting("blobs", "Where bytes live: a folder, s3://, gs:// or az://; empty: a folder in the home.", ""),
    Setting("allowed_hosts", "Comma-separated host names the server answers to, besides its own address.", ""),
    Setting(
        "remotes", "Comma-separated stores that datasets may be pushed to, pulled from or linked: s3://bucket/prefix.", ""
    ),
    Setting("watched", "Comma-separated folders and stores in which new files may start pipelines.", ""),
    Setting(
        "collect_hours",
        "How often bytes of datasets that nothing needs are freed, in hours; 0: only by noria data gc.",
        24.0,
        float,
    ),
    Setting("body_limit_mb", "The largest body of an ordinary request, in MiB.", 16, int),
    Setting("upload_limit_mb", "The largest single upload (artifact, blob), in MiB.", 8192, int),
    Setting(
        "direct_transfers",
        "yes or no: MLflow clients move large files straight to and from an S3, GCS or Azure store, by links signed for them.",
        False,
        bool,
    ),
    Setting("slow_request_s", "How long the head of a request, or a pause in its body, may last, in seconds.", 60.0, float),
    Setting("workers", "How many pipeline steps run at once on this machine.", 2, int),
    Setting(
        "executor_url", "For agents: where the jobs of their executor reach the server; empty: where the agent does.", ""
    ),
    Setting("ray_address", "For agents with Ray: the address of the cluster's dashboard.", "http://127.0.0.1:8265"),
    Setting("ray_token", "For agents with Ray: the token of a cluster that wants one.", "", Secret),
    Setting("ray_runtime_env", 'For agents with Ray: the runtime environment of jobs, as JSON: {"pip": ["noria"]}.', ""),
    Setting("kubernetes_namespace", "For agents with Kubernetes: where jobs are made; empty: the configured one.", ""),
    Setting("kubernetes_context", "For agents with Kubernetes: the context of the kubeconfig; empty: the current one.", ""),
    Setting(
        "kubernetes_image", "For agents with Kubernetes: the image of steps that name none. It has Noria installed.", ""
    ),
    Setting("kubernetes_gpu", "For agents with Kubernetes: what a GPU is called in requests.", "nvidia.com/gpu"),
    Setting("kubernetes_template", "For agents with Kubernetes: a YAML file with a Job, over which ours is laid.", ""),
    Setting("slurm_options", "For agents with Slurm: more options of sbatch, such as --partition=gpu --account=ml.", ""),
    Setting(
        "slurm_python", "For agents with Slurm: the Python of jobs, which has Noria installed; empty: the agent's own.", ""
    ),
    Setting(
        "slurm_folder", "For agents with Slurm: a folder that nodes share, for what jobs print; empty: ~/.noria/slurm.", ""
    ),
    Setting(
        "serve_only", "For nodes elsewhere: the endpoint to serve, or endpoint:revision for one revision; empty: all.", ""
    ),
    Setting("seal_s", "How long recorded answers may wait until monitoring can read them, in seconds.", 2.0, float),
    Setting("lease_s", "How long a pipeline worker may be silent before its step goes to another, in seconds.", 30.0, float),
    Setting(
        "anchors",
        "Places that are told audit checkpoints, by commas: file:/path, syslog://host:514, https://…, s3://bucket/prefix",
        "",
    ),
    Setting(
        "secrets_key",
        "Where the master key of secrets is: file:/path, or command:/path of a program that wraps keys; empty: a file in the home.",
        "",
    ),
    Setting(
        "suspicious_models",
        "What happens when a model whose files would run code is to get traffic: refuse, unless an administrator accepted it, or warn.",
        "refuse",
    ),
    Setting(
        "model_environment",
        "Where models run: auto (an environment of its own for a model that needs other packages than the server has), own, server, or "
        "offline (own, out of uv's cache).",
        "auto",
        choices=("auto", "own", "server", "offline"),
    ),
    Setting(
        "model_isolation",
        "Whether models are kept from this machine's files, network and processes: best (as far as the kernel can), required, or off.",
        "best",
        choices=("best", "required", "off"),
    ),
    Setting(
        "model_variables",
        "Comma-separated variables of the environment that models may read, besides a few of the system.",
        "",
    ),
    Setting(
        "model_memory_mb",
        "Memory of one model's worker with all its processes, in MiB, when its revision says nothing; 0: half of the machine's.",
        0,
        int,
    ),
    Setting(
        "model_disk_mb",
        "What one model's worker may keep in files, in MiB, when its revision says nothing; 0: half of what is free when it starts.",
        0,
        int,
    ),
    Setting("model_tasks", "Processes and threads of one model's worker, when its revision says nothing.", 512, int),
    Setting("log_level", "debug, info, warning or error.", "info"),
    Setting("url", "For the CLI and the SDK: the server to talk to.", ""),
    Setting("token", "For the CLI and the SDK: the API token to sign in with.", "", Secret),
    Setting("mode", "For runs: online, or offline to keep them on this machine until `noria run sync`.", "online"),
    Setting("journals", "For runs: where their journals lie; empty: .noria/journals in the user's home.", ""),
    Setting("journal_limit_mb", "For runs: how much of one run may wait for a server, in MiB.", 1024, int),
    Setting("system_interval_s", "For runs: how often the machine is looked at, in seconds; 0: never.", 10.0, float),
    Setting("price_per_hour", "For runs: what the machine costs an hour; becomes the metric system/cost.", 0.0, float),
    Setting("read_cache_mb", "For reading data without a checkout: how much of it a process keeps, in MiB.", 64, int),
    Setting(
        "public_url", "Where browsers reach the server, such as https://noria.example.org; empty: where it listens.", ""
    ),
    Setting("public_reports", "yes or no: reports may be shared with whoever has the link, signed in or not.", False, bool),
    Setting(
        "persons_private",
        "Whether the addresses that persons give for their notifications may be private ones, such as a mail server inside.",
        False,
        bool,
    ),
    Setting("step_up_minutes", "How recent a sign-in dangerous acts in a browser want, in minutes; 0: any.", 15.0, float),
    Setting("oidc_issuer", "The OpenID Connect provider to sign in with, such as https://id.example.org; empty: none.", ""),
    Setting("oidc_client_id", "What this server is called at the provider.", ""),
    Setting("oidc_client_secret", "Its secret there; empty for a public client.", "", Secret),
    Setting("oidc_scopes", "What is asked of the provider.", "openid profile email groups"),
    Setting("oidc_groups_claim", "The claim that lists somebody's groups at the provider.", "groups"),
    Setting("oidc_groups", "Which of them are groups here: comma-separated theirs=ours.", ""),
    Setting("internal_token", "Shared by the server's own processes; made at start, never set by hand.", "", Secret),
)

_BY_NAME = {s.name: s for s in SETTINGS}


class Config(Struct, frozen=True, kw_only=True):
    """The settings of one process, resolved."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 5000
    gateway_port: int = 5001
    grpc_port: int = 5002
    database: str = ""
    blobs: str = ""
    allowed_hosts: tuple[str, ...] = ()
    remotes: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()
    collect_hours: float = 24.0
    body_limit_mb: int = 16
    upload_limit_mb: int = 8192
    direct_transfers: bool = False
    slow_request_s: float = 60.0
    workers: int = 2
    executor_url: str = ""
    ray_address: str = "http://127.0.0.1:8265"
    ray_token: Secret = Secret("")
    ray_runtime_env: str = ""
    kubernetes_namespace: str = ""
    kubernetes_context: str = ""
    kubernetes_image: str = ""
    kubernetes_gpu: str = "nvidia.com/gpu"
    kubernetes_template: str = ""
    slurm_options: str = ""
    slurm_python: str = ""
    slurm_folder: str = ""
    serve_only: str = ""
    seal_s: float = 2.0
    lease_s: float = 30.0
    anchors: tuple[str, ...] = ()
    secrets_key: str = ""
    suspicious_models: Literal["refuse", "warn"] = "refuse"
    model_environment: Literal["auto", "own", "server", "offline"] = "auto"
    model_isolation: Literal["best", "required", "off"] = "best"
    model_variables: tuple[str, ...] = ()
    model_memory_mb: int = 0
    model_disk_mb: int = 0
    model_tasks: int = 512
    log_level: str = "info"
    url: str = ""
    token: Secret = Secret("")
    mode: str = "online"
    journals: str = ""
    journal_limit_mb: int = 1024
    system_interval_s: float = 10.0
    price_per_hour: float = 0.0
    persons_private: bool = False
    read_cache_mb: int = 64
    public_url: str = ""
    public_reports: bool = False
    step_up_minutes: float = 15.0
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: Secret = Secret("")
    oidc_scopes: str = "openid profile email groups"
    oidc_groups_claim: str = "groups"
    oidc_groups: tuple[str, ...] = ()
    internal_token: Secret = Secret("")

    def environment(self) -> dict[str, str]:
        """The variables that give another process this configuration."""
        return {s.variable: _write(getattr(self, s.name)) for s in SETTINGS}

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.home / 'noria.db'}"

    @property
    def blobs_url(self) -> str:
        return self.blobs or str(self.home / "blobs")

    @property
    def control_url(self) -> str:
        return f"http://{_url_host(self.host)}:{self.port}"

    @property
    def browser_url(self) -> str:
        """Where browsers reach the control plane."""
        return self.public_url.rstrip("/") or self.control_url

    @property
    def gateway_url(self) -> str:
        return f"http://{_url_host(self.host)}:{self.gateway_port}"

    @property
    def grpc_address(self) -> str:
        """Where gRPC is spoken; empty: nowhere."""
        return f"{_url_host(self.host)}:{self.grpc_port}" if self.grpc_port else ""

    @property
    def is_loopback(self) -> bool:
        return self.host in ("127.0.0.1", "localhost", "::1")


def load_config(environ: Mapping[str, str] | None = None, **flags: Any) -> Config:
    """Read `noria.toml` in the home, then NORIA_* variables, then `flags` (None means not given). Raises Invalid."""
    environ = os.environ if environ is None else environ
    home = Path(flags.get("home") or environ.get("NORIA_HOME") or _BY_NAME["home"].default).absolute()
    values: dict[str, Any] = {s.name: s.default for s in SETTINGS} | {"grpc_port": None}
    values |= _file(home / "noria.toml")
    values |= {s.name: environ[s.variable] for s in SETTINGS if environ.get(s.variable)}
    values |= {name: value for name, value in flags.items() if value is not None}
    values["home"] = home
    if values["grpc_port"] is None:
        values["grpc_port"] = int(_read(_BY_NAME["gateway_port"], values["gateway_port"])) + 1
    return Config(**{name: _read(_BY_NAME[name], value) for name, value in values.items()})


def _file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as cause:
        raise Invalid(f"{path} is not valid TOML: {cause}.", where="noria.toml") from cause
    for name in values:
        if name not in _BY_NAME:
            raise Invalid(
                f"{path} has a setting {name!r} that does not exist.", hint="docs/reference/settings.md lists them."
            )
    return values


def _read(setting: Setting, value: Any) -> Any:
    if setting.name == "home":
        return Path(value)
    if setting.name in ("allowed_hosts", "anchors", "remotes", "watched", "oidc_groups", "model_variables"):
        return tuple(h.strip() for h in str(value).split(",") if h.strip())
    if setting.choices and value not in setting.choices:
        raise Invalid(f"{setting.variable} is {value!r}; it is one of {', '.join(setting.choices)}.", where=setting.name)
    if setting.kind is bool:
        return _yes(setting, value)
    if setting.kind is Secret:
        return value if isinstance(value, Secret) else Secret(str(value))
    try:
        return setting.kind(value)
    except ValueError as cause:
        raise Invalid(
            f"{setting.variable} is {value!r}; a {setting.kind.__name__} is needed.", where=setting.name
        ) from cause


def _yes(setting: Setting, value: Any) -> bool:
    word = str(value).strip().lower()
    if word not in ("yes", "no", "true", "false", "1", "0"):
        raise Invalid(f"{setting.variable} is {value!r}; yes or no is needed.", where=setting.name)
    return word in ("yes", "true", "1")


def _write(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Secret):
        return value.reveal()
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _url_host(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # listens everywhere; reachable here
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
