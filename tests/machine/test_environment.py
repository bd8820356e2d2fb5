"""The environment record: complete, explained, free of private names, and right on scripted system files."""

from __future__ import annotations

import getpass
import platform
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.machine.facts import MEASURED, STARRED, capture, installed_version, ranges
from harness.machine.files import SystemFiles, git_state, tool_version
from impls.store.source import source_sha256

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def record():
    return capture(environ={"OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": ""})


def test_what_is_none_has_a_reason_and_nothing_else_has(record):
    assert {name for name, value in record.facts.items() if value is None} == set(record.reasons)
    assert all(record.reasons.values())


def test_the_starred_facts_are_recorded(record):
    assert set(record.starred) >= set(STARRED)
    assert set(record.starred) <= set(record.facts)
    assert {"cpu_model", "gpu_driver", "python", "version_torch", "version_jittor"} <= set(record.starred)


def test_facts_agree_with_their_sources(record):
    assert record.facts["python"] == platform.python_version()
    assert record.facts["kernel"] == platform.release()
    assert record.facts["version_numpy"] == installed_version("numpy")
    assert record.facts["env_OMP_NUM_THREADS"] == "3"
    assert record.facts["python_debug_build"] is hasattr(sys, "gettotalrefcount")
    assert record.facts["memory_total_bytes"] > record.facts["memory_available_bytes"] > 0
    assert record.t_ns > 0


def test_no_private_name_is_published(record):
    text = record.model_dump_json()
    private = [socket.gethostname(), str(Path.home()), str(ROOT)]
    if getpass.getuser() not in ("root", "user"):
        private.append(getpass.getuser())
    assert [name for name in private if len(name) > 2 and name in text] == []


def test_no_framework_is_imported():
    code = ("import sys; from harness.machine.facts import capture; capture(); "
            "sys.exit(bool({'torch', 'jittor'} & sys.modules.keys()))")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_another_interpreter_tells_its_versions(tmp_path):
    found = capture(interpreters={"jittor": sys.executable})
    assert found.facts["interpreter_jittor_python"] == platform.python_version()
    assert found.facts["interpreter_jittor_version_numpy"] == installed_version("numpy")
    assert {"interpreter_jittor_python", "interpreter_jittor_version_jittor"} <= set(found.starred)
    assert str(tmp_path) not in found.model_dump_json() and sys.executable not in found.model_dump_json()


@pytest.mark.parametrize(("script", "reason"), [
    ("echo '{\"python\": \"3.12.1\"}'", "not installed there"), ("echo no JSON", "JSONDecodeError"),
    ("echo '[1]'", "not installed there"), ("exit 3", "CalledProcessError")])
def test_an_interpreter_that_does_not_tell_leaves_a_reason(tmp_path, script, reason):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o700)
    found = capture(interpreters={"jittor": str(python)})
    assert found.facts["interpreter_jittor_version_torch"] is None
    assert reason in found.reasons["interpreter_jittor_version_torch"]
    assert "interpreter_jittor_version_torch" in found.starred


def test_the_threads_and_the_switches_must_match(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1,1")
    found = capture(environ={"NVIDIA_TF32_OVERRIDE": "1"})
    assert (found.facts["threads"], found.facts["env_NVIDIA_TF32_OVERRIDE"]) == (1, "1")
    assert capture(threads=7).facts["threads"] == 7
    assert {"threads", "env_NVIDIA_TF32_OVERRIDE", "env_OMP_WAIT_POLICY", "source_sha256"} <= set(found.starred)


def test_the_code_is_told_by_its_content(tmp_path):
    for name in ("harness/run.py", "impls/jittor/fast.cc", "docs/method.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one")
    before = source_sha256(tmp_path, MEASURED)
    (tmp_path / "docs/method.md").write_text("two")
    assert source_sha256(tmp_path, MEASURED) == before == capture(root=tmp_path).facts["source_sha256"]
    (tmp_path / "impls/jittor/fast.cc").write_text("two")
    changed = source_sha256(tmp_path, MEASURED)
    (tmp_path / "harness/run.py").rename(tmp_path / "harness/walk.py")
    assert len({before, changed, source_sha256(tmp_path, MEASURED)}) == 3


def test_an_unknown_package_has_no_version():
    assert installed_version("surely-no-such-package") is None


@pytest.mark.parametrize(("numbers", "text"), [([0, 1, 2, 5], "0-2,5"), ([3], "3"), ([4, 0, 2], "0,2,4")])
def test_ranges(numbers, text):
    assert ranges(numbers) == text


def system(root: Path, **files: str) -> SystemFiles:
    for path, text in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return SystemFiles(root)


def test_an_empty_system_answers_none(tmp_path):
    files = SystemFiles(tmp_path)
    answers = [files.cpu_model(), files.governor([0]), files.max_frequency_mhz([0]), files.turbo(),
               files.cpu_limit_cores(), files.memory_limit_bytes(), files.container({}), files.virtual_machine(),
               files.distribution()]
    assert answers == [None] * 9


def test_cgroup_2_limits_are_the_least_along_the_path(tmp_path):
    files = system(tmp_path, **{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000",
                                "sys/fs/cgroup/a/cpu.max": "150000 100000", "sys/fs/cgroup/a/b/memory.max": "max",
                                "sys/fs/cgroup/a/memory.max": "4096", "sys/fs/cgroup/memory.max": "8192"})
    assert files.cpu_limit_cores() == 1.5
    assert files.memory_limit_bytes() == 4096


def test_cgroup_1_limits(tmp_path):
    files = system(tmp_path, **{"proc/self/cgroup": "4:memory:/m\n2:cpu,cpuacct:/x\n",
                                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "-1",
                                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000",
                                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000",
                                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
                                "sys/fs/cgroup/memory/m/memory.limit_in_bytes": "9223372036854771712"})
    assert files.cpu_limit_cores() == 2.5
    assert files.memory_limit_bytes() is None


def test_frequency_facts_of_the_usable_processors(tmp_path):
    cpu = "sys/devices/system/cpu"
    files = system(tmp_path, **{f"{cpu}/cpu0/cpufreq/scaling_governor": "powersave\n",
                                f"{cpu}/cpu1/cpufreq/scaling_governor": "performance\n",
                                f"{cpu}/cpu1/cpufreq/scaling_max_freq": "3700000\n",
                                f"{cpu}/intel_pstate/no_turbo": "1\n"})
    assert files.governor([1]) == "performance"
    assert files.governor([0, 1]) == "performance+powersave"
    assert files.max_frequency_mhz([0, 1]) == 3700
    assert files.turbo() is False


@pytest.mark.parametrize(("files", "environ", "kind"), [
    ({".dockerenv": ""}, {}, "docker"),
    ({"run/.containerenv": ""}, {}, "podman"),
    ({"proc/1/cgroup": "0::/kubepods/pod1\n"}, {}, "kubernetes"),
    ({"proc/1/cgroup": "0::/lxc/x\n"}, {}, "lxc"),
    ({".dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "x"}, "kubernetes"),
    ({}, {"APPTAINER_NAME": "x"}, "apptainer"),
    ({"proc/1/cgroup": "0::/init.scope\n"}, {}, None),
])
def test_containers(tmp_path, files, environ, kind):
    assert system(tmp_path, **files).container(environ) == kind


def test_processor_and_distribution(tmp_path):
    files = system(tmp_path, **{"proc/cpuinfo": "model name\t: Some CPU @ 3 GHz\nflags\t: fpu hypervisor\n",
                                "etc/os-release": 'NAME=x\nPRETTY_NAME="Some Linux 12"\n'})
    assert files.cpu_model() == "Some CPU @ 3 GHz"
    assert files.virtual_machine() is True
    assert files.distribution() == "Some Linux 12"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for name, value in {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "n", "GIT_AUTHOR_EMAIL": "e",
                        "GIT_COMMITTER_NAME": "n", "GIT_COMMITTER_EMAIL": "e"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "file").write_text("one")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    return tmp_path


def test_a_commit_and_its_changes(checkout):
    commit, dirty, reason = git_state(checkout)
    assert re.fullmatch(r"[0-9a-f]{40}", commit)
    assert (dirty, reason) == (False, "")
    (checkout / "file").write_text("two")
    assert git_state(checkout) == (commit, True, "")


def test_a_hooks_git_dir_does_not_redirect_the_question(checkout, monkeypatch):
    expected = git_state(checkout)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert git_state(checkout) == expected


def test_without_a_checkout_the_reason_is_given_even_inside_another_one(checkout):
    (checkout / "inner").mkdir()
    commit, dirty, reason = git_state(checkout / "inner")
    assert (commit, dirty) == (None, None)
    assert "checkout" in reason


def test_a_checkout_that_git_refuses(tmp_path):
    (tmp_path / ".git").mkdir()
    commit, dirty, reason = git_state(tmp_path)
    assert (commit, dirty) == (None, None)
    assert reason


def test_without_git_the_reason_is_given(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(ROOT) == (None, None, "git is not installed")
    assert tool_version("g++", "g++") is None


def test_a_tool_that_fails_has_no_version(tmp_path, monkeypatch):
    tool = tmp_path / "broken"
    tool.write_text("#!/bin/sh\nexit 3\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert tool_version("broken", "1") is None
    assert tool_version("env", "env") is not None
