from __future__ import annotations

from typing import Annotated, Any

import typer

from mindsight.cli.options import Key, Subject, To, Yes, confirm
from mindsight.cli.style import JOB_FAILED, JOB_STOPPED, AsJson, example, show, show_rows
from mindsight.errors import BadRequest

subject_app = typer.Typer(help="Subjects of the service: pseudonyms, consent, erasure.", no_args_is_help=True)

Use = Annotated[
    list[str] | None,
    typer.Option(
        help="what the data may be used for, and by whom at most: USE=WHO, several times; USE: decoding, calibration,"
        " pretraining, export; WHO: laboratory, institution, public"
    ),
]
Form = Annotated[str, typer.Option(help="version of the consent form that was signed; never a name")]


@subject_app.command(
    "enrol", epilog=example("mindsight subject enrol --use calibration=laboratory --use decoding=laboratory --form v3")
)
def enrol(use: Use = None, form: Form = "", to: To = "", key: Key = "", as_json: AsJson = False) -> None:
    """Enrol a subject and print its pseudonym. Who it is stays with you."""
    from mindsight.cli.service import enrolment

    with enrolment(to, key) as service:
        subject = service.enrol(_consent(use, form) if use or form else None)
    show(subject, {"subject": subject}, as_json)


@subject_app.command("list", epilog=example("mindsight subject list"))
def list_subjects(to: To = "", key: Key = "", as_json: AsJson = False) -> None:
    """Print the subjects, the bundle of each, and what the data may be used for."""
    from mindsight.cli.service import enrolment

    with enrolment(to, key) as service:
        found = service.subjects()
    rows = [(one["subject"], one["bundle"] or "no bundle", _uses(one.get("consent"))) for one in found]
    none = "no subjects yet: mindsight subject enrol"
    show_rows(("subject", "bundle", "may be used for"), rows, found, as_json, none)


@subject_app.command(
    "consent", epilog=example("mindsight subject consent sub-abc234 --use decoding=laboratory --form v4")
)
def consent(subject: Subject, use: Use = None, form: Form = "", to: To = "", key: Key = "") -> None:
    """State what the subject has agreed to, in place of what was stated before. Without --use, all is withdrawn."""
    from mindsight.cli.service import enrolment

    stated = _consent(use, form)
    with enrolment(to, key) as service:
        service.state_consent(subject, stated)
    typer.echo(f"{subject}  {_words(stated)}")


@subject_app.command(
    "erase", epilog=example("mindsight subject erase sub-abc234", failed=JOB_FAILED, stopped=JOB_STOPPED)
)
def erase(
    subject: Subject,
    yes: Yes = False,
    to: To = "",
    key: Key = "",
) -> None:
    """Erase a subject: sessions, archives, bundles, jobs; the job fails if anything is left."""
    from mindsight.cli.service import enrolment, follow

    confirm(f"Erase {subject} with all its sessions? It cannot be undone", yes=yes)
    with enrolment(to, key) as service:
        follow(service, service.erase(subject))


def _consent(use: list[str] | None, form: str) -> dict[str, Any]:
    if not form:
        raise BadRequest("expected --form, the version of the consent form that was signed", code="cli.consent")
    uses = dict(text.partition("=")[::2] for text in use or [])
    if not all(uses.values()):
        raise BadRequest("expected --use like calibration=laboratory", code="cli.consent")
    return {"uses": uses, "form": form}


def _uses(consent: dict[str, Any] | None) -> str:
    return "consent not stated" if consent is None else _words(consent)


def _words(stated: dict[str, Any]) -> str:
    uses = ", ".join(f"{use} by the {who}" for use, who in stated["uses"].items()) or "nothing"
    return f"{uses} (form {stated['form']})"
