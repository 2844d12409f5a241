import os
import subprocess
import sys

from feedback_store.sqlite.process_identity import identity


def test_a_living_process_keeps_its_identity():
    assert identity(os.getpid()) == identity(os.getpid()) is not None


def test_two_processes_differ_and_a_zombie_is_dead():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert identity(child.pid) not in (None, identity(os.getpid()))
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but not yet reaped
        assert identity(child.pid) is None
    finally:
        child.communicate()
    assert identity(child.pid) is None
