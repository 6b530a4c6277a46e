"""What a training script sees of its scenario: epochs, steps, files, and what comes back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import sucrose
from sucrose.errors import ConfigError, StateMismatchError
from sucrose.scenarios import opened

CONFIG = """
base:
  model.input_dim: 3
  optim.lr: 1e-1

base/case1:
  model.output_dim: 2
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "config.yaml").write_text(CONFIG)
    yield tmp_path
    for scenario in [*opened._OPEN.values()]:
        scenario.close()


def add_to_config(workspace: Path, text: str) -> None:
    config = workspace / "config.yaml"
    config.write_text(config.read_text() + text)


def model_of(value: float) -> torch.nn.Linear:
    model = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(model.weight, value)
    return model


def files(workspace: Path, name: str = "base/case1") -> list[str]:
    folder = workspace / "ckpts" / name
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def weight(model: torch.nn.Linear) -> float:
    return float(model.weight[0, 0].detach())


def test_every_third_of_seven_epochs_is_written_and_the_last_when_the_scenario_is_closed(workspace: Path) -> None:
    ssc = sucrose.scenario(workspace, "base/case1")
    model = model_of(0)
    for epoch in sucrose.epoch_range(7):
        torch.nn.init.constant_(model.weight, epoch)
        ssc.save_state_dict(3, model=model)
    assert files(workspace) == ["base_case1_e3.pt", "base_case1_e6.pt"]
    torch.nn.init.constant_(model.weight, 99)  # after its end an epoch's state is not the program's any more
    ssc.close()
    assert files(workspace) == ["base_case1_e3.pt", "base_case1_e6.pt", "base_case1_e7.pt"]
    assert torch.load(workspace / "ckpts/base/case1/base_case1_e7.pt")["model"]["weight"][0, 0] == 7


def test_a_file_holds_the_states_under_their_names_and_the_step(workspace: Path) -> None:
    with sucrose.Scenario(workspace, "base/case1") as ssc:
        model = model_of(1)
        optim = torch.optim.SGD(model.parameters(), lr=ssc["optim.lr"], momentum=0.9)
        model(torch.ones(1, 3)).sum().backward()
        optim.step()
        ssc.step(5)
        ssc.save_state_dict(model=model, optim=optim, best=0.5)
        content = torch.load(workspace / "ckpts/base/case1/base_case1_e1.pt", weights_only=True)
    assert torch.equal(content["model"]["weight"], model.weight)
    assert content["optim"]["param_groups"][0]["lr"] == 0.1
    assert (content["step"], content["best"]) == (5, 0.5)


@pytest.mark.parametrize("extension", [".pt", ".snapshot"])
def test_a_resumed_run_goes_on_where_it_was(workspace: Path, extension: str) -> None:
    add_to_config(workspace, f"\nworkspace:\n  ckpts_extension: {extension}\n")
    with sucrose.Scenario(workspace, "base/case1") as ssc:
        model = model_of(4)
        for _ in ssc.epoch_range(2):
            ssc.step(10)
            ssc.save_state_dict(model=model, notes={"a": [1, "b"]})
    model = model_of(0)
    ssc = sucrose.scenario(workspace, "base/case1")
    left = ssc.load_state_dict(model=model, loader_kwds={"weights_only": True})
    assert weight(model) == 4
    assert left == {"notes": {"a": [1, "b"]}}
    assert (ssc.num_steps, ssc.num_stes, sucrose.get_current_step()) == (20, 20, 20)
    assert (ssc.epoch, sucrose.find_last_epoch()) == (2, 2)
    assert list(ssc.epoch_range(3)) == [3, 4, 5]
    assert ssc.epoch_range(3) == range(3, 6)
    assert len(ssc.epoch_range(until=10)) == 8
    assert not ssc.epoch_range(until=2)
    ssc.close()


def test_files_of_torch_save_resume(workspace: Path) -> None:
    folder = workspace / "ckpts/base/case1"
    folder.mkdir(parents=True)
    torch.save({"model": model_of(6).state_dict(), "step": 77, "more": 1}, folder / "base_case1_e9.pt")
    (folder / "base_case1_e500.pt.tmp").write_bytes(b"half a file")
    ssc = sucrose.scenario(workspace, "base/case1")
    model = model_of(0)
    assert ssc.load_state_dict(model=model) == {"more": 1}
    assert (weight(model), ssc.num_steps, list(ssc.epoch_range(1))) == (6, 77, [10])


def test_without_a_checkpoint_nothing_is_loaded_and_a_warning_says_so(
    workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = model_of(3)
    ssc = sucrose.scenario(workspace, "base/case1")
    with caplog.at_level(logging.WARNING):
        assert ssc.load_state_dict(model=model, loader_kwds={"weights_only": True}) == {}
    assert "no checkpoint" in caplog.text
    assert weight(model) == 3
    assert list(ssc.epoch_range(2)) == [1, 2]


def test_every_object_is_checked_before_the_first_is_loaded(workspace: Path) -> None:
    with sucrose.Scenario(workspace, "base/case1") as ssc:
        ssc.save_state_dict(first=model_of(5), second=torch.nn.Linear(7, 7))
    ssc = sucrose.scenario(workspace, "base/case1")
    first = model_of(0)
    with pytest.raises(StateMismatchError, match="'second'") as caught:
        ssc.load_state_dict(first=first, second=torch.nn.Linear(7, 8))
    assert caught.value.key == "second"
    with pytest.raises(StateMismatchError, match="'third'"):
        ssc.load_state_dict(first=first, third=torch.nn.Linear(1, 1))
    with pytest.raises(TypeError, match="load_state_dict"):
        ssc.load_state_dict(first=first, second=3)
    assert weight(first) == 0
    assert (ssc.epoch, ssc.num_steps) == (1, 0)


def test_a_failed_save_counts_no_epoch(workspace: Path) -> None:
    ssc = sucrose.scenario(workspace, "base/case1")

    class Unsavable:
        def state_dict(self) -> dict[str, object]:
            return {"lock": threading.Lock()}

        def load_state_dict(self, state: object) -> None: ...

    with pytest.raises(TypeError):
        ssc.save_state_dict(model=Unsavable())
    assert (ssc.epoch, files(workspace)) == (0, [])
    ssc.save_state_dict(model=model_of(1))
    assert files(workspace) == ["base_case1_e1.pt"]


@pytest.mark.parametrize("interval", [0, -1, True, 1.5])
def test_an_interval_is_a_whole_number_from_one(workspace: Path, interval: object) -> None:
    ssc = sucrose.scenario(workspace, "base/case1")
    with pytest.raises(ValueError, match="interval"):
        ssc.save_state_dict(interval, model=model_of(1))  # type: ignore[arg-type]
    assert ssc.epoch == 0


@pytest.mark.parametrize("name", ["step", "sucrose"])
def test_names_that_checkpoints_need_are_refused_before_anything_changes(workspace: Path, name: str) -> None:
    ssc = sucrose.scenario(workspace, "base/case1")
    with pytest.raises(ValueError, match=name):
        ssc.save_state_dict(1, **{name: model_of(1)})
    assert (ssc.epoch, files(workspace)) == (0, [])


def test_the_number_of_steps_is_set_by_whole_numbers_only(workspace: Path) -> None:
    ssc = sucrose.scenario(workspace, "base/case1")
    ssc.num_steps = 5
    sucrose.step()
    sucrose.step(3)
    assert ssc.num_steps == 9
    for wrong in (1.0, True, "1", None):
        with pytest.raises(TypeError):
            ssc.num_steps = wrong  # type: ignore[assignment]
    with pytest.raises(ValueError, match="-1"):
        ssc.num_steps = -1
    assert ssc.num_steps == 9


def test_each_thread_has_a_current_scenario_of_its_own(workspace: Path) -> None:
    with sucrose.Scenario(workspace, "base/case1") as ssc:
        assert sucrose.get_current_scenario() is ssc
        errors = []

        def ask() -> None:
            try:
                sucrose.get_current_scenario()
            except RuntimeError as error:
                errors.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        assert "start a scenario first" in errors[0]
        with sucrose.Scenario(workspace, "base") as inner:
            assert sucrose.auto_get_scenario() is inner
            assert sucrose.auto_get_scenario(ssc) is ssc
        assert sucrose.get_current_scenario() is ssc


def test_a_scenario_that_is_begun_again_ends_the_earlier_object(workspace: Path) -> None:
    earlier = sucrose.scenario(workspace, "base/case1")
    earlier.save_state_dict(10, model=model_of(1))
    later = sucrose.scenario(workspace, "base/case1")
    assert files(workspace) == ["base_case1_e1.pt"]
    assert later.epoch == 1
    with pytest.raises(RuntimeError, match="closed"):
        earlier.save_state_dict(model=model_of(2))


def test_going_back_to_an_earlier_epoch_sets_the_later_ones_aside(
    workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sucrose.Scenario(workspace, "base/case1") as ssc:
        for epoch in ssc.epoch_range(4):
            ssc.save_state_dict(model=model_of(epoch))
    model = model_of(0)
    with sucrose.Scenario(workspace, "base/case1") as ssc:
        ssc.load_state_dict(2, model=model)
        assert files(workspace)[-1] == "base_case1_e4.pt"  # looking changes nothing
        assert list(ssc.epoch_range(1)) == [3]
        ssc.save_state_dict(model=model_of(30))
    assert [name for name in files(workspace) if name.endswith(".pt")] == [f"base_case1_e{n}.pt" for n in (1, 2, 3)]
    assert "base_case1_e4.pt" in caplog.text
    ssc = sucrose.scenario(workspace, "base/case1")
    ssc.load_state_dict(model=model)
    assert (weight(model), ssc.epoch) == (30, 3)


def test_a_changed_configuration_is_told_field_by_field(workspace: Path, caplog: pytest.LogCaptureFixture) -> None:
    with sucrose.Scenario(workspace, "base/case1") as ssc:
        ssc.save_state_dict(model=model_of(1))
    model = model_of(0)
    with caplog.at_level(logging.WARNING):
        sucrose.scenario(workspace, "base/case1", ["optim.lr=0.5"]).load_state_dict(model=model)
    assert "optim.lr" in caplog.text
    assert "0.1" in caplog.text
    assert "0.5" in caplog.text
    assert "model.input_dim" not in caplog.messages[-1]
    sucrose.get_current_scenario().close()
    caplog.clear()
    add_to_config(workspace, "\nworkspace: {on_config_change: ignore}\n")
    sucrose.scenario(workspace, "base/case1", ["optim.lr=0.5"]).load_state_dict(model=model)
    assert "0.5" not in caplog.text
    config = workspace / "config.yaml"
    config.write_text(config.read_text().replace("ignore", "refuse"))
    model = model_of(0)
    ssc = sucrose.scenario(workspace, "base/case1", ["optim.lr=0.5"])
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        ssc.load_state_dict(model=model)
    assert (weight(model), ssc.epoch) == (0, 1)


def test_random_numbers_go_on_where_the_checkpoint_was_whatever_was_drawn_before_the_loop(workspace: Path) -> None:
    with sucrose.Scenario(workspace, "base/case1") as ssc:
        torch.manual_seed(7)
        ssc.save_state_dict(model=model_of(1))
        expected = torch.rand(3)
    with sucrose.Scenario(workspace, "base/case1") as ssc:
        ssc.load_state_dict(model=model_of(0))
        torch.rand(10)
        for _ in ssc.epoch_range(1):
            assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(1)
    with sucrose.Scenario(workspace, "base/case1") as ssc:
        ssc.load_state_dict(model=model_of(0), load_random=False)
        state = torch.get_rng_state()
        assert list(ssc.epoch_range(1)) == [2]
        assert torch.equal(torch.get_rng_state(), state)


def test_retention_keeps_the_last_the_best_and_every_tenth(workspace: Path) -> None:
    add_to_config(workspace, "\nworkspace:\n  keep: {last: 2, every: 10, best: {metric: loss, mode: min, k: 1}}\n")
    with sucrose.Scenario(workspace, "base/case1") as ssc:
        for epoch in ssc.epoch_range(13):
            ssc.log({"loss": abs(epoch - 4.0)})
            ssc.save_state_dict(model=model_of(epoch))
    assert files(workspace) == sorted(f"base_case1_e{n}.pt" for n in (4, 10, 12, 13))
    model = model_of(0)
    sucrose.scenario(workspace, "base/case1").load_state_dict("best", model=model)
    assert weight(model) == 4


def test_fields_that_nothing_has_used_are_named_at_the_end(workspace: Path, caplog: pytest.LogCaptureFixture) -> None:
    with sucrose.Scenario(workspace, "base/case1") as ssc:
        assert ssc["model.input_dim"] == 3
        ssc.save_state_dict(model=model_of(1))
    assert "optim.lr" in caplog.text
    assert "model.output_dim" in caplog.text
    assert "model.input_dim" not in caplog.text


def test_the_command_line_chooses_the_scenario(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="sucrose run"):
        sucrose.scenario(workspace)
    monkeypatch.setenv("SUCROSE_SCENARIO", "base/case1")
    monkeypatch.setenv("SUCROSE_OVERRIDES", "optim.lr=3")
    ssc = sucrose.scenario(workspace, "base", overrides=["optim.lr=2"])
    assert (ssc.name, ssc["optim.lr"]) == ("base/case1", 3)


def test_objects_that_are_tracked_need_not_be_named_again(workspace: Path) -> None:
    with sucrose.Scenario(workspace, "base/case1") as ssc:
        model, optim = model_of(2), torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
        assert ssc.track(model=model) is model
        assert ssc.track(optim=optim, ema=torch.nn.Linear(1, 1))[0] is optim
        ssc.save_state_dict()
    model = model_of(0)
    ssc = sucrose.scenario(workspace, "base/case1")
    assert ssc.load_state_dict() == {}
    ssc.track(model=model)  # also after loading
    assert weight(model) == 2


def test_a_scenario_that_cannot_be_started_leaves_nothing_for_the_end_of_the_program(workspace: Path) -> None:
    add_to_config(workspace, "\nbroken: {a: '${nowhere}'}\n")
    with pytest.raises(ConfigError, match="nowhere"):
        sucrose.scenario(workspace, "broken")
    opened._end_logs()


def test_folders_of_a_workspace_may_lie_elsewhere(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    add_to_config(workspace, f"\nworkspace: {{ckpts_folder: ~/ckpts, logs_folder: {tmp_path / 'elsewhere'}}}\n")
    with sucrose.scenario(workspace, "base") as ssc:
        ssc.log({"loss": 1.0}, 1)
        ssc.save_state_dict(x=1)
    assert (tmp_path / "home" / "ckpts" / "base" / "base_e1.pt").is_file()
    assert list((tmp_path / "elsewhere" / "base").glob("events*"))


def test_a_workspace_says_what_is_wrong_with_its_settings(workspace: Path) -> None:
    add_to_config(workspace, "\nworkspace: {ckpt_folder: x}\n")
    with pytest.raises(ConfigError, match=r"'ckpt_folder'; did you mean 'ckpts_folder'"):
        sucrose.scenario(workspace, "base")


def test_an_epoch_among_the_best_has_a_file_whatever_the_interval(workspace: Path) -> None:
    add_to_config(workspace, "\nworkspace: {keep: {last: 1, best: {metric: accuracy, mode: max, k: 1}}}\n")
    with sucrose.Scenario(workspace, "base/case1") as ssc:
        for accuracy in (0.1, 0.9, 0.3, None, 0.5, 0.6, 0.2):
            if accuracy is not None:  # not measured after every epoch: an old value is no new one
                ssc.log({"accuracy": accuracy})
            ssc.save_state_dict(3, model=model_of(accuracy or 0))
    assert files(workspace) == ["base_case1_e2.pt", "base_case1_e7.pt"]
    model = model_of(0)
    sucrose.scenario(workspace, "base/case1").load_state_dict("best", model=model)
    assert weight(model) == pytest.approx(0.9)


def test_what_cannot_be_tracked_or_loaded_is_told_at_once(workspace: Path) -> None:
    ssc = sucrose.scenario(workspace, "base/case1")
    with pytest.raises(TypeError, match="notes=list"):
        ssc.track(notes=[1, 2])
    for wrong in (model_of(1), "lastest", 1.5, True):
        with pytest.raises(TypeError, match="model=model"):
            ssc.load_state_dict(wrong)  # type: ignore[arg-type]


def test_a_scenario_without_a_domain_of_its_own_has_its_parents_fields(
    workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert sucrose.scenario(workspace, "base/case1/lr3")["optim.lr"] == 0.1
    assert "did you mean" not in caplog.text
    assert sucrose.scenario(workspace, "base/cas1")["optim.lr"] == 0.1
    assert "did you mean 'base/case1'" in caplog.text
