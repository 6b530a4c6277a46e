"""Settings of the state managers."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sucrose.errors import ConfigError
from sucrose.state.configured import configured_settings
from sucrose.state.program import default_root
from sucrose.state.settings import Settings


def settings(**environment: str) -> Settings:
    return Settings.from_environment(environment)


def with_config(text: str) -> Settings:
    return settings(LATTICE_CHECKPOINT_CONFIG=text)


def test_without_variables_states_are_saved_at_exit_to_a_local_directory() -> None:
    given = settings()
    assert given.type == "local"
    assert given.root is None
    assert given.atexit_saving
    assert not given.periodic_saving
    assert given.keep_last is None
    assert not given.autopatch


@pytest.mark.parametrize("text", ["local", "LOCAL", " Local "])
def test_the_type_is_taken_in_any_case(text: str) -> None:
    assert settings(LATTICE_CHECKPOINT_TYPE=text).type == "local"


@pytest.mark.parametrize("text", ["", "disk", "locale", "s4"])
def test_an_unknown_type_is_an_error_that_lists_the_known_ones(text: str) -> None:
    with pytest.raises(ConfigError, match=r"LATTICE_CHECKPOINT_TYPE='.*': expected one of local, s3, remote"):
        settings(LATTICE_CHECKPOINT_TYPE=text)


def test_a_value_may_contain_equals_signs_and_spaces_around_it_are_trimmed() -> None:
    given = with_config(" root = /data/run=3 , keep_last = 5,periodic_saving=Enabled, periodic_saving_interval = 1e1 ")
    assert given.root == "/data/run=3"
    assert given.keep_last == 5
    assert given.periodic_saving
    assert given.periodic_saving_interval == 10.0


def test_an_unknown_key_is_an_error_with_the_nearest_known_one() -> None:
    with pytest.raises(
        ConfigError, match=r"LATTICE_CHECKPOINT_CONFIG='rot=/x': unknown key 'rot'; did you mean 'root'\?"
    ):
        with_config("rot=/x")
    with pytest.raises(ConfigError, match="known are root, atexit_saving"):
        with_config("zzz=1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("root", "'root' is not key=value"),
        ("root=/a,", "'' is not key=value"),
        ("=3", "'=3' is not key=value"),
        ("root=", "'root' has no value"),
        ("root=/a,root=/b", "'root' is given twice"),
        ("atexit_saving=yes", "atexit_saving='yes'; expected enabled or disabled"),
        ("periodic_saving=1", "periodic_saving='1'; expected enabled or disabled"),
        ("periodic_saving=enabled", "needs periodic_saving_interval"),
        ("periodic_saving_interval=soon", "expected a number of seconds above 0"),
        ("periodic_saving_interval=0", "expected a number of seconds above 0"),
        ("periodic_saving_interval=-1", "expected a number of seconds above 0"),
        ("periodic_saving_interval=nan", "expected a number of seconds above 0"),
        ("periodic_saving_interval=inf", "expected a number of seconds above 0"),
        ("keep_last=0", "expected a whole number from 1, or all"),
        ("keep_last=-1", "expected a whole number from 1, or all"),
        ("keep_last=2.5", "expected a whole number from 1, or all"),
        ("keep_last=²", "expected a whole number from 1, or all"),
        ("ckpt_service_port=0", "expected a port from 1 to 65535"),
        ("ckpt_service_port=65536", "expected a port from 1 to 65535"),
        ("ckpt_service_port=redis", "expected a port from 1 to 65535"),
    ],
)
def test_a_malformed_config_is_an_error_that_shows_it(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_config(text)
    assert f"LATTICE_CHECKPOINT_CONFIG={text!r}: " in str(caught.value)
    assert message in str(caught.value)


def test_of_a_server_host_port_and_job_are_taken() -> None:
    given = settings(
        LATTICE_CHECKPOINT_TYPE="remote",
        LATTICE_CHECKPOINT_CONFIG="job_id=a=b,ckpt_service_endpoint=host,ckpt_service_port=7000",
    )
    assert (given.type, given.job_id, given.ckpt_service_endpoint, given.ckpt_service_port) == (
        "remote",
        "a=b",
        "host",
        7000,
    )


@pytest.mark.parametrize(
    ("kind", "text", "keys"),
    [
        ("local", "periodic_saving_interval=5,job_id=a", ("job_id", "periodic_saving_interval")),
        ("local", "root=/a,periodic_saving=enabled,periodic_saving_interval=5", ()),
        ("remote", "root=/a,job_id=b,ckpt_service_endpoint=c", ("root",)),
    ],
)
def test_keys_that_mean_nothing_beside_the_others_are_known(kind: str, text: str, keys: tuple[str, ...]) -> None:
    given = settings(LATTICE_CHECKPOINT_TYPE=kind, LATTICE_CHECKPOINT_CONFIG=text)
    assert given.without_effect == keys


@pytest.mark.parametrize(("text", "level"), [("debug", logging.DEBUG), ("ERROR", logging.ERROR), ("15", 15)])
def test_a_logging_level_is_a_name_or_a_number(text: str, level: int) -> None:
    assert settings(LATTICE_LOGLEVEL=text).loglevel == level


def test_an_unknown_logging_level_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="LATTICE_LOGLEVEL='loud': expected one of DEBUG, INFO"):
        settings(LATTICE_LOGLEVEL="loud")


def test_log_lines_are_shown_once_also_where_the_program_sets_logging_up_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, root = logging.getLogger("sucrose"), logging.getLogger()
    monkeypatch.setattr(ours, "handlers", [])
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(ours, "level", logging.NOTSET)
    monkeypatch.setenv("LATTICE_LOGLEVEL", "INFO")
    configured_settings.cache_clear()
    configured_settings()
    configured_settings.cache_clear()
    ours.info("one")
    assert capsys.readouterr().err == "INFO sucrose: one\n"
    logging.basicConfig(format="of the program: %(message)s")
    ours.info("two")
    assert capsys.readouterr().err == "of the program: two\n"


def test_autopatch_knows_torch_and_nothing_else() -> None:
    assert settings(LATTICE_AUTOPATCH="Torch").autopatch
    with pytest.raises(ConfigError, match="LATTICE_AUTOPATCH='jax': expected torch"):
        settings(LATTICE_AUTOPATCH="jax")


class TestTheDefaultRoot:
    @pytest.fixture(autouse=True)
    def a_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
        return tmp_path

    def root_of(self, file: Path | None, monkeypatch: pytest.MonkeyPatch) -> str:
        main = SimpleNamespace() if file is None else SimpleNamespace(__file__=str(file))
        monkeypatch.setitem(sys.modules, "__main__", main)  # type: ignore[arg-type]  # a stand-in
        return default_root()

    def test_lies_below_the_users_state_directory(self, a_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.root_of(a_home / "train.py", monkeypatch).startswith(f"{a_home}/.local/state/torch-sucrose/train-")
        monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
        assert self.root_of(a_home / "train.py", monkeypatch).startswith("/elsewhere/torch-sucrose/train-")
        monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
        assert self.root_of(a_home / "train.py", monkeypatch).startswith(f"{a_home}/.local/state/")

    def test_differs_between_programs_of_one_name(self, a_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.root_of(a_home / "a" / "train.py", monkeypatch) != self.root_of(
            a_home / "b" / "train.py", monkeypatch
        )

    def test_is_the_same_through_a_link_and_from_another_directory(
        self, a_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (a_home / "train.py").touch()
        (a_home / "link.py").symlink_to(a_home / "train.py")
        absolute = self.root_of(a_home / "train.py", monkeypatch)
        assert self.root_of(a_home / "link.py", monkeypatch) == absolute
        monkeypatch.chdir(a_home)
        assert self.root_of(Path("train.py"), monkeypatch) == absolute

    def test_differs_between_the_arguments_that_count(self, a_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__file__=str(a_home / "train.py")))  # type: ignore[arg-type]  # a stand-in
        roots = {default_root(arguments) for arguments in ((), ("--lr", "1"), ("--lr", "2"), ("--lr 2",), ("\udcff",))}
        assert len(roots) == 5

    def test_of_a_package_is_named_after_it(self, a_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = self.root_of(a_home / "trainer" / "__main__.py", monkeypatch)
        assert os.path.basename(root).startswith("trainer-")

    def test_without_a_main_file_depends_on_the_working_directory(
        self, a_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(a_home)
        here = self.root_of(None, monkeypatch)
        assert here == self.root_of(None, monkeypatch)
        monkeypatch.chdir("/")
        assert self.root_of(None, monkeypatch) != here
