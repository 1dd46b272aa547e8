import sys
import types

import pytest

from worldjepa import doctor
from worldjepa.doctor import GOOD, NOTE, PROBLEM, Finding


def boom() -> Finding:
    raise RuntimeError("what now")


def test_only_a_problem_of_the_main_job_fails_and_its_fix_is_shown(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    fine = {"a": lambda: Finding(GOOD, "all well"), "b": lambda: Finding(NOTE, "absent", "get it"), "c": boom}
    assert doctor.main(fine) == 0
    text = capsys.readouterr().out
    assert "get it" in text and "could not be checked: RuntimeError: what now" in text
    assert doctor.main({**fine, "d": lambda: Finding(PROBLEM, "broken [x]", "mend [y]")}) == 1
    text = capsys.readouterr().out
    assert "broken [x]" in text and "mend [y]" in text and "mend d first" in text


def test_every_problem_comes_with_its_fix(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "REPOSITORY", tmp_path)
    monkeypatch.setattr(sys, "version_info", (3, 11, 0))
    monkeypatch.setitem(sys.modules, "envs", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: types.SimpleNamespace(free=1e8))
    broken = [
        doctor.check_python,
        doctor.check_torch,
        doctor.check_pusht,
        lambda: doctor.check_folder("runs", "run_dir"),
    ]
    for check in broken:
        finding = check()
        assert finding.status == PROBLEM and finding.fix, finding


def test_a_package_of_the_same_name_from_elsewhere_is_a_problem(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "REPOSITORY", tmp_path)
    finding = doctor.check_packages()
    assert finding.status == PROBLEM and "envs is " in finding.detail
    monkeypatch.undo()
    assert doctor.check_packages().status == GOOD


def test_optional_things_may_be_missing(monkeypatch):
    monkeypatch.setattr(doctor, "_is_installed", lambda name: False)
    for check in (doctor.check_mujoco, doctor.check_lerobot):
        assert check().status == NOTE


def test_the_hub_is_not_touched_when_switched_off(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(doctor.socket, "create_connection", lambda *a, **k: pytest.fail("asked the network"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    finding = doctor.check_hub()
    assert finding.status == NOTE and "HF_HUB_OFFLINE" in finding.fix


def test_the_hub_may_be_out_of_reach_or_silent(monkeypatch):
    from huggingface_hub import constants

    def refuse(*arguments, **settings):
        raise OSError("no route")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(doctor.socket, "create_connection", refuse)
    assert "no route" in doctor.check_hub().detail
    gate = doctor.threading.Event()
    assert doctor._within(0.01, gate.wait).startswith("no answer")
    gate.set()


def test_a_folder_that_cannot_be_written_is_a_problem(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    finding = doctor.check_folder("runs", "run_dir")
    assert finding.status in (GOOD, NOTE) and not (tmp_path / "runs").exists()

    def refuse(*, dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "NamedTemporaryFile", refuse)
    finding = doctor.check_folder("runs", "run_dir")
    assert finding.status == PROBLEM and "Permission denied" in finding.detail and finding.fix
