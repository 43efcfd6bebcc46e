"""Plays scenarios one after the other inside the lab; a line for each as it ends.

python -m netns_lab.interop.play --out FILE SCENARIO/PEER/ROLE...
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from netns_lab import paths
from netns_lab.errors import LabError
from netns_lab.interop.catalogue import Part, parts
from netns_lab.interop.report import Result, Row, line
from netns_lab.interop.scenario import Run, Skipped
from netns_lab.peers import fetch

SCENARIO_SECONDS = 270.0


async def play(part: Part) -> Row:
    """One scenario to its end, whatever that is."""
    tree = fetch.present(fetch.BUNDLES[part.peer])
    if tree is None:
        return part.row("skip", detail=f"{part.peer} was not fetched")
    folder = paths.build() / "interop" / re.sub(r"\W+", "-", part.label)
    shutil.rmtree(folder, ignore_errors=True)
    run = Run(name=part.label, role=part.role, tree=tree, folder=folder)
    started = time.monotonic()
    result: Result = "pass"
    detail = ""
    try:
        async with asyncio.timeout(SCENARIO_SECONDS):
            await part.scenario.play(run)
    except Skipped as reason:
        result, detail = "skip", str(reason)
        shutil.rmtree(folder, ignore_errors=True)
    except TimeoutError:
        result, detail = "fail", f"not finished after {SCENARIO_SECONDS:g} s"
    except LabError as error:
        result, detail = "fail", "; ".join([str(error), *getattr(error, "__notes__", ())])
    except Exception as error:  # noqa: BLE001 - one scenario's fault must not end the others
        traceback.print_exc()
        result, detail = "fail", f"{type(error).__name__}: {error}"
    return part.row(
        result,
        version=tree.version,
        negotiated=run.negotiated,
        detail="; ".join([*([detail] if detail else []), *run.details]),
        seconds=round(time.monotonic() - started, 1),
    )


async def _main(chosen: Sequence[Part], out: Path) -> int:
    rows: list[Row] = []
    for part in chosen:
        row = await play(part)
        rows.append(row)
        print(line(row), flush=True)
        out.write_text(json.dumps([row.as_json() for row in rows], indent=2) + "\n")
    return 1 if any(row.result == "fail" for row in rows) else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("labels", nargs="+")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    known = {part.label: part for part in parts()}
    return asyncio.run(_main([known[label] for label in arguments.labels], arguments.out))


if __name__ == "__main__":
    sys.exit(main())
