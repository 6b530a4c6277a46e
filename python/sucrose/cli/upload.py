"""`sucrose upload`: brings to their stores what takes have left in a staging folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sucrose.cli.formatting import tell, write_json

if TYPE_CHECKING:
    from sucrose.snapshot.staged_upload.upload import StagedUpload


def upload(
    staging_dir: Annotated[str, typer.Argument(metavar="STAGING_DIR", help="The folder that takes were given.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Uploads the snapshots that are staged below a folder, and removes the staged copies.

    Credentials come from the variables and files of the store's client.
    """
    from sucrose.snapshot.staged_upload.resuming import resume_uploads

    def told(done: StagedUpload) -> None:
        if done.error is None and not as_json:
            tell(f"{done.url}: uploaded")

    urls = resume_uploads(staging_dir, tell=told)
    if as_json:
        write_json({"uploaded": list(urls)})
    elif not urls:
        tell("nothing to upload")
