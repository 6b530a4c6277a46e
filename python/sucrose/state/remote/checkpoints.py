"""`RemoteCheckpoints`: the states of a program on a server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing

from sucrose.errors import ConfigError
from sucrose.formats.signing_keys import SIGNING_KEY, SigningKey, signing_keys_of
from sucrose.state.background_save import BackgroundSave
from sucrose.state.copies import private_copy
from sucrose.state.remote.address import PASSWORD, USERNAME, Address
from sucrose.state.remote.download import Download
from sucrose.state.remote.saved import RemoteStates
from sucrose.state.remote.session import Session, require_client
from sucrose.state.remote.signature import record_signer
from sucrose.state.remote.upload import Upload
from sucrose.state.settings import Settings
from sucrose.state.values import FrozenState


class RemoteCheckpoints:
    """Implements `Checkpoints`. Thread-safe, and safe in signal handlers and forked children.

    Nothing is sent before the first save or look-up. Programs with the same job id share its generations.

    Args:
        job_id: name of the job; all its keys begin with it.
        endpoint: host name or address of the server.
        port: the server's.
        keep_last: how many generations to keep; None: all.
        password: None where the server asks for none.
        username: None for the default user.
        signing_key: at least 16 bytes, the same in all programs of the job; or several, of which the first
            signs and all are accepted. Without it nobody knows who
            has written what the server has, and only plain values and tensors are restored.
        timeout_s: the longest silence of the server.
        connect_timeout_s: how long a connection may take.

    Raises:
        ConfigError: an argument is malformed, or the package `redis` is not installed.

    Example:
        >>> from sucrose.state.remote import RemoteCheckpoints
        >>> RemoteCheckpoints("job-1", "127.0.0.1", 6379, keep_last=3).where
        "job 'job-1' on 127.0.0.1:6379"
    """

    def __init__(
        self,
        job_id: str,
        endpoint: str,
        port: int,
        *,
        keep_last: int | None = None,
        password: str | None = None,
        username: str | None = None,
        signing_key: SigningKey | None = None,
        timeout_s: float = 30.0,
        connect_timeout_s: float = 5.0,
    ) -> None:
        if keep_last is not None and keep_last < 1:
            raise ConfigError(f"keep_last={keep_last}: expected a number from 1, or None for all")
        require_client()
        self._address = Address(
            job_id=job_id,
            host=endpoint,
            port=port,
            username=username,
            password=password,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
        )
        self._keep_last = keep_last
        self._signer = None if signing_key is None else record_signer(signing_key)
        self._last: BackgroundSave | None = None
        """Whichever save comes next waits for it, so that generations are numbered in the order of their content."""

    @classmethod
    def from_settings(cls, settings: Settings) -> RemoteCheckpoints:
        """What the settings name, with password and signing key from the environment.

        Raises:
            ConfigError: something is missing or malformed.
        """
        return cls(
            settings.job_id or "",
            settings.ckpt_service_endpoint or "",
            settings.ckpt_service_port,
            keep_last=settings.keep_last,
            password=os.environ.get(PASSWORD) or None,
            username=os.environ.get(USERNAME) or None,
            signing_key=signing_keys_of(os.environ),
        )

    @property
    def where(self) -> str:
        """For messages."""
        return str(self._address)

    def save(self, states: Mapping[str, FrozenState]) -> None:
        """Adds a generation, and returns when the server has it.

        Raises:
            UnsupportedError: the name of a state is no proper text.
            NotDurableError: it is there, but the server has not synced it to its disk in time.
            StorageError: it could not be written; earlier ones are untouched.
            ConfigError: the server refuses this user.
        """
        self._wait_for(self._last)
        self._upload(states)

    def begin_save(self, states: Mapping[str, FrozenState]) -> BackgroundSave:
        """Copies the states in host memory, and sends them in the background."""
        copies = {key: private_copy(state) for key, state in states.items()}
        previous = self._last

        def upload() -> None:
            self._wait_for(previous)
            self._upload(copies)

        self._last = BackgroundSave(upload, self.where)
        return self._last

    def newest(self) -> RemoteStates | None:
        """The newest generation that verifies; None where there is none.

        Raises:
            UnsafeObjectError: it is not signed with this program's key.
            FormatVersionError: it was written by a newer release.
            StorageError: the server cannot be reached, or gives no answer.
            ConfigError: the server refuses this user.
        """
        with closing(self._reading()) as session:
            found = Download(session, self._signer).newest()
        if found is None:
            return None
        number, states = found
        return RemoteStates(states, lambda: self._read(number), self._distrust())

    def _upload(self, states: Mapping[str, FrozenState]) -> None:
        Upload(self._address, self._signer, self._keep_last).run(states)

    def _read(self, number: int) -> dict[str, FrozenState]:
        with closing(self._reading()) as session:
            return Download(session, self._signer).read(number)

    def _reading(self) -> Session:
        return Session(self._address, f"reading the states of {self._address}")

    def _distrust(self) -> str | None:
        if self._signer is not None:
            return None  # what it has not signed is not read at all
        return f"anybody could have written the states of {self._address}: set {SIGNING_KEY} in all programs of the job"

    @staticmethod
    def _wait_for(previous: BackgroundSave | None) -> None:
        """Its error is told to whoever waits for it."""
        if previous is not None and previous.is_of_this_process():
            previous.wait_ended()
