"""``qsgw-lab``: the two sites, their networks and their key network on one machine."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from netns_lab import attack_timeline, doctor, paths, place, terminal, testing, timeline
from netns_lab.errors import LabError
from netns_lab.interop import front
from netns_lab.job import Job

TEST_SECONDS = 15 * 60.0
MACHINES_MAX = 4
DEMO_SECONDS = 4 * 60.0
DEMO_ATTACK_SECONDS = 8 * 60.0
DEMO_MACSEC_SECONDS = 20 * 60.0


def say(text: str) -> None:
    """One line of progress, on stderr so that output can be piped."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not arguments.pytest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.rest = rest
    try:
        code: int = arguments.run(arguments)
    except LabError as error:
        print(f"qsgw-lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read has enough, as ``| head`` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


# Private in argparse by name only: it is what ``add_subparsers`` returns.
Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001

LINK_WORDS = "status | watch | cut | heal | rate N | suspect [--since SECONDS] [TEXT] | clear"
ATTACK_WORDS = "NAME [PARAMETER=VALUE] | stop [NAME] | list | script FILE | status"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="qsgw-lab", description=__doc__)
    parser.set_defaults(pytest=False)
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    verb = verbs.add_parser("doctor", help="try what the lab needs; say where it will run")
    verb.add_argument("--json", action="store_true")
    verb.set_defaults(run=_doctor)

    _add_trials(verbs)
    _add_standing(verbs)
    return parser


def _add_trials(verbs: Verbs) -> None:
    """Commands that bring a lab up, prove something in it and take it down."""
    verb = verbs.add_parser("demo", help="cut and heal the quantum link under a hybrid tunnel")
    verb.add_argument("--timeout", type=float, metavar="SECONDS", default=DEMO_SECONDS)
    verb.add_argument(
        "--keep-keys",
        action="store_true",
        help="leave the key log in build/demo/wireshark, to open the capture with Wireshark",
    )
    verb.set_defaults(run=_demo)

    verb = verbs.add_parser("demo-attack", help="attack the quantum links of two tunnels")
    verb.add_argument("--timeout", type=float, metavar="SECONDS", default=DEMO_ATTACK_SECONDS)
    verb.set_defaults(run=_demo_attack)

    verb = verbs.add_parser("demo-macsec", help="MACsec between the sites, its CAKs from QKD")
    verb.add_argument("--timeout", type=float, metavar="SECONDS", default=DEMO_MACSEC_SECONDS)
    verb.set_defaults(run=_demo_macsec)

    verb = verbs.add_parser("interop", help="our gateway against other makers' daemons")
    verb.add_argument("--list", action="store_true", help="say which scenarios there are")
    _add_machines(verb)
    verb.add_argument("words", nargs="*", metavar="WORD", help="only those with it in their name")
    verb.set_defaults(run=_interop)

    verb = verbs.add_parser("run", help="run a command inside an empty lab")
    verb.add_argument("--timeout", type=float, metavar="SECONDS")
    verb.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    verb.set_defaults(run=_run)

    verb = verbs.add_parser("test", help="run the lab tests; further arguments go to pytest")
    verb.add_argument("--timeout", type=float, metavar="SECONDS", default=TEST_SECONDS)
    _add_machines(verb)
    verb.set_defaults(run=_test, pytest=True)


def _add_standing(verbs: Verbs) -> None:
    """Commands to a lab that stays up."""
    verb = verbs.add_parser("up", help="bring the two sites up and leave them running")
    verb.add_argument("--bare", action="store_true", help="the network only, no daemons")
    verb.add_argument(
        "--devices",
        action="append",
        default=[],
        metavar="PRESET",
        help="QKD devices of this preset feed the KMEs; a second one feeds a tunnel of its own",
    )
    verb.add_argument(
        "--macsec", action="store_true", help="a layer-2 link between the sites instead of a tunnel"
    )
    verb.set_defaults(run=_up)

    verb = verbs.add_parser("status", help="show the lab that is up")
    verb.add_argument("--json", action="store_true")
    verb.set_defaults(run=_status)

    verb = verbs.add_parser("exec", help="run a command in a host of the lab that is up")
    verb.add_argument("host", metavar="HOST")
    verb.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    verb.set_defaults(run=_exec)

    verb = verbs.add_parser("shell", help="open a shell in a host of the lab that is up")
    verb.add_argument("host", metavar="HOST")
    verb.set_defaults(run=_shell)

    _add_quantum(verbs)

    verb = verbs.add_parser("down", help="take the lab down")
    verb.set_defaults(run=_down)


def _add_quantum(verbs: Verbs) -> None:
    """The quantum side of the lab that is up, and the calculator."""
    verb = verbs.add_parser("link", help="steer the quantum link of the lab that is up")
    _add_which(verb)
    verb.add_argument("words", nargs=argparse.REMAINDER, metavar=LINK_WORDS)
    verb.set_defaults(run=_quantum, verb="link")

    verb = verbs.add_parser("attack", help="attack the quantum link of the lab that is up")
    _add_which(verb)
    verb.add_argument("words", nargs=argparse.REMAINDER, metavar=ATTACK_WORDS)
    verb.set_defaults(run=_quantum, verb="attack")

    verb = verbs.add_parser("plan", help="what rate and QBER at this loss with this device")
    verb.add_argument("words", nargs=argparse.REMAINDER, metavar="ARGUMENT")
    verb.set_defaults(run=_plan)


def _add_which(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--link", default="link", metavar="NAME", help="link (default) or link-twin"
    )


def _add_machines(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--machines",
        type=int,
        metavar="N",
        default=MACHINES_MAX,
        help=f"at most so many labs side by side, one on a CPU (default: {MACHINES_MAX})",
    )


def _demo(arguments: argparse.Namespace) -> int:
    keep = ("--keep-keys",) if arguments.keep_keys else ()
    code = inside((sys.executable, "-m", "netns_lab.scenarios.demo", *keep), arguments.timeout)
    picture = timeline.draw_run(paths.build() / "demo")
    say(f"picture of the run: {picture or 'not drawn, matplotlib or the run is missing'}")
    return code


def _demo_attack(arguments: argparse.Namespace) -> int:
    command = (sys.executable, "-m", "netns_lab.scenarios.demo_attack")
    code = inside(command, arguments.timeout)
    picture = attack_timeline.draw_run(paths.build() / "demo-attack")
    say(f"picture of the run: {picture or 'not drawn, matplotlib or the run is missing'}")
    return code


def _demo_macsec(arguments: argparse.Namespace) -> int:
    code = inside((sys.executable, "-m", "netns_lab.scenarios.demo_macsec"), arguments.timeout)
    picture = timeline.draw_run(paths.build() / "demo-macsec")
    say(f"picture of the run: {picture or 'not drawn, matplotlib or the run is missing'}")
    return code


def _interop(arguments: argparse.Namespace) -> int:
    if arguments.list:
        print(front.listing())
        return 0
    return front.run(arguments.words, arguments.machines, say)


def _doctor(arguments: argparse.Namespace) -> int:
    diagnosis = doctor.diagnose(say)
    print(doctor.as_json(diagnosis) if arguments.json else doctor.report(diagnosis))
    return 0 if doctor.healthy(diagnosis) else 1


def _run(arguments: argparse.Namespace) -> int:
    return inside(_words(arguments.command), arguments.timeout)


def _words(command: list[str]) -> tuple[str, ...]:
    """The command after an optional ``--``."""
    words = tuple(command[1:] if command[:1] == ["--"] else command)
    if not words:
        raise LabError("no command given")
    return words


def _up(arguments: argparse.Namespace) -> int:
    options = [name for name in ("--bare", "--macsec") if getattr(arguments, name[2:])]
    options += [word for preset in arguments.devices for word in ("--devices", preset)]
    terminal.up(say, options)
    print(terminal.describe(terminal.status()))
    return 0


def _status(arguments: argparse.Namespace) -> int:
    status = terminal.status()
    print(json.dumps(status, indent=2) if arguments.json else terminal.describe(status))
    return 0


def _exec(arguments: argparse.Namespace) -> int:
    return terminal.execute(arguments.host, _words(arguments.command))


def _shell(arguments: argparse.Namespace) -> int:
    prompt = f"PS1={arguments.host}:\\w# "
    return terminal.execute(arguments.host, ("env", prompt, "bash", "--norc"))


def _quantum(arguments: argparse.Namespace) -> int:
    words = arguments.words
    if words[:1] == ["script"] and len(words) == 2:
        words = ["script", str(Path(words[1]).resolve())]
    command = (sys.executable, "-m", "netns_lab.quantum", "--link", arguments.link)
    return terminal.execute("kme-moon", (*command, arguments.verb, *words))


def _plan(arguments: argparse.Namespace) -> int:
    return subprocess.run(["qsgw-kme", "plan", *arguments.words], check=False).returncode


def _down(_arguments: argparse.Namespace) -> int:
    terminal.down()
    return 0


def _test(arguments: argparse.Namespace) -> int:
    checkout = paths.checkout()
    if checkout is None:
        raise LabError("the tests are in the source tree: run qsgw-lab from a checkout")
    os.chdir(checkout)
    chosen = testing.select(arguments.rest, Path("tests/lab"))
    if not doctor.inside():
        testing.fetch_extras(chosen, say)
    cpus = tuple(sorted(os.sched_getaffinity(0)))[: arguments.machines]
    if len(chosen.files) > 1 and len(cpus) > 1 and not doctor.inside():
        return testing.SideBySide(
            cpus=cpus,
            timeout=arguments.timeout,
            options=chosen.options,
            say=say,
        ).run(chosen.files)
    words = (*chosen.exact, *(str(file) for file in chosen.files), *chosen.options)
    name = chosen.files[0].stem if len(chosen.files) == 1 else "all"
    report = testing.reports() / f"{name}.xml"
    report.unlink(missing_ok=True)
    command = testing.pytest_command(words, report, colour=sys.stdout.isatty())
    return inside(command, arguments.timeout)


def inside(command: tuple[str, ...], timeout: float | None) -> int:
    """Run ``command`` inside the lab, here if we are inside already; its exit code."""
    if doctor.inside():
        return subprocess.run(command, check=False).returncode
    job = Job(
        command=command,
        directory=Path.cwd(),
        writable=(paths.build(),),
        timeout=timeout,
    )
    return place.run(job, say)


if __name__ == "__main__":
    sys.exit(main())
