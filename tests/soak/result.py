"""What a run of the soak has counted: the run on record, and how the page on reliability tells of it."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soak.kills import Outcome

ON_RECORD = Path(__file__).with_name("last_run.json")
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
MIN_KILLS_ON_RECORD = 1000
_PLACE = re.compile(r"(<!-- soak: begin -->\n).*(<!-- soak: end -->)", re.DOTALL)


def result_of(outcomes: list[Outcome], seed: int) -> dict[str, Any]:
    """The sums, and what each program adds to them."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "seed": seed,
        "kills": sum(outcome.kills for outcome in outcomes),
        "compressed_starts": sum(outcome.compressed_starts for outcome in outcomes),
        "seconds": round(sum(outcome.seconds for outcome in outcomes)),
        "states": sum(outcome.seen["had"] for outcome in outcomes),
        "durable": sum(outcome.seen["durable"] for outcome in outcomes),
        "found": sum(outcome.seen["found"] for outcome in outcomes),
        "lost": 0,  # else the run has failed before
        "broken": sum(outcome.quarantined for outcome in outcomes),
        "programs": {outcome.program: {**vars(outcome), "seen": dict(outcome.seen)} for outcome in outcomes},
    }


def put_on_record(result: dict[str, Any]) -> None:
    """Keeps the counts, and has the page tell of them."""
    ON_RECORD.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_PLACE.sub(lambda place: place[1] + summary(result) + place[2], page), encoding="utf-8")


def summary(result: dict[str, Any]) -> str:
    """A sentence and a table."""
    outcome = f"{result['kills']:,} kills, {result['lost']} states lost, {result['broken']} broken ones found"
    compressed = f"{result['compressed_starts']:,} of the starts compressed"
    lines = [
        f"Last run ({result['date']}, seed {result['seed']}): **{outcome}**; {compressed}.",
        "",
        "| program | kills | while it looked | states | reported durable | found again |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, program in result["programs"].items():
        seen = program["seen"]
        counts = [program["kills"], program["before_the_state_was_found"]]
        counts += [seen.get(what, 0) for what in ("had", "durable", "found")]
        lines.append(" | ".join([f"| {name}", *(f"{count:,}" for count in counts)]) + " |")
    return "\n".join(lines) + "\n"
