"""What must be true before the first `import jittor`, and the one slow compilation done where it is seen.

Jittor compiles itself on first use and reads its build settings from environment variables at import. Changing one of
them later rebuilds everything (minutes), so all of them are set here and nowhere else.
"""

# ruff: noqa: SIM112 - these are Jittor's names, in lower case

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from impls.command import process
from impls.command.parser import Parser
from impls.devices import TF32_SWITCH, require_tf32_switch, usable_cpus
from impls.errors import EXIT_OK, EXIT_USAGE, UnavailableError, cause
from impls.jittor.setup import cuda_toolkit, examination, kernel_compiler, onednn_wheels, precompiled, requirements
from impls.jittor.setup.home import jittor_home
from impls.ranks import for_child, once_on_host, own_ranks
from impls.store.files import written
from messages import VARIABLE, tell

Device = Literal["cpu", "cuda"]
PROG = "python -m impls.jittor.runtime"
# By which Jittor itself tells whether it is a rank.
MPI_SIZE = "OMPI_COMM_WORLD_SIZE"
READY = "JITTOR-IS-READY"
PREWARM_TRIES = 3
PREWARM_SILENCE_S = 1800
ECHO_EVERY_S = 5
LAST_LINES = 40

# A doctor asks this module.
ailments = examination.ailments
_prepared: tuple[Device, bool] | None = None


class CompilationError(UnavailableError):
    """Jittor's core does not get compiled; the message names the file with the compiler's output."""


def prepare(device: Device = "cpu", tf32: bool = False) -> None:
    """Set up the environment for `import jittor`; call before the first one. Idempotent and offline.

    Args:
        device: "cpu" builds Jittor without CUDA, even where a compiler for it exists; "cuda" demands a working GPU.
        tf32: on CUDA, whether products and convolutions of float32 may be computed in TF32. Left to itself, cuDNN
            takes whatever it finds fastest.

    Raises:
        UnavailableError: Jittor cannot run here; the message names the way out.
    """
    global _prepared  # noqa: PLW0603 - one interpreter holds one Jittor
    if "jittor" in sys.modules:
        if _prepared == (device, tf32):
            return
        if not _prepared:
            raise UnavailableError(tell("Jittor was already imported before impls.jittor.runtime.prepare() in this "
                                        "process: start a new one for {device}", device=repr(device)))
        raise UnavailableError(
            tell("Jittor was already imported for device {old} with TF32 in this process: start a new one for {device}",
                 old=repr(_prepared[0]), device=repr(device)) if _prepared[1] else
            tell("Jittor was already imported for device {old} in this process: start a new one for {device}",
                 old=repr(_prepared[0]), device=repr(device)))
    requirements.check_python()
    compiler = requirements.compiler()
    requirements.headers()
    settings = {
        "log_silent": "1",
        "gdb_path": "",  # a crash would attach gdb and print pages
        # Else the git branch around the virtual environment: a rebuild per branch. Not the name of everybody's cache:
        # with the flag below each of two programs in one environment would rebuild the other's.
        "cache_name": "default" if device == "cuda" else "precompiled",
        "python_config_path": requirements.python_config(),
        # Kernels at a time; by itself one for every 3 GiB of memory, at most 16. One alone would show no progress.
        "use_parallel_op_compiler": str(max(2, usable_cpus())),
    }
    if not _under_mpi():
        settings |= {"use_mpi": "0", "use_nccl": "0"}
    else:
        requirements.check_mpi()
        # Inherited from a process that is no rank it would end the import: Jittor asks MPI for the rank all the same.
        os.environ.pop("use_mpi", None)
    home = jittor_home()
    if device == "cuda":
        settings["use_mkl"] = "0"  # operators for the CPU
    elif os.environ.get("use_mkl", "1") == "1":
        onednn_wheels.link(home)
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    if device == "cuda":
        os.environ["nvcc_path"] = requirements.nvcc()
        # Both would be downloaded at import, and nothing here uses them.
        os.environ.setdefault("use_cutt", "0")
        os.environ.setdefault("use_cutlass", "0")
        flag, flags = cuda_toolkit.compiler_flag(), os.environ.get("nvcc_flags", "")
        # A process that started this one may have added it.
        if flag not in flags.split():
            os.environ["nvcc_flags"] = f"{flags} {flag}".strip()
        require_tf32_switch(tf32)
        if not tf32:
            os.environ[TF32_SWITCH] = "0"
    else:
        os.environ["nvcc_path"] = ""  # a CUDA compiler without a driver, or a too new one, breaks the import
        _begin_with_precompiled_headers(home, compiler)
    os.environ["FIX_TORCH_ERROR"] = "0"  # Jittor would import PyTorch into its own process
    _name_interpreter_by_version()
    _prepared = (device, tf32)


def _begin_with_precompiled_headers(home: Path, compiler: str) -> None:
    flags = os.environ.get("cc_flags", "")
    # A process that started this one may have added it.
    if "-include" not in flags and (flag := precompiled.flag(home, compiler)):
        os.environ["cc_flags"] = f"{flags} {flag}".strip()


def _under_mpi() -> bool:
    """Whether this process is a rank of MPI, told as Jittor itself looks for it."""
    ranks = own_ranks()
    if ranks.launcher == "srun" and ranks.size > 1:
        if "PMIX_RANK" not in os.environ:
            raise UnavailableError(tell("srun started ranks that cannot speak MPI: start them by srun --mpi=pmix"))
        for name in ("rank", "size", "local_rank", "local_size"):
            os.environ.setdefault(f"OMPI_COMM_WORLD_{name.upper()}", str(getattr(ranks, name)))
    return MPI_SIZE in os.environ


def prewarm(device: Device = "cpu", echo: Callable[[str], None] = print, log: Path | None = None) -> None:
    """Compile Jittor's core in a process of its own until an import works; about 3 s when nothing is left to do.

    The first import may end its process with exit status 0 ("please rerun your command"): hence a sentinel and tries.
    Of several ranks on a host the first one to come does it, and the others wait for that.

    Args:
        device: as for `prepare`.
        echo: receives progress, one line each, at least every few seconds.
        log: file for the compiler's output; by default a temporary one, whose end goes to stderr on failure.

    Raises:
        UnavailableError: Jittor cannot be made ready; the message ends with the compiler's last words.
    """
    ranks = own_ranks()
    if ranks.local_size > 1:
        with once_on_host(ranks, jittor_home() / ".cache" / "jittor" / ".ranks") as first:
            if first:
                _prewarm_into(device, echo, log)
        return
    _prewarm_into(device, echo, log)


def _prewarm_into(device: Device, echo: Callable[[str], None], log: Path | None) -> None:
    if log is not None:
        with written(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            log.open("ab").close()
        _prewarm(device, echo, log)
        return
    with tempfile.TemporaryDirectory(prefix="jittor-prewarm-") as folder:
        log = Path(folder) / "log"
        try:
            _prewarm(device, echo, log)
        except CompilationError as error:
            # What a person, or a worker's log, needs of a file that goes now.
            sys.stderr.write("\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:]) + "\n")
            raise UnavailableError(str(error).replace(
                str(log), "python -m impls.jittor.runtime --prewarm --log FILE")) from error  # English


def _prewarm(device: Device, echo: Callable[[str], None], log: Path) -> None:
    echo(tell("Jittor: checking its compile cache (the first time it compiles itself: 2-5 minutes)"))
    if device == "cpu" and "-include" not in os.environ.get("cc_flags", ""):
        # What the child says is read where it fails.
        precompiled.flag(jittor_home(), requirements.compiler(), echo)
    for _ in range(PREWARM_TRIES):
        output = _import_in_child(device, echo, log)
        if READY in output:
            return
        # The child's own refusal is final and already one clear line; so is what it says of a full disk.
        refusal = re.search(rf"^(?:UnavailableError|{re.escape(PROG)}: error): (.*)$", output, re.MULTILINE)
        if refusal:
            raise UnavailableError(refusal[1])
        why = cause(output.splitlines())
        if why is not None:
            raise CompilationError(tell("Jittor cannot be compiled here: {why} (all output: {log})", why=why, log=log))
        echo(tell("Jittor: it asked to be started again"))
    last = [line.strip() for line in output.splitlines() if line.strip()][-1:] or [tell("no output")]
    raise CompilationError(tell("Jittor does not import after {count} tries: {last} (all output: {log})",
                                count=PREWARM_TRIES, last=last[0][:300], log=log))


def compiled_files() -> int:
    """Shared objects in Jittor's compile cache: a start that compiled nothing adds none (other processes may)."""
    return sum(1 for _ in (jittor_home() / ".cache" / "jittor").glob("jt*/**/*.so"))


def compiling(log: str) -> str | None:
    """How far the kernels of a step are compiled, from the end of a process's output; None when they are not at it.

    Jittor compiles all that a step lacks at once, in parallel, and rewrites one line: "Compiling Operators(i/n) ...".
    """
    lines = [line for line in re.split(r"[\r\n]+", log) if line.strip()]
    found = re.match(r"Compiling Operators\((\d+)/(\d+)\) used: *\S+ eta: *([\d.e+]+)s", lines[-1]) if lines else None
    if found is None or found[1] == found[2]:
        return None
    return tell("{done} of {all} kernels compiled, about {left} left", done=found[1], all=found[2],
                left=_duration(float(found[3])))


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"  # English


def _name_interpreter_by_version() -> None:
    """Call the interpreter python3.x in this process, whichever of its names started it.

    Jittor compiles kernels through it and keeps its path in each kernel's cache key: `python` and `python3` of one
    environment would recompile each other's kernels, and two such processes at once truncate files under one another.
    """
    executable = Path(sys.executable)
    versioned = executable.with_name(f"python{sys.version_info.major}.{sys.version_info.minor}")
    if versioned.exists() and versioned.samefile(executable):
        sys.executable = str(versioned)


def _import_in_child(device: Device, echo: Callable[[str], None], log: Path) -> str:
    """One try to import Jittor in a new process; everything it printed."""
    # What it says is read here, and in the reader's language where it is shown.
    environment = {**for_child(os.environ), "log_silent": "0", "PYTHONUNBUFFERED": "1", VARIABLE: "en"}
    if _under_mpi():
        # Compiled there too, though it is no rank.
        environment["use_mpi"] = "1"
    command = [sys.executable, "-m", "impls.jittor.runtime", "--import", "--device", device]
    root = Path(__file__).parents[2]
    started = spoke = time.monotonic()
    heard = 0
    with (
        log.open("wb") as sink,
        subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=environment, cwd=root) as child,
    ):
        try:
            while child.poll() is None:
                now, size = time.monotonic(), log.stat().st_size
                if size != heard:
                    heard, spoke = size, now
                if now - spoke > PREWARM_SILENCE_S:
                    raise CompilationError(
                        tell("Jittor's compiler is silent for {minutes} minutes (all output: {log})",
                             minutes=f"{(now - spoke) / 60:.0f}", log=log))
                try:
                    child.wait(timeout=ECHO_EVERY_S)
                except subprocess.TimeoutExpired:
                    echo(tell("Jittor: compiling, {seconds} s{progress}",
                              seconds=f"{time.monotonic() - started:.0f}", progress=_progress(log)))
        finally:
            if child.poll() is None:
                child.kill()
    return log.read_text(errors="replace")


def _progress(log: Path) -> str:
    """The compiler's newest "(i/n) used: ... eta: ..."; empty when it has not told yet."""
    found = re.findall(r"\((\d+)/(\d+)\) used: *\S+ eta: *([\d.]+)s", log.read_text(errors="replace"))
    if not found:
        return ""
    done, all_, left = found[-1]
    return tell(" ({done} of {all} files, about {left} left)", done=done, all=all_, left=_duration(float(left)))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: `python -m impls.jittor.runtime --prewarm`."""
    return process.run(PROG, _main, argv)


def _main(words: list[str]) -> int:
    parser = Parser(prog=PROG, description=tell("Make Jittor ready to import."))
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--prewarm", action="store_true", help=tell("compile Jittor's core until it imports"))
    action.add_argument("--import", action="store_true", dest="import_", help=tell("import Jittor once and say so"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", metavar="cpu|cuda",
                        help=tell("what it is compiled for (default: cpu)"))
    parser.add_argument("--log", type=Path, metavar="PATH", help=tell("where the compiler's output goes"))
    chosen = parser.parse_args(words)
    if chosen.prewarm:
        prewarm(chosen.device, log=chosen.log)
        print(tell("Jittor is ready"))
        return EXIT_OK
    try:
        _import(chosen.device)
    except UnavailableError as error:
        # For the parent, which reads it in the log.
        print(f"UnavailableError: {error}", file=sys.stderr)
        return EXIT_USAGE
    return EXIT_OK


def _import(device: Device) -> None:
    prepare(device)
    import jittor

    kernel_compiler.install()
    jittor.flags.use_cuda = int(device == "cuda")
    if jittor.flags.use_cuda:
        from impls.jittor import precision

        # Numbers, checked: an import proves nothing about the device.
        precision.measured()
    if jittor.ones(3).sum().item() == 3:
        print(READY, flush=True)


if __name__ == "__main__":
    sys.exit(main())
