"""``hf://``: repositories of the Hugging Face Hub, for reading."""

from __future__ import annotations

from sucrose.storage.objects.extras import import_client
from sucrose.storage.objects.generic import open_url as open_generic_url
from sucrose.storage.objects.object_storage import ObjectStorage
from sucrose.storage.objects.options import StorageOptions


def open_url(url: str, options: StorageOptions) -> ObjectStorage:
    """``hf://user/model@revision/path`` and ``hf://datasets/user/set@revision/path``."""
    import_client("huggingface_hub", url, "hf")
    import_client("fsspec", url, "hf")
    return open_generic_url(url, options, is_read_only=True)
