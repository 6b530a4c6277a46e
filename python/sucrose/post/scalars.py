"""All scalars of a workspace's runs, attempts joined, as arrays."""

from __future__ import annotations

from collections.abc import Sequence

from sucrose.post.choosing import check_all_found, name_filter
from sucrose.post.event_scalars import RunScalars
from sucrose.post.run_folders import find_runs
from sucrose.post.series import Series


def read_scalars(
    logs_dir: str, runs: Sequence[str] | None = None, tags: Sequence[str] | None = None, *, attempts: bool = False
) -> dict[tuple[str, str], Series]:
    """Curves by run and tag, sorted.

    Where attempts of one run overlap, the newest one has the say: what it says to forget is forgotten, and
    where steps are equal its value stays.

    Args:
        logs_dir: the folder of logs, such as ``workspace/logs``.
        runs: names or shell patterns; None for all.
        tags: likewise.
        attempts: whether attempts that were superseded are runs, too, such as ``base/case1/superseded-1``.

    Raises:
        ConfigError: one of `runs` or `tags` is not there.
        OSError: an event file cannot be read.
    """
    folders = find_runs(logs_dir, attempts=attempts)
    check_all_found("run", runs, [folder.name for folder in folders], logs_dir)
    is_run_wanted, is_tag_wanted = name_filter(runs), name_filter(tags)
    found: dict[tuple[str, str], Series] = {}
    seen: set[str] = set()
    chosen = [folder for folder in folders if is_run_wanted(folder.name)]
    for folder in chosen:
        scalars = RunScalars(is_tag_wanted)
        for path in folder.files:
            scalars.read(path)
        seen |= scalars.tags
        found.update(((folder.name, tag), series) for tag, series in scalars.series().items())
    check_all_found("tag", tags if chosen else None, seen, logs_dir)
    return found
