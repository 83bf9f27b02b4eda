"""What a run makes, and its removal: by its own ids, whatever happens."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time


def warn(text):
    print("bench: " + text, file=sys.stderr, flush=True)


def heed_signals():
    """The first signal ends the run in order, later ones are too late."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(number, _frame):
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in numbers:
        signal.signal(number, end)


PATIENCE = 10  # seconds, with a process that was told to end


def end_group(process):
    """Ends a process and all that it started. It leads a group of its own."""
    if process.poll() is not None:
        return  # its number may be another's by now
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
            return


def run(arguments, timeout=900, **options):
    """Standard output of a command that must succeed."""
    process = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True, **options)
    try:
        output, errors = process.communicate(timeout=timeout)
    except BaseException:
        end_group(process)
        raise
    if process.returncode:
        raise RuntimeError("%s: exit code %d: %s" % (
            " ".join(arguments), process.returncode,
            (errors or output).strip()[-500:]))
    return output


def wait_until(condition, what, process=None, seconds=60):
    """Polls; fails if the process that should bring it about has ended."""
    end = time.monotonic() + seconds
    while not condition():
        if process and process.poll() is not None:
            with open(process.log) as log:
                raise RuntimeError("%s: exit code %d: %s" % (
                    what, process.returncode, log.read()[-500:].strip()))
        if time.monotonic() > end:
            raise RuntimeError("%s: not within %d s" % (what, seconds))
        time.sleep(0.005)


class Scope(contextlib.ExitStack):
    """Undoes in reverse order; one failure does not keep it from the rest."""

    def undo(self, what, function, *arguments):
        def attempt():
            try:
                function(*arguments)
            except Exception as error:
                warn("cleaning up, %s: %s" % (what, error))

        self.callback(attempt)

    def directory(self, parent, name="pcachefs-bench."):
        path = tempfile.mkdtemp(prefix=name, dir=parent)
        self.undo("removing " + path, remove_tree, path)
        return path

    def file(self, path):
        self.undo("removing " + path, remove_file, path)
        return path

    def process(self, arguments, log, **options):
        """Starts a server whose output goes to a file."""
        with open(log, "ab") as output:
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True, **options)
        process.log = log
        self.undo("ending %s" % arguments[0], end_group, process)
        return process

    def mount(self, path):
        """Something will be mounted there by somebody else."""
        self.undo("unmounting " + path, unmount, path)
        return path

    def loop(self, path):
        """A loop device with direct I/O; requests larger than a block."""
        device = run(["losetup", "--find", "--show", "--direct-io=on",
                      "--sector-size=4096", path]).strip()
        self.undo("detaching " + device, run, ["losetup", "--detach", device])
        return device


def remove_tree(path):
    # Never into what is still mounted.
    run(["rm", "-rf", "--one-file-system", path])


def remove_directory(path):
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(path)


def remove_file(path):
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def is_mounted(path):
    with open("/proc/self/mountinfo") as mounts:
        return any(line.split()[4] == path for line in mounts)


def unmount(path):
    if not is_mounted(path):
        return
    try:
        run(["umount", path], timeout=30)
    except (RuntimeError, subprocess.TimeoutExpired):
        run(["umount", "--lazy", path], timeout=30)
