"""What each verb of ``qsgw`` does. Every function returns an exit code or raises QsgwError."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from gateway.control import render
from gateway.control.client import ControlClient
from gateway.control.protocol import SCHEMA, ExitCode
from gateway.control.text import Style, clean
from gateway.errors import ConfigProblem, ControlError

Json = dict[str, Any]


def status(arguments: Namespace) -> int:
    snapshot = _snapshot(arguments)
    problems = render.complaints(snapshot) if arguments.check else []
    if arguments.json:
        _print_json(snapshot)
    elif not arguments.check:
        print(render.render_status(snapshot, Style.for_stdout()))
    elif problems:
        print(f"DEGRADED: {'; '.join(problems)}")
    else:
        print(f"OK: {render.summary(snapshot)}")
    return ExitCode.DEGRADED if problems else ExitCode.OK


def sas(arguments: Namespace) -> int:
    snapshot = _snapshot(arguments)
    if arguments.json:
        fields = ("name", "protection", "port", "caks", "saks")
        links = [{key: link[key] for key in fields} for link in render.links_of(snapshot)]
        _print_part(snapshot, "name", "protection", "ike", "children", macsec=links)
    else:
        print(render.render_sas(snapshot, Style.for_stdout()))
    return ExitCode.OK


def keys(arguments: Namespace) -> int:
    snapshot = _snapshot(arguments)
    if arguments.json:
        _print_part(snapshot, "name", "keys", kmes=snapshot["kmes"])
    else:
        print(render.render_keys(snapshot))
    return ExitCode.OK


def macsec(arguments: Namespace) -> int:
    snapshot = _snapshot(arguments, links_only=True)
    if arguments.json:
        _print_json({**_head(snapshot), "macsec": render.links_of(snapshot)})
    else:
        print(render.render_links(snapshot, Style.for_stdout()))
    return ExitCode.OK


def monitor(arguments: Namespace) -> int:
    style = Style.for_stdout()
    with ControlClient(arguments.socket) as client:
        for event in client.monitor():
            line = (
                json.dumps({"schema": SCHEMA, **event})
                if arguments.json
                else render.render_event(event, style)
            )
            print(line, flush=True)
    return ExitCode.OK


def act(arguments: Namespace) -> int:
    """Initiate, terminate, rekey or reload."""
    with ControlClient(arguments.socket) as client:
        result = client.act(arguments.verb, getattr(arguments, "tunnel", None))
    if arguments.json:
        _print_json({"schema": SCHEMA, "result": result})
    else:
        print(clean(result))
    return ExitCode.OK


def version(arguments: Namespace) -> int:
    """Both versions; a daemon that does not run is not an error here."""
    try:
        with ControlClient(arguments.socket) as client:
            daemon = str(client.snapshot()["version"])
    except ControlError:
        daemon = None
    if arguments.json:
        _print_json({"schema": SCHEMA, "version": arguments.client_version, "daemon": daemon})
    else:
        print(f"qsgw {arguments.client_version}\nqsgwd {daemon or 'not reachable'}")
    return ExitCode.OK


def config_check(arguments: Namespace) -> int:
    from pathlib import Path  # noqa: PLC0415  this verb only

    from gateway.config.load import inspect_config, inspect_ends  # noqa: PLC0415  heavy

    _, problems = inspect_config(Path(arguments.file), outside_service=True)
    if arguments.peer is not None:
        problems.add(inspect_ends(Path(arguments.file), Path(arguments.peer)))
    errors, warnings = problems.errors, problems.warnings
    if arguments.json:
        _print_json(
            {
                "schema": SCHEMA,
                "file": arguments.file,
                "valid": not errors,
                "errors": [_problem(problem) for problem in errors],
                "warnings": [_problem(problem) for problem in warnings],
            }
        )
        return ExitCode.FAILED if errors else ExitCode.OK
    for problem in errors:
        print(f"{arguments.file}: {problem}")
    for problem in warnings:
        print(f"{arguments.file}: warning: {problem}")
    print(f"{arguments.file}: {'not usable' if errors else 'good'}")
    return ExitCode.FAILED if errors else ExitCode.OK


def doctor(arguments: Namespace) -> int:
    from gateway.control.doctor import examine  # noqa: PLC0415  heavy
    from gateway.control.finding import State  # noqa: PLC0415  this verb only

    findings = examine(config_file=arguments.config, control_socket=arguments.socket)
    if arguments.json:
        _print_json({"schema": SCHEMA, "findings": [finding.as_json() for finding in findings]})
    else:
        style = Style.for_stdout()
        for finding in findings:
            print(finding.line(style))
    failed = any(finding.state is State.FAILED for finding in findings)
    return ExitCode.FAILED if failed else ExitCode.OK


def _snapshot(arguments: Namespace, *, links_only: bool = False) -> Json:
    """The daemon's snapshot, narrowed to one tunnel or MACsec link if one was named."""
    with ControlClient(arguments.socket) as client:
        snapshot = client.snapshot()
    name = getattr(arguments, "tunnel", None)
    if name is None:
        return snapshot
    tunnels = [tunnel for tunnel in snapshot["tunnels"] if tunnel["name"] == name]
    links = [link for link in render.links_of(snapshot) if link["name"] == name]
    if not (links or (tunnels and not links_only)):
        known = [link["name"] for link in render.links_of(snapshot)]
        if not links_only:
            known = [tunnel["name"] for tunnel in snapshot["tunnels"]] + known
        what = "MACsec link" if links_only else "tunnel"
        text = f'no {what} "{name}" (configured: {", ".join(known) or "none"})'
        raise ControlError(text, ExitCode.NOT_FOUND)
    alarms = [alarm for alarm in snapshot["alarms"] if alarm["subject"] == name]
    return {**snapshot, "tunnels": tunnels, "macsec": links, "alarms": alarms}


def _problem(problem: ConfigProblem) -> Json:
    return {"table": problem.table, "key": problem.key, "message": problem.message}


def _print_part(snapshot: Json, *fields: str, **more: object) -> None:
    """Some fields of every tunnel, under the snapshot's own head."""
    _print_json(
        {
            **_head(snapshot),
            "tunnels": [{key: t[key] for key in fields} for t in snapshot["tunnels"]],
            **more,
        }
    )


def _head(snapshot: Json) -> Json:
    return {key: snapshot[key] for key in ("schema", "gateway", "version", "time")}


def _print_json(message: Json) -> None:
    print(json.dumps(message, ensure_ascii=False))
